import math
import os
import sys
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeba_fl.common.errors import InputError
from celeba_fl.privacy import noise
from celeba_fl.privacy.noise import discrete_gaussian, noise_multiplier, noisy

# A normal figure is beyond it once in 10^9 times.
SURE = 6.0


def test_small_noise_has_each_value_as_often_as_it_should() -> None:
    for sigma, number in ((0.3, 50_000), (1.0, 100_000), (4.2, 100_000)):
        values, times = np.unique(discrete_gaussian(np.full(number, sigma)), return_counts=True)
        all_values = np.arange(-60, 61)
        weight = np.exp(-(all_values**2) / (2 * sigma**2))
        expected = dict(zip(all_values.tolist(), number * weight / weight.sum(), strict=True))
        for value, seen in zip(values.tolist(), times.tolist(), strict=True):
            mean = expected[value]
            assert abs(seen - mean) < SURE * math.sqrt(mean) + SURE**2


@pytest.mark.parametrize("steps", [1.0, 1.17, 1.7, 1.9])  # around a power of two, and between
def test_large_noise_is_normal_in_its_moments_and_tails(steps: float) -> None:
    number = 200_000
    sigma = steps * 2.0**36
    x = discrete_gaussian(np.full(number, sigma)) / sigma
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((x**power).mean() - moment) < SURE * math.sqrt(spread / number)
    for beyond in (1.0, 2.0, 3.0, 4.0):
        chance = math.erfc(beyond / math.sqrt(2))
        assert abs((np.abs(x) > beyond).mean() - chance) < SURE * math.sqrt(chance / number)
    assert abs((x[1:] * x[:-1]).mean()) < SURE / math.sqrt(number)


def test_low_bits_of_large_noise_are_even() -> None:
    low = discrete_gaussian(np.full(100_000, 1.3 * 2.0**36)) % 16
    assert (np.abs(np.bincount(low, minlength=16) - 6250) < SURE * math.sqrt(6250)).all()


def test_each_entry_has_a_deviation_of_its_own() -> None:
    sigma = np.tile([[1e3, 1e6, 1e9]], (20_000, 1))
    x = discrete_gaussian(sigma) / sigma
    assert x.shape == sigma.shape
    assert (abs((x**2).mean(axis=0) - 1) < SURE * math.sqrt(2 / 20_000)).all()


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 31),
    st.integers(0, 2**40),
    st.floats(2.0**30, 2.0**40),
)
@settings(max_examples=100, deadline=None)
def test_chances_in_floating_point_decide_as_exact_ones(
    word: int, heads: int, size: int, sigma: float
) -> None:
    words, one = np.array([word], np.uint64), np.array([size], np.int64)
    quick = noise._taken(words, np.array([heads], np.int64), one, np.array([sigma]), os.urandom)
    chance = Decimal(2) ** heads * (-((size / Decimal(sigma)) ** 2) / 2).exp()
    if abs(Decimal(word) / 2**64 - chance) > Decimal(2) ** -52:
        assert bool(quick[0]) == noise._below(word, 0, heads, size, sigma)


def test_the_exact_way_gives_the_same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "DOUBT", 10.0)  # everything is too near
    values = discrete_gaussian(np.full(4000, 2.0))
    assert abs(values.mean()) < SURE * 2 / math.sqrt(4000)
    assert abs(values.var() / 4 - 1) < SURE * math.sqrt(2 / 4000)


def test_noise_follows_from_its_source_alone() -> None:
    def source(number: int) -> bytes:
        asked.append(number)
        return np.random.default_rng(len(asked)).bytes(number)

    asked: list[int] = []
    first = discrete_gaussian(np.full(100, 50.0), source)
    asked.clear()
    assert np.array_equal(discrete_gaussian(np.full(100, 50.0), source), first)
    assert not np.array_equal(*(discrete_gaussian(np.full(100, 50.0)) for _ in range(2)))


def test_parts_of_noise_make_the_whole() -> None:
    zeros = {"xx": np.zeros(20_000, np.int64)}
    scales = {"xx": np.full(20_000, 2.0**40)}
    total = sum(noisy(zeros, scales, 5, os.urandom)["xx"] for _ in range(5))
    assert abs(np.var(total / 2.0**40) - 1) < SURE * math.sqrt(2 / 20_000)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf, 2.0**51])
def test_a_deviation_that_cannot_be_is_refused(sigma: float) -> None:
    with pytest.raises(InputError, match="deviation"):
        discrete_gaussian(np.array([1.0, sigma]))


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0, 20.0])
def test_the_multiplier_spends_the_budget_and_no_more(epsilon: float) -> None:
    spent = noise.accounting().get_epsilon_gaussian(noise_multiplier(epsilon, 1e-5), 1e-5)
    assert epsilon * (1 - 1e-3) < spent <= epsilon


def test_a_delta_that_discrete_noise_cannot_keep_is_refused() -> None:
    with pytest.raises(InputError, match="privacy-delta"):
        noise_multiplier(20.0, 1e-8)


def test_without_the_library_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(InputError, match="celeba-fl\\[dp\\]"):
        noise.accounting()
