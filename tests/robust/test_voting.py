"""Robust strategies by hand: who votes, how many liars are stood, and what too few are told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import outcome, run
from voters import drawn, rounds_of

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.robust.voting import Defence, TrimmedMean
from celeba_fl.rounds.aggregation import RoundFailedError
from celeba_fl.strategy import check_strategy

ROBUST = ("krum", "multikrum", "bulyan", "fedmedian", "fedtrimmedavg", "centred-clipping")
MIXED = [{"strategy": "fedavg", "pre_aggregation": mixing} for mixing in ("nnm", "bucketing")]
EACH: list[dict[str, Any]] = [*({"strategy": name} for name in ROBUST), *MIXED]


@pytest.mark.parametrize("keys", EACH, ids=lambda keys: "-".join(keys.values()))
def test_two_liars_of_eleven_move_little(keys: dict[str, Any]) -> None:
    models = drawn(11)
    found = rounds_of(models, attackers_expected=0.18, **keys)
    honest = models[:-2].mean(axis=0)
    # The mean of all is 1.5 away in each number; buckets of two have at most the liars' half.
    assert np.abs(found - honest).max() < (1.7 if "bucketing" in keys.values() else 1.0)


@pytest.mark.parametrize("keys", EACH, ids=lambda keys: "-".join(keys.values()))
def test_a_client_has_one_vote_and_without_examples_none(keys: dict[str, Any]) -> None:
    models = drawn(11)
    keys = {"attackers_expected": 0.15, **keys}  # two of eleven, as of twelve
    told = {"examples": [1, 900, *range(1, 10)]}
    assert (rounds_of(models, **told, **keys) == rounds_of(models, **keys)).all()
    absent = np.concatenate([models, np.full((1, 9), 1e6)])
    found = rounds_of(absent, examples=[1] * 11 + [0], **keys)
    assert (found == rounds_of(models, **keys)).all()


@pytest.mark.parametrize("keys", EACH, ids=lambda keys: "-".join(keys.values()))
def test_the_order_of_replies_changes_no_bit(keys: dict[str, Any]) -> None:
    models = drawn(11)
    back = rounds_of(models, order=lambda replies: replies[::-1], attackers_expected=0.1, **keys)
    assert (back == rounds_of(models, attackers_expected=0.1, **keys)).all()


# Slow are those that keep nothing from one round to the next.
KEEPING = [
    pytest.param(keys, marks=pytest.mark.slow if keys["strategy"] in ROBUST[:-1] else ())
    for keys in EACH
]


@pytest.mark.parametrize("keys", KEEPING, ids=lambda keys: "-".join(keys.values()))
def test_a_run_that_was_interrupted_ends_alike(keys: dict[str, Any], tmp_path: Path) -> None:
    keys = {"num_server_rounds": 3, "attackers_expected": 0.1, **keys}
    whole = run(tmp_path / "whole", 7, **keys)
    begun = run(tmp_path / "begun", 7, **{**keys, "num_server_rounds": 1})
    assert run(tmp_path / "begun", 7, resume="latest", **keys) == begun
    assert outcome(begun) == outcome(whole)


@pytest.mark.parametrize("strategy", ROBUST)
def test_under_secure_aggregation_there_is_nobody_to_compare(strategy: str) -> None:
    with pytest.raises(InputError, match=f"strategy = '{strategy}': may need to see what each"):
        check_strategy(strategy, secure=True)


def test_bulyan_by_hand() -> None:
    models = drawn(11, seed=4)
    squares = np.square(models[:, None] - models).sum(axis=2)
    scores = np.sort(squares, axis=1)[:, 1 : 11 - 2 - 1].sum(axis=1)
    chosen = models[np.argsort(scores)[: 11 - 2 * 2]]
    apart = np.abs(chosen - np.median(chosen, axis=0))
    nearest = np.argsort(apart, axis=0)[: 11 - 4 * 2]
    expected = np.take_along_axis(chosen, nearest, axis=0).mean(axis=0)
    found = rounds_of(models, strategy="bulyan", attackers_expected=0.18)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("share", "clients", "attackers"), [(0.3, 50, 15), (0.07, 100, 7), (0.2, 3, 1), (0.0, 50, 0)]
)
def test_attackers_are_rounded_up(share: float, clients: int, attackers: int) -> None:
    assert Defence(share=share).attackers(clients) == attackers


def test_as_many_are_trimmed_as_are_expected() -> None:
    for votes in range(3, 200):
        for attackers in range((votes + 1) // 2):
            beta = TrimmedMean().settings(votes, attackers)["beta"]
            assert int(beta * votes) == attackers
            assert beta < 0.5


@pytest.mark.parametrize(
    ("strategy", "keys", "says"),
    [
        ("krum", {}, r"2 attackers among 6 clients it takes 7 votes.* to 0\.25 or below"),
        ("bulyan", {"attackers_expected": 0.2}, "takes 11 votes.*such as fedmedian"),
        (
            "fedmedian",
            {"pre_aggregation": "bucketing"},
            r"takes 5 votes, and there are 3 votes of 6 clients; set .* to 0\.16 or below$",
        ),
    ],
)
def test_too_few_clients_are_told_before_anyone_trains(
    strategy: str, keys: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=f"strategy = '{strategy}', attackers-expected = .*{says}"):
        rounds_of(drawn(6), strategy=strategy, **{"attackers_expected": 0.3, **keys})


def test_too_few_replies_fail_the_round() -> None:
    examples = [1] * 7 + [0] * 4
    with pytest.raises(RoundFailedError, match=r"round 1: .*takes 9 votes.* raise min-replies"):
        rounds_of(drawn(11), examples, strategy="krum", attackers_expected=0.27)


def test_centred_clipping_goes_on_from_the_last_step() -> None:
    models = np.array([[1.0, 0, 0], [1.0, 0, 0], [1.0, 0, 0]])
    keys = {"strategy": "centred-clipping", "clipping_radius": 0.1}
    # Three times a tenth towards 1, and in round 2, from there, towards what is left, 0.7 - 0.3.
    assert rounds_of(models, **keys)[0] == pytest.approx(0.3)
    assert rounds_of(models, number=2, **keys)[0] == pytest.approx(0.3 + 0.6)


def test_buckets_are_others_in_each_round_and_by_each_seed() -> None:
    models = drawn(9)
    keys = {"strategy": "krum", "pre_aggregation": "bucketing", "attackers_expected": 0.0}
    after = [rounds_of(models, number=number, **keys) for number in (1, 2)]
    other = rounds_of(models, seed=1, **keys)
    assert not (after[0] == after[1]).all()
    assert not (after[0] == other).all()


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"strategy": "closed-form"}, "the closed form adds up sums"),
        ({"secure-aggregation": True}, "under secure-aggregation nobody does"),
    ],
)
def test_mixing_is_refused_where_there_are_no_models(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=f"pre-aggregation = 'nnm': .*{says}"):
        RunConfig.load({"pre-aggregation": "nnm", **keys})
