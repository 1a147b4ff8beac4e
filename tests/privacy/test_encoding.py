"""Numbers as words, and sums of words as sums of numbers."""

import math
from typing import Any

import numpy as np
import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.privacy.encoding import EXACT, MEAN, SMALL, STEP, WHOLE, Summand, decode, encode

LARGE = 2**61 - 2**9


def summed(kind: str, values: list[Any], weights: list[int] | None = None) -> np.ndarray:
    """What becomes of the arrays of several clients."""
    n = len(values)
    ones = weights or [1] * n
    of = [
        encode({"x": Summand(kind, np.array(one), weight)}, n)
        for one, weight in zip(values, ones, strict=True)
    ]
    assert len({layout for layout, _ in of}) == 1
    return decode(of[0][0], np.sum([words for _, words in of], axis=0, dtype=np.uint64))["x"]


def test_whole_numbers_are_summed_as_they_are() -> None:
    total = summed(WHOLE, [[[LARGE, -5]], [[LARGE, 3]]])
    assert total.tolist() == [[2 * LARGE, -2]]
    assert total.dtype == np.int64
    assert summed(WHOLE, [np.uint8([200]), np.uint16([300])]).tolist() == [500]


def test_two_small_whole_numbers_are_in_a_word() -> None:
    _, words = encode({"x": Summand(SMALL, np.arange(5, dtype=np.uint8))}, 1)
    assert len(words) == 3
    most = 2**31 - 1
    total = summed(SMALL, [np.uint32([[most, 1, 2]]), np.uint32([[most, most, 3]])])
    assert total.tolist() == [[2 * most, 2**31, 5]]
    assert total.dtype == np.int64


def test_fractions_are_summed_to_the_last_bit() -> None:
    rng = np.random.default_rng(1)
    values = [rng.normal(size=7) * 10.0 ** rng.integers(-9, 12, 7) for _ in range(50)]
    values += [np.array([1e-20, -0.0, 0.1, -1e14, 2.0**-80, 1e-300, 3.0])]
    total = summed(EXACT, values)
    assert total.tolist() == [math.fsum(of) for of in zip(*values, strict=True)]


def test_a_mean_is_off_by_half_a_step_for_each_client_over_the_weights_at_most() -> None:
    rng = np.random.default_rng(2)
    values = [rng.normal(size=1000).astype(np.float32) for _ in range(9)]
    weights = [*range(1, 9), 0]
    right = np.sum([v.astype(np.longdouble) * w for v, w in zip(values, weights, strict=True)], 0)
    off = np.abs(summed(MEAN, values, weights) - right)
    assert 0 < off.max() <= 9 * STEP / 2


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (WHOLE, 2**61),
        (WHOLE, -(2**61)),
        (SMALL, 2**31),
        (EXACT, math.nan),
        (EXACT, -math.inf),
        (EXACT, 1e15),
        (MEAN, 2.0**61 * STEP),
        (MEAN, math.nan),
    ],
)
def test_a_number_that_could_make_a_total_wrap_is_refused(kind: str, value: float) -> None:
    with pytest.raises(InputError, match="x: a number is not finite, or so large"):
        encode({"x": Summand(kind, np.array([0, value]))}, 2)


def test_several_arrays_stand_one_after_the_other_in_the_order_of_their_names() -> None:
    summands = {
        "b": Summand(EXACT, np.array([0.5])),
        "a": Summand(WHOLE, np.array(7)),
        "c": Summand(MEAN, np.zeros((0, 3))),
    }
    layout, words = encode(summands, 1)
    assert len(words) == 7
    sums = decode(layout, words)
    assert {name: array.tolist() for name, array in sums.items()} == {"a": 7, "b": [0.5], "c": []}
    assert sums["c"].shape == (0, 3)


@pytest.mark.parametrize(
    "layout", ["", "{}", "[1]", '[["a", "whole", [3]]]', '[["a","whole",[1]]]']
)
def test_words_of_another_layout_are_refused(layout: str) -> None:
    with pytest.raises(InputError, match="layout"):
        decode(layout, np.zeros(2, np.uint64))
