"""Sums for a private closed form: rows of images whose size is limited, so that noise can hide one.

What is public, the `Public` statistics, decides how an image becomes a row: its features minus a
mean, projected onto a few directions and shortened to a length of at most 1, with a constant at the
end; its labels minus public rates, shortened to a length of at most `reach`. Sums over rows are
released with noise (Dwork et al., "Analyze Gauss", STOC 2014; Wang, "Revisiting Differentially
Private Linear Regression", UAI 2018).

A row is a function of its image alone, to the last bit, whatever it is computed with: projections
are sums of whole numbers below 2^53, and so are products of rows, whose entries are whole steps of
2^-18, rounded towards zero, so that no row is longer than it may be. That is why rounding is no
concern: the limits hold for the very numbers that are summed, sums are exact, and at 2^-36 of a
product a step is less than 2^-32 of the noise.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.arrays import Arrays, Floats, Ints, Rows, add_exactly
from celeba_fl.common.errors import InputError
from celeba_fl.data.draws import uniform
from celeba_fl.models.ridge import zero_sums
from celeba_fl.models.scaling import BLOCK, FEATURE_STEP, LARGEST
from celeba_fl.privacy.noise import FINEST

ROW_STEP = 2.0**-18
STEP = ROW_STEP**2
# Columns of directions have whole numbers whose sizes add up to no more: projections stay exact.
COLUMN = 2.0**31
# So much shorter than its limit a vector is made that rounding makes it no longer.
SHORT = 1 - 2.0**-40
# No public statistics are larger; products of a block of such rows stay below 2^53 steps.
MOST = 8.0


@dataclass(frozen=True)
class Public:
    """Statistics of public images: how features and labels become rows.

    Raises
    ------
    InputError
        If they are of no use, since one has another shape or is not finite or too large.
    """

    mean: NDArray[np.float32]  # (dim,) of features
    directions: NDArray[np.int32]  # (dim, k), of which a unit is `unit`; their scale counts
    rates: NDArray[np.float32]  # (outputs,) of labels that are true
    unit: float  # a power of two
    reach: float  # the length to which labels minus rates are shortened
    constant: float  # the last entry of each row
    times: float  # how much X'Y counts in what is released, next to X'X

    def __post_init__(self) -> None:
        sizes = np.abs(self.directions.astype(np.float64)).sum(axis=0)
        numbers = np.array([self.reach, self.constant, self.times])
        if not (
            self.directions.shape == (len(self.mean), self.directions.shape[-1])
            and (sizes <= COLUMN).all()
            and (np.abs(self.mean) < LARGEST).all()
            and ((self.rates >= 0) & (self.rates <= 1)).all()
            and ((numbers > 0) & (numbers <= MOST)).all()
            and math.frexp(self.unit)[0] == 0.5
        ):
            raise InputError("public statistics: nothing can be made of them", open_to_all=True)

    @classmethod
    def of(
        cls,
        mean: Floats,
        directions: Floats,
        rates: Floats,
        *,
        reach: float,
        constant: float,
        times: float,
    ) -> "Public":
        """Statistics with directions, (dim, k), rounded so that projections are exact."""
        largest = max(float(np.abs(directions).sum(axis=0).max()), 1e-30)
        unit = 2.0 ** math.ceil(math.log2(largest / COLUMN) + 1e-6)
        whole = np.trunc(directions / unit).astype(np.int32)
        narrow = mean.astype(np.float32), whole, rates.astype(np.float32)
        return cls(*narrow, unit=unit, reach=reach, constant=constant, times=times)

    @property
    def k(self) -> int:
        """The number of directions."""
        return int(self.directions.shape[1])

    @property
    def outputs(self) -> int:
        """The number of labels."""
        return len(self.rates)

    def to_bytes(self) -> bytes:
        """All of it, for the instructions of clients."""
        numbers = [self.k, self.outputs, self.unit, self.reach, self.constant, self.times]
        parts: list[tuple[Any, str]] = [(numbers, "<f8"), (self.mean, "<f4"), (self.rates, "<f4")]
        return b"".join(
            np.asarray(of).astype(kind).tobytes() for of, kind in [*parts, (self.directions, "<i4")]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Public":
        """Undo `to_bytes`.

        Raises
        ------
        InputError
            If it was something else.
        """
        try:
            k, outputs, *numbers = np.frombuffer(data[:48], "<f8").tolist()
            rest, k, outputs = data[48:], int(k), int(outputs)
            dim = (len(rest) - 4 * outputs) // (4 * (k + 1))
            parts = (
                rest[: 4 * dim],
                rest[4 * dim : 4 * (dim + outputs)],
                rest[4 * (dim + outputs) :],
            )
            mean, rates = (np.frombuffer(of, "<f4").astype(np.float32) for of in parts[:2])
            directions = np.frombuffer(parts[2], "<i4").reshape(dim, k).astype(np.int32)
        except (ValueError, ArithmeticError) as error:
            raise InputError("public statistics: they cannot be read", open_to_all=True) from error
        return cls(mean, directions, rates, *numbers)


@dataclass(frozen=True)
class Release:
    """Noisy sums in units: of rows x and of labels y, both as `rows_of` makes them.

    The noise has the deviation `sigma` on the diagonal of X'X, sigma / sqrt(2) beside it, where it
    is the same above and below, and sigma / `times` of the public statistics in X'Y.
    """

    xx: Floats  # (k + 1, k + 1)
    xy: Floats  # (k + 1, outputs)
    sigma: float
    public: Public

    @classmethod
    def of(cls, sums: Arrays, public: Public, sigma: float) -> "Release":
        """The release in sums as `sums_of` gives them, with noise."""
        xx = np.zeros((public.k + 1, public.k + 1))
        xx[np.triu_indices(public.k + 1)] = sums["xx"] * STEP
        return cls(xx + np.triu(xx, 1).T, sums["xy"] * STEP, sigma, public)

    @property
    def n(self) -> float:
        """About how many images there are."""
        return float(self.xx[-1, -1] / self.public.constant**2)


def rows_of(features: np.ndarray, labels: np.ndarray, public: Public) -> tuple[Floats, Floats]:
    """Rows (n, k + 1) and labels (n, outputs) of some images, whole numbers of `ROW_STEP`.

    Features that are not finite, or not within (-128, 128), are taken for the nearest that are.
    """
    finite = np.nan_to_num(features.astype(np.float64))
    steps = np.rint(np.clip(finite, -LARGEST, LARGEST) / FEATURE_STEP)
    mean = np.rint(public.mean.astype(np.float64) / FEATURE_STEP)
    projected = (steps - mean) @ public.directions.astype(np.float64)
    x = _shortened(projected * (FEATURE_STEP * public.unit), 1.0)
    y = _shortened(labels - public.rates.astype(np.float64), public.reach)
    constant = np.full((len(x), 1), np.rint(public.constant / ROW_STEP))
    return np.hstack([x, constant]), y


def _shortened(rows: Floats, limit: float) -> Floats:
    """Rows, in steps, those that are longer than the limit shortened to it."""
    length = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    factor = np.minimum(1.0, limit * SHORT / np.maximum(length, 1e-300))
    shortened: Floats = np.trunc(rows * factor / ROW_STEP)
    return shortened


def counting(who: np.ndarray, content: np.ndarray, most: int, seed: int) -> NDArray[np.bool_]:
    """Which images count, so many of each person at most, (n,).

    `who` is on each, (n,), and `content` a hash of each image, (n,). Which of a person's images
    count follows from these images alone, so nobody else's presence changes it.
    """
    order = np.lexsort((content, uniform(content, seed), who))
    first = np.r_[True, who[order][1:] != who[order][:-1]]
    starts = np.flatnonzero(first)
    rank = np.arange(len(who)) - np.repeat(starts, np.diff(np.r_[starts, len(who)]))
    chosen = np.zeros(len(who), bool)
    chosen[order[rank < most]] = True
    return chosen


def sums_of(
    features: Rows, labels: np.ndarray, public: Public, chosen: Ints | None = None
) -> Arrays:
    """Exact sums over rows in steps of 2^-36, as `celeba_fl.models.ridge.zero_sums` describes them.

    int64: ``xx`` the upper triangle of X'X, row by row, and ``xy`` X'Y. Of all images, or of those
    at the chosen positions.
    """
    rows = np.arange(len(labels)) if chosen is None else chosen
    total = zero_sums(public.k, public.outputs)
    triangle = np.triu_indices(public.k + 1)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        x, y = rows_of(features[block], labels[block], public)
        sums = {"xx": (x.T @ x)[triangle], "xy": x.T @ y}
        add_exactly(total, {key: array.astype(np.int64) for key, array in sums.items()})
    return total


def sensitivity(public: Public, images: int = 1) -> float:
    """How far so many images of a person can move what is released, in L2; in units.

    What is released is one vector: the diagonal of X'X, its upper triangle times sqrt(2), and X'Y
    times t = `times`. An image with the row x, its constant c among the entries, and the labels y
    adds to it a vector v with ::

        |v|^2 = sum_i x_i^4 + 2 sum_(i<j) x_i^2 x_j^2 + t^2 sum_ij x_i^2 y_j^2
              = |x|^4 + t^2 |x|^2 |y|^2
              <= (1 + c^2)^2 + t^2 (1 + c^2) reach^2

    By the triangle inequality, m images that come or go move it by at most m times the root of
    that, and m images that are all alike do.
    """
    square = 1 + (np.rint(public.constant / ROW_STEP) * ROW_STEP) ** 2
    return images * math.sqrt(square**2 + public.times**2 * square * public.reach**2)


def noise_scales(public: Public, sigma: float) -> Arrays:
    """The deviation of the noise of each sum in steps; `sigma`, of what is released, is in units.

    The upper triangle is released times sqrt(2), and X'Y times `times`: theirs is so much smaller.

    Raises
    ------
    InputError
        If it is not many steps: discrete noise would have to be reckoned with otherwise.
    """
    size, steps = public.k + 1, sigma / STEP
    xx = np.where(np.equal(*np.triu_indices(size)), steps, steps / math.sqrt(2))
    xy = np.full((size, public.outputs), steps / public.times)
    if min(xx.min(), xy.min()) < FINEST:
        raise InputError(
            f"noise: {min(xx.min(), xy.min()):.3g} steps in a deviation, and there must be "
            f"{FINEST:.3g}; lower privacy-epsilon",
            open_to_all=True,
        )
    return {"xx": xx, "xy": xy}
