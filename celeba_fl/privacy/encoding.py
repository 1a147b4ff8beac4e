"""Numbers as words of 64 bits whose sum, modulo 2^64, is the sum of the numbers.

===========  ===============================================================================
kind         words
===========  ===============================================================================
``whole``    whole numbers as they are, one word each
``small``    whole numbers of an unsigned type, two in a word
``exact``    fractions as they are, in `LIMBS` words each: their sum is that of the numbers,
             rounded once, as `math.fsum` gives it
``mean``     fractions times a weight, which is summed too, in steps of `STEP`, one word each
===========  ===============================================================================

A weighted mean of m clients with the total weight N is off by the rounding of each, half a step:
by m / N half steps at most, that is by 2^-33 where nobody who weighs anything weighs less than 1.
The plain one is computed in double precision from shares of N, and off by (m + 2) 2^-53 times the
largest number. So the two differ by at most the sum of both, before they are rounded to the type
of the model.

Each client sees to it that its own numbers cannot make a total wrap, whatever the others send: they
are smaller than what the words can hold divided by the number of clients.
"""

import json
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from celeba_fl.common.arrays import FULL, Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.privacy.masks import Words

WHOLE, SMALL, EXACT, MEAN = "whole", "small", "exact", "mean"
STEP = 2.0**-32
# A fraction is a whole number of 2^-SCALE, which holds all digits of those above 2^-75.
LIMBS, LIMB, SCALE = 6, 32, 128
HALF = 32  # bits of a word
LARGEST = 1e15


class Summand(NamedTuple):
    """Numbers to be summed, by their kind; a weight is for those of a mean."""

    kind: str
    values: np.ndarray
    weight: int = 1


def encode(summands: Mapping[str, Summand], number: int) -> tuple[str, Words]:
    """The layout of some numbers, which says nothing of their values, and their words.

    Raises
    ------
    InputError
        If one is not finite, or so large that the total of so many clients could wrap.
    """
    layout = [[name, one.kind, [*one.values.shape]] for name, one in sorted(summands.items())]
    parts = [_encoded(name, one, number) for name, one in sorted(summands.items())]
    return json.dumps(layout), np.concatenate([np.zeros(0, np.uint64), *parts])


def decode(layout: str, words: Words) -> Arrays:
    """The sums by name, int64 or float64; those of a mean are still to be divided by the weight.

    Raises
    ------
    InputError
        If the words are not of this layout.
    """
    sums, start = {}, 0
    try:
        for name, kind, shape in json.loads(layout):
            number = math.prod(shape)
            size = {EXACT: LIMBS * number, SMALL: (number + 1) // 2}.get(kind, number)
            part = words[start : start + size].view(np.int64)
            sums[str(name)] = _decoded(kind, part)[:number].reshape(shape)
            start += size
    except (ValueError, TypeError) as error:
        raise InputError("the words are not of the layout that they have") from error
    if start != len(words):
        raise InputError("there are more words than the layout has")
    return sums


def _encoded(name: str, one: Summand, number: int) -> Words:
    values, largest = one.values.ravel(), FULL / number
    if one.kind == WHOLE:
        _check(name, values, largest)
        return values.astype(np.int64).view(np.uint64)
    if one.kind == SMALL:
        _check(name, values, 2.0**HALF / number)
        pairs = np.zeros(((len(values) + 1) // 2, 2), np.uint64)
        pairs.ravel()[: len(values)] = values
        return pairs[:, 0] | pairs[:, 1] << np.uint64(HALF)
    wide = values.astype(np.float64)
    if one.kind == MEAN:
        steps = wide * (one.weight / STEP)
        _check(name, steps, largest)
        return np.rint(steps).astype(np.int64).view(np.uint64)
    _check(name, wide, LARGEST)
    whole = [int(math.ldexp(value, SCALE)) for value in wide.tolist()]
    low = [[n >> LIMB * i & (1 << LIMB) - 1 for i in range(LIMBS - 1)] for n in whole]
    limbs = [[*of, n >> LIMB * (LIMBS - 1)] for of, n in zip(low, whole, strict=True)]
    return np.array(limbs, np.int64).ravel().view(np.uint64)


def _decoded(kind: str, part: np.ndarray) -> np.ndarray:
    if kind == WHOLE:
        return part.copy()
    if kind == SMALL:
        whole = part.view(np.uint64)
        return (
            np.stack([whole & np.uint64(2**HALF - 1), whole >> np.uint64(HALF)], 1)
            .astype(np.int64)
            .ravel()
        )
    if kind == MEAN:
        return part * STEP
    limbs = part.reshape(-1, LIMBS).tolist()
    fractions = [sum(limb << LIMB * i for i, limb in enumerate(of)) for of in limbs]
    return np.array([n / (1 << SCALE) for n in fractions], np.float64)


def _check(name: str, values: np.ndarray, largest: float) -> None:
    size = max(float(values.max(initial=0)), -float(values.min(initial=0)))
    if not size < largest:
        raise InputError(
            f"{name}: a number is not finite, or so large that the sum of all clients could wrap",
            open_to_all=True,
        )
