"""95 % intervals: how sure one can be of a figure.

Images of one person are alike, so they are not independent draws. Where identities are at hand, an
interval comes from drawing identities, not images, with replacement (the cluster bootstrap of
Davison & Hinkley 1997, "Bootstrap Methods and their Application", section 3.8, and Field & Welsh
2007, "Bootstrapping clustered data", J. R. Stat. Soc. B 69(3), 369-390). Where there are
only counts, it is Wilson's. Of few identities (some dozen) drawn intervals are too narrow still.

The same identities, number of draws and seed give the same draws: the differences of two models
that were judged on the same images, draw by draw, are paired.
"""

import warnings
from statistics import NormalDist

import numpy as np

DRAWS = 1000
LEVEL = 0.95


def draw_identities(number: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Number of times that each identity is drawn, ``(draws, number)`` float64."""
    if not number:
        return np.zeros((draws, 0))
    even = np.full(number, 1 / number)
    return np.random.default_rng(seed).multinomial(number, even, draws).astype(np.float64)


def identity_sums(values: np.ndarray, celeb_id: np.ndarray) -> np.ndarray:
    """Sums of ``(n, ...)`` values over the images of each identity, in the order of its number.

    Float64 of shape ``(identities, ...)``.
    """
    if not len(values):
        return np.zeros(values.shape)
    order = np.argsort(celeb_id, kind="stable")
    starts = np.unique(celeb_id[order], return_index=True)[1]
    return np.add.reduceat(values[order], starts, axis=0, dtype=np.float64)


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of a figure, ``(...)``, from its resamples, ``(draws, ...)``.

    The ``(1 - level) / 2`` and ``(1 + level) / 2`` quantiles (Davison & Hinkley 1997, section
    5.3), linear between order statistics. Resamples in which the figure is NaN do not count; both
    ends are NaN where no resample has a value.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        low, high = np.nanquantile(values, ((1 - level) / 2, (1 + level) / 2), axis=0)
    return low, high


def wilson(
    successes: np.ndarray, n: np.ndarray, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval of a proportion (1927, J. Am. Stat. Assoc. 22(158), 209-212).

    With ``p = successes / n`` and ``z`` the normal quantile of ``(1 + level) / 2``::

        (p + z² / 2n ± z √(p (1 - p) / n + z² / 4n²)) / (1 + z² / n)

    It takes the ``n`` for independent: of several images a person it is too narrow. Both ends are
    within 0 and 1; NaN where ``n`` is 0.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    tries = np.where(np.asarray(n) > 0, n, np.nan)
    p = successes / tries
    centre = p + z**2 / (2 * tries)
    half = z * np.sqrt(p * (1 - p) / tries + z**2 / (4 * tries**2))
    low, high = (centre - half) / (1 + z**2 / tries), (centre + half) / (1 + z**2 / tries)
    # Rounding must not push the ends past what they are by the formula.
    return np.where(p == 0, 0 * tries, low), np.where(p == 1, p, high)
