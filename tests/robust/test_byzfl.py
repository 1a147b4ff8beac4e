"""The strategies and the attacks beside ByzFL, which others have written."""

from typing import Any

import numpy as np
import pytest
from voters import drawn, rounds_of

from celeba_fl.attacks.updates import ATTACKS

N, F = 11, 3
KEYS = {"attackers_expected": F / N}
pytestmark = pytest.mark.slow

STRATEGIES = ("krum", "fedmedian", "fedtrimmedavg")


@pytest.fixture(scope="module")
def byzfl() -> Any:
    """The package, which takes seconds to import: not while tests are collected."""
    import byzfl

    return byzfl


def oracle(byzfl: Any, strategy: str) -> Any:
    """What ByzFL has for a strategy.

    Its Krum and Multi-Krum look at one neighbour more than their papers do, which have n - f - 2:
    theirs for f + 1 are the papers' for f, but that Multi-Krum then keeps one model less.
    """
    if strategy == "krum":
        return byzfl.Krum(F + 1)
    return byzfl.Median() if strategy == "fedmedian" else byzfl.TrMean(F)


def multi_krum(models: np.ndarray) -> np.ndarray:
    """The mean of the n - f models of ByzFL's Multi-Krum."""
    squares = np.square(models[:, None] - models).sum(axis=2)
    scores = np.sort(squares, axis=1)[:, 1 : N - F - 1].sum(axis=1)
    return np.asarray(models[np.argsort(scores)[: N - F]].mean(axis=0))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mixing", ["none", "nnm"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategies_and_nearest_neighbour_mixing(
    byzfl: Any, strategy: str, mixing: str, seed: int
) -> None:
    models = drawn(N, seed=seed)
    found = rounds_of(models, strategy=strategy, pre_aggregation=mixing, **KEYS)
    mixed = byzfl.NNM(F)(models) if mixing == "nnm" else models
    np.testing.assert_allclose(found, oracle(byzfl, strategy)(mixed), atol=1e-6)


def test_multikrum_keeps_all_but_the_attackers(byzfl: Any) -> None:
    models = drawn(N)
    found = rounds_of(models, strategy="multikrum", **KEYS)
    np.testing.assert_allclose(found, multi_krum(models), atol=1e-6)
    # What ByzFL's keeps for f + 1 is among it.
    kept = byzfl.MultiKrum(F + 1)(models) * (N - F - 1)
    (other,) = [i for i in range(N) if np.allclose(found * (N - F) - kept, models[i])]
    assert other < N - 2


@pytest.mark.parametrize("strategy", ["fedmedian", "fedavg"])
def test_bucketing(byzfl: Any, strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    models, orders = drawn(N), []
    generator = np.random.default_rng

    class Noting:
        def __init__(self, seed: int) -> None:
            self.drawn = generator(seed)

        def permutation(self, number: int) -> np.ndarray:
            orders.append(self.drawn.permutation(number))
            return orders[-1]

    with monkeypatch.context() as patched:
        patched.setattr(np.random, "default_rng", Noting)
        keys = {"pre_aggregation": "bucketing", "bucket_size": 3, "attackers_expected": 0.09}
        found = rounds_of(models, strategy=strategy, **keys)
    by_name = sorted(range(N), key=str)  # as the loop sorts replies
    monkeypatch.setattr(np.random, "permutation", lambda vectors: vectors[by_name][orders[0]])
    then = {"fedmedian": byzfl.Median(), "fedavg": byzfl.Average()}[strategy]
    np.testing.assert_allclose(found, then(byzfl.Bucketing(3)(models)), atol=1e-6)


def test_centred_clipping_over_rounds(byzfl: Any) -> None:
    models = drawn(N)
    clipping, expected = byzfl.CenteredClipping(L=3, tau=1.5), np.zeros(models.shape[1])
    for number in range(1, 4):
        # The clients return the same models, so their steps become shorter.
        expected = expected + clipping(models - expected)
        keys = {"strategy": "centred-clipping", "clipping_radius": 1.5}
        found = rounds_of(models, number=number, **keys)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("tau", [0.7, 2.0])
def test_attacks(byzfl: Any, tau: float) -> None:
    honest, own = drawn(N), np.zeros(9)
    oracles = {"alie": byzfl.ALittleIsEnough(tau), "ipm": byzfl.InnerProductManipulation(tau)}
    for name, attack in oracles.items():
        found = ATTACKS[name][0](own, honest, tau, 0)
        np.testing.assert_allclose(found, attack(honest), atol=1e-6)
    mimicked = ATTACKS["mimic"][0](own, honest, 1.0, 0)
    assert (mimicked == byzfl.Mimic(N - 1)(honest)).all() or (mimicked == honest[N - 2]).all()
