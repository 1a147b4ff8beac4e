"""What an attacker learns from private sums stays below what is claimed, and an error shows."""

import math

import pytest
from canaries import Canaries, lower_bound

from celeba_fl.privacy.noise import noise_multiplier

DELTA = 1e-5


@pytest.fixture(scope="module")
def canaries() -> Canaries:
    return Canaries.made(300, seed=0)


@pytest.mark.parametrize("guesses", [10, 100])
def test_a_bound_of_guesses_that_are_all_right(guesses: int) -> None:
    # They have the chance share^guesses, which must be 1/20, and share = e^eps / (1 + e^eps).
    share = 0.05 ** (1 / guesses)
    bound = lower_bound(1000, guesses, guesses, delta=0.0)
    assert bound == pytest.approx(math.log(share / (1 - share)), abs=1e-5)
    assert lower_bound(1000, guesses, guesses, delta=1e-5) < bound


def test_half_of_the_guesses_right_says_nothing() -> None:
    assert lower_bound(1000, 100, 50, DELTA) == 0


def test_the_attack_works_where_there_is_no_noise(canaries: Canaries) -> None:
    bound = lower_bound(300, 60, canaries.guess(0.0, guesses=60, seed=1), DELTA)
    assert bound > 2


def test_with_noise_it_stays_below_the_claim_in_20_of_20_runs(canaries: Canaries) -> None:
    epsilon = 4.0
    multiplier = noise_multiplier(epsilon, DELTA)
    bounds = [
        lower_bound(300, 60, canaries.guess(multiplier, guesses=60, seed=seed), DELTA)
        for seed in range(20)
    ]
    assert max(bounds) < epsilon
    # But it is an attack: most of these runs tell something.
    assert sorted(bounds)[10] > 0.2


@pytest.mark.slow
@pytest.mark.parametrize(("sensitivity", "caught"), [(1.0, False), (0.5, True)])
def test_noise_for_half_of_the_sensitivity_is_caught(sensitivity: float, caught: bool) -> None:
    epsilon, runs, guesses = 2.0, 60, 20
    canaries = Canaries.made(500, seed=0)
    multiplier = sensitivity * noise_multiplier(epsilon, DELTA)
    right = sum(canaries.guess(multiplier, guesses, seed) for seed in range(runs))
    bound = lower_bound(500 * runs, guesses * runs, right, DELTA)
    assert (bound > epsilon) == caught
