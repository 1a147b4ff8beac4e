"""Noise in whole numbers: as much as a budget of differential privacy asks for, sampled exactly.

The noise is the discrete Gaussian of Canonne, Kamath and Steinke, "The Discrete Gaussian for
Differential Privacy", NeurIPS 2020: x has a chance in proportion to exp(-x^2 / 2 sigma^2). Whole
numbers have no rounding from which floating-point noise gives the value away (Mironov, CCS 2012),
and they are added under masks as they are. Each of c clients adds noise of variance sigma^2 / c. A
sum of discrete Gaussians is not quite one, but the logarithms of their chances differ by less than
5 exp(-pi^2 sigma^2 / c) (Kairouz, Liu and Steinke, ICML 2021), which is nothing: here
sigma / sqrt(c) is above 2^20 steps.

**What it costs that noise is discrete.** Let q be whole numbers and N continuous noise. Whoever
sees q + N rounded to whole numbers sees no more than q + N, of which the (epsilon, delta) is known
exactly (Balle and Wang, ICML 2018). Discrete noise of d coordinates is so near to rounded noise,
sqrt(d / 1152) / sigma^2 in total variation by Pinsker's inequality, that 1 + exp(epsilon) times
that has to be added to delta. With `FINEST` steps in sigma and a million coordinates it is
`_slack`: below 10^-11 at epsilon 8. So values on a fine grid lose nothing, and need no other
analysis than the Gaussian mechanism's.
"""

import importlib
import math
import os
from collections.abc import Callable, Mapping
from decimal import Decimal, localcontext
from functools import cache
from typing import Any

import numpy as np

from celeba_fl.common.arrays import Arrays, Floats, Ints
from celeba_fl.common.errors import InputError

# Steps in a standard deviation of the whole noise, at least.
FINEST = 2.0**28
MOST_COORDINATES = 2**20
# By so much more than rounding could take away the noise is larger.
MARGIN = 1e-9
# Standard deviations above this would leave no room for whole numbers that float64 knows.
LARGEST = 2.0**50
# A chance computed in float64 is right to so many parts of it.
DOUBT, BIT = 2.0**-42, 2.0**-53
# Among the instructions for sums: of how many clients each adds a part. A client writes it itself.
NOISE_PARTS = "noise-parts"
Source = Callable[[int], bytes]


def accounting() -> Any:
    """The library that adds up what releases cost.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        return importlib.import_module("dp_accounting")
    except ImportError as error:
        raise InputError(
            "privacy-epsilon: needs dp-accounting; pip install 'celeba-fl[dp]'", open_to_all=True
        ) from error


@cache
def noise_multiplier(epsilon: float, delta: float) -> float:
    """The least sigma of a release, per unit of L2 sensitivity, that keeps a budget."""
    left = delta - _slack(epsilon)
    if left <= 0:
        raise InputError(
            f"privacy-delta = {delta:g}: is too small for privacy-epsilon = {epsilon:g}; raise "
            f"the one, or lower the other"
        )
    whole: float = accounting().get_sigma_gaussian(epsilon, left)
    return whole * (1 + MARGIN)


def _slack(epsilon: float) -> float:
    """What discrete noise of `FINEST` steps may add to delta, see above."""
    return (1 + math.exp(epsilon)) * math.sqrt(MOST_COORDINATES / 1152) / FINEST**2


def noisy(sums: Arrays, scales: Mapping[str, Floats], parts: int, source: Source) -> Arrays:
    """Sums with one of so many parts of the noise whose deviations are `scales`, in steps."""
    root = math.sqrt(parts)
    return {
        key: array + discrete_gaussian(scales[key] / root, source) for key, array in sums.items()
    }


def discrete_gaussian(sigma: Floats, source: Source = os.urandom) -> Ints:
    """One sample for each sigma, of its shape, from bytes that nobody can foresee.

    A candidate is +-(U + t V): U uniform below t, a power of two of at least 1.18 sigma, and V the
    number of heads before tails. Its chance is in proportion to 2^-V, so it is taken with the
    chance 2^V exp(-(U + t V)^2 / 2 sigma^2), which is at most 1, since t^2 >= 2 ln 2 sigma^2. A
    zero with a minus is left out, else zeros would count twice. A V above 31 is never taken: the
    chance that it would be is below 2^-500.

    No more is computed in float64 than whether a uniform number is below that chance; where it is
    too near for that, `_below` settles it.

    Raises
    ------
    InputError
        If a sigma is not between 0 and 2^50.
    """
    flat = np.asarray(sigma, np.float64).ravel()
    if not ((flat > 0) & (flat < LARGEST)).all():
        raise InputError("noise: a deviation is not between 0 and 2^50 steps")
    bits = np.maximum(np.ceil(np.log2(1.18 * flat)), 0).astype(np.uint64)
    result = np.zeros(len(flat), np.int64)
    missing = np.arange(len(flat))
    while len(missing):
        words = np.frombuffer(source(24 * len(missing)), "<u8").reshape(3, -1)
        scale, width = flat[missing], bits[missing]
        uniform = (words[0] & ((np.uint64(1) << width) - np.uint64(1))).astype(np.int64)
        heads, minus = _heads(words[1]), words[1] >> np.uint64(63) == 1
        size = uniform + (heads << width.astype(np.int64))
        taken = _taken(words[2], heads, size, scale, source) & (heads < 32) & ~(minus & (size == 0))
        result[missing[taken]] = np.where(minus, -size, size)[taken]
        missing = missing[~taken]
    return result.reshape(np.shape(sigma))


def _heads(words: np.ndarray) -> Ints:
    """The number of zeros at the low end of words, 32 if there are more, (n,)."""
    low = (words & np.uint64(2**32 - 1)) | np.uint64(2**32)
    lowest = low & (~low + np.uint64(1))
    return np.log2(lowest.astype(np.float64)).astype(np.int64)  # exact for powers of two


def _taken(words: np.ndarray, heads: Ints, size: Ints, sigma: Floats, source: Source) -> np.ndarray:
    """Whether uniform numbers of 64 bits, as fractions, are below the chances of candidates."""
    drawn = (words >> np.uint64(11)) * BIT
    chance = np.exp2(heads) * np.exp(-0.5 * np.square(size / sigma))
    below: np.ndarray = drawn < chance
    near = np.abs(drawn - chance) <= DOUBT * chance + BIT
    for i in np.flatnonzero(near):
        more = int.from_bytes(source(16), "little")
        below[i] = _below(int(words[i]), more, int(heads[i]), int(size[i]), float(sigma[i]))
    return below


def _below(word: int, more: int, heads: int, size: int, sigma: float) -> bool:
    """Whether a uniform number of 192 bits is below the chance of a candidate.

    To 60 digits, which leaves no doubt but in one of 2^180 cases.
    """
    with localcontext() as context:
        context.prec = 80
        chance = Decimal(2) ** heads * (-((size / Decimal(sigma)) ** 2) / 2).exp()
        return Decimal((word << 128) + more) / Decimal(2**192) < chance
