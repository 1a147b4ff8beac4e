"""95 % intervals: how far a figure would move with other people.

Images of one person are alike, so the people are the draws, not their images. A figure's standard
error comes from leaving out one person at a time (the jackknife of Tukey 1958; for a ratio of sums
its linear form, Cochran 1977, "Sampling Techniques", 3rd ed., section 6.4), and the interval from
Student's t with the number of people minus 1. A share is moved to the logit scale and back, which
keeps it within 0 and 1 and makes its interval lopsided near them.

Of the intervals that were tried (percentiles of drawn people, wider percentiles, BCa, and t on
either scale), this one came nearest to 95 % with 14, 50 and 200 people: `tests/benchmarks/
coverage.py` measures it.
"""

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from celeba_fl.common.arrays import Floats

LEVEL = 0.95
Ends = tuple[Floats, Floats]


def identity_sums(values: np.ndarray, celeb_id: np.ndarray) -> Floats:
    """Sums of ``(n, ...)`` values over the images of each identity, in the order of its number.

    Float64 of shape ``(identities, ...)``.
    """
    if not len(values):
        return np.zeros(values.shape)
    order = np.argsort(celeb_id, kind="stable")
    starts = np.unique(celeb_id[order], return_index=True)[1]
    return np.add.reduceat(values[order], starts, axis=0, dtype=np.float64)


def ratio_moments(top: np.ndarray, bottom: np.ndarray) -> Floats:
    """What `Estimate.of_ratio` needs of ``(people, ...)`` sums: ``(people, 6, ...)``, which add up.

    A person's numerator and denominator, their squares and product, and whether the person counts.
    """
    moments = (top, bottom, top * top, top * bottom, bottom * bottom, bottom > 0)
    return np.stack(np.broadcast_arrays(*moments), axis=1)


@dataclass(frozen=True)
class Estimate:
    """A figure, its standard error over people, and how many people it rests on; arrays alike."""

    value: Floats
    error: Floats
    people: Floats

    @classmethod
    def of_ratio(cls, moments: np.ndarray) -> "Estimate":
        """The ratio of two sums over people, from summed `ratio_moments`, ``(6, ...)``."""
        a, b, aa, ab, bb, people = moments
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(b > 0, a / b, np.nan)
            squares = np.maximum(aa - 2 * value * ab + value**2 * bb, 0)
            error = np.where(people > 1, np.sqrt(squares * people / (people - 1)) / b, np.nan)
        return cls(value, error, people)

    @classmethod
    def of_replicates(cls, value: Floats, replicates: Floats, people: Floats) -> "Estimate":
        """A figure ``(...)`` by the jackknife, from its ``(people, ...)`` values without each one.

        Values that are undefined without someone do not count. `people` may be fewer than there
        are, where only some bear on the figure.
        """
        defined = ~np.isnan(replicates)
        number = np.maximum(defined.sum(axis=0), 1)
        middle = np.where(defined, replicates, 0).sum(axis=0) / number
        squares = (np.where(defined, replicates - middle, 0) ** 2).sum(axis=0)
        return cls(value, np.sqrt((number - 1) / number * squares), people)

    def interval(self, level: float = LEVEL) -> Ends:
        """Student's interval; NaN of fewer than two people."""
        half = student(self.people, level) * self.error
        return self.value - half, self.value + half

    def share_interval(self, level: float = LEVEL) -> Ends:
        """The interval of a figure between 0 and 1: Student's on the logit scale.

        Where leaving people out changes nothing (there is only one, or all answers are right), it
        says nothing about others. Then it is Wilson's of so many people, as if all images of a
        person were one.
        """
        p = self.value
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            half = student(self.people, level) * self.error / (p * (1 - p))
            odds = p / (1 - p)
            ends = (1 / (1 + np.exp(sign * half) / odds) for sign in (1, -1))
            varies = (self.error > 0) & (p > 0) & (p < 1)
            low, high = (
                np.where(varies, moved, one)
                for moved, one in zip(
                    ends, wilson(p * self.people, self.people, level), strict=True
                )
            )
        return low, high


def student(people: np.ndarray, level: float = LEVEL) -> Floats:
    """The half width of Student's interval in standard errors, by the number of people.

    With people minus 1 degrees of freedom; NaN of fewer than two people.
    """
    numbers, place = np.unique(people, return_inverse=True)
    quantiles = np.array([_quantile(float(n) - 1, level) for n in numbers])
    return quantiles[place].reshape(np.shape(people))


@lru_cache(maxsize=4096)
def _quantile(freedom: float, level: float) -> float:
    """The quantile of ``(1 + level) / 2`` of Student's distribution.

    Its distribution function is an integral of a power of the cosine: t = sqrt(f) tan(angle) lies
    between -t and t with the share of the integral of cos^(f - 1) from 0 to the angle.
    """
    if not freedom >= 1:
        return float("nan")
    angle = np.linspace(0, min(np.pi / 2, 12 / np.sqrt(freedom)), 20_001)
    middle = (angle[1:] + angle[:-1]) / 2
    area = np.append(0, np.cumsum(np.cos(middle) ** (freedom - 1)))
    return float(np.sqrt(freedom) * np.tan(np.interp(level, area / area[-1], angle)))


def wilson(successes: np.ndarray, n: np.ndarray, level: float = LEVEL) -> Ends:
    """Wilson's score interval of a proportion (1927, J. Am. Stat. Assoc. 22(158), 209-212).

    With ``p = successes / n`` and ``z`` the normal quantile of ``(1 + level) / 2``::

        (p + z² / 2n ± z √(p (1 - p) / n + z² / 4n²)) / (1 + z² / n)

    It takes the ``n`` for independent: people are, images are not. Both ends are within 0 and 1;
    NaN where ``n`` is 0.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    tries = np.where(np.asarray(n) > 0, n, np.nan)
    p = successes / tries
    centre = p + z**2 / (2 * tries)
    half = z * np.sqrt(np.maximum(p * (1 - p), 0) / tries + z**2 / (4 * tries**2))
    low, high = (centre - half) / (1 + z**2 / tries), (centre + half) / (1 + z**2 / tries)
    # Rounding must not push the ends past what they are by the formula.
    return np.where(p == 0, 0 * tries, low), np.where(p == 1, p, high)
