"""What attackers make of updates, by hand."""

import numpy as np
import pytest

from celeba_fl.attacks.updates import ATTACKS

OWN = np.array([1.0, -2.0, 0.5])
HONEST = np.array([[1.0, 0.0, 0.0], [3.0, 0.0, 1.0], [2.0, 0.0, -7.0]])


def attack(name: str, strength: float = 0.0, seed: int = 0) -> np.ndarray:
    make, usual = ATTACKS[name]
    return make(OWN, HONEST, strength or usual, seed)


def test_of_the_own_update() -> None:
    assert attack("sign-flip").tolist() == [-10, 20, -5]
    assert attack("scale").tolist() == [50, -100, 25]
    assert attack("scale", 3.0).tolist() == [3, -6, 1.5]


def test_noise_is_as_large_as_told_and_by_the_seed() -> None:
    many = np.repeat(OWN, 10_000)
    noise = ATTACKS["gaussian"][0](many, HONEST, 10.0, 0)
    assert noise.std() == pytest.approx(10 * np.sqrt(np.square(OWN).mean()), rel=0.02)
    assert (attack("gaussian") == attack("gaussian")).all()
    assert not (attack("gaussian") == attack("gaussian", seed=1)).all()


def test_of_honest_updates() -> None:
    assert attack("alie", 2.0) == pytest.approx([2 + 2 * 1, 0, -2 + 2 * np.sqrt(19)])
    assert attack("ipm").tolist() == [-4, 0, 4]
    assert attack("mimic").tolist() == HONEST[2].tolist()


def test_a_single_honest_client_is_no_spread() -> None:
    assert ATTACKS["alie"][0](OWN, HONEST[:1], 1.5, 0).tolist() == HONEST[0].tolist()
