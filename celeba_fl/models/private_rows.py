"""Sums for a private closed form: of rows whose weight is limited, so that noise can hide a unit.

A unit is what noise is to hide: an image, or all images of a person that count. What is public, the
`Public` statistics, decides how an image becomes a row z of features, which is what is left of them
above a mean, projected onto a few directions, and a row t of labels, minus public rates. A unit
adds to what is released one vector; where that is longer than `clip`, all rows of the unit count
less. Sums over units are released with noise (Dwork et al., "Analyze Gauss", STOC 2014; Wang,
"Revisiting Differentially Private Linear Regression", UAI 2018).

What a unit adds is a function of its images alone, to the last bit, whatever it is computed with:
projections are sums of whole numbers below 2^53, and so are products of rows, whose entries are
whole steps of 2^-18. That is why rounding is no concern: the limit is held by the very numbers that
are summed, sums are exact, and at 2^-36 of a product a step is less than 2^-28 of the noise.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.arrays import Arrays, Floats, Ints, Rows, add_exactly
from celeba_fl.common.errors import InputError
from celeba_fl.data.draws import uniform
from celeba_fl.models.scaling import BLOCK, FEATURE_STEP, LARGEST
from celeba_fl.privacy.noise import FINEST

ROW_STEP = 2.0**-18
STEP = ROW_STEP**2
# Columns of directions have whole numbers whose sizes add up to no more: projections stay exact.
COLUMN = 2.0**31
# Rows that are longer are shortened first, so that sums of products are exact; hardly any are.
LONGEST = 16.0
# So much shorter than its limit a vector is made that rounding makes it no longer.
SHORT = 1 - 2.0**-40
# No public statistics are larger than this, nor smaller than its inverse.
MOST = 2.0**10
# What a unit adds is no longer than this: then block by block float64 knows each sum.
MOST_ADDED = 16.0


@dataclass(frozen=True)
class Public:
    """Statistics of public images: how features and labels become rows, and how much those count.

    Raises
    ------
    InputError
        If they are of no use, since one has another shape, or is not finite or too large.
    """

    mean: NDArray[np.float32]  # (dim,) of features
    directions: NDArray[np.int32]  # (dim, k), of which a unit is `unit`; their scale counts
    rates: NDArray[np.float32]  # (outputs,) of labels that are true
    unit: float  # a power of two
    spread: float  # by which labels minus rates are divided
    times: float  # how much Z'T counts in what is released, next to Z'Z
    clip: float  # the length of what a unit may add to that

    def __post_init__(self) -> None:
        sizes = np.abs(self.directions.astype(np.float64)).sum(axis=0)
        numbers = np.array([self.spread, self.times, self.clip])
        if not (
            self.directions.shape == (len(self.mean), self.directions.shape[-1])
            and (sizes <= COLUMN).all()
            and (np.abs(self.mean) < LARGEST).all()
            and ((self.rates >= 0) & (self.rates <= 1)).all()
            and ((numbers >= 1 / MOST) & (numbers <= MOST)).all()
            and self.clip <= MOST_ADDED
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
        spread: float,
        times: float,
        clip: float,
    ) -> "Public":
        """Statistics with directions, (dim, k), rounded so that projections are exact."""
        largest = max(float(np.abs(directions).sum(axis=0).max()), 1e-30)
        unit = 2.0 ** math.ceil(math.log2(largest / COLUMN) + 1e-6)
        whole = np.trunc(directions / unit).astype(np.int32)
        narrow = mean.astype(np.float32), whole, rates.astype(np.float32)
        return cls(*narrow, unit=unit, spread=spread, times=times, clip=clip)

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
        numbers = [self.k, self.outputs, self.unit, self.spread, self.times, self.clip]
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
            narrow = np.frombuffer(rest[: 4 * (dim + outputs)], "<f4").astype(np.float32)
            mean, rates = narrow[:dim], narrow[dim:]
            whole = np.frombuffer(rest[4 * (dim + outputs) :], "<i4").astype(np.int32)
            directions = whole.reshape(dim, k)
        except (ValueError, ArithmeticError) as error:
            raise InputError("public statistics: they cannot be read", open_to_all=True) from error
        return cls(mean, directions, rates, *numbers)


@dataclass(frozen=True)
class Release:
    """Noisy sums in units: of rows z of features and t of labels, each by the weight of its unit.

    The noise has the deviation `sigma` on the diagonal of Z'Z, sigma / sqrt(2) beside it, where it
    is the same above and below, and sigma / `times` of the public statistics in Z'T.
    """

    xx: Floats  # (k, k)
    xy: Floats  # (k, outputs)
    sigma: float
    public: Public

    @classmethod
    def of(cls, sums: Arrays, public: Public, sigma: float) -> "Release":
        """The release in sums as `sums_of` gives them, with noise."""
        xx = np.zeros((public.k, public.k))
        xx[np.triu_indices(public.k)] = sums["xx"] * STEP
        return cls(xx + np.triu(xx, 1).T, sums["xy"] * STEP, sigma, public)


def zero_sums(public: Public) -> Arrays:
    """The sums of no image: ``xx`` the upper triangle of Z'Z, row by row, and ``xy`` Z'T.

    int64, of shapes (k (k + 1) / 2,) and (k, outputs).
    """
    size = public.k * (public.k + 1) // 2
    return {"xx": np.zeros(size, np.int64), "xy": np.zeros((public.k, public.outputs), np.int64)}


def rows_of(features: np.ndarray, labels: np.ndarray, public: Public) -> tuple[Floats, Floats]:
    """Rows z (n, k) and t (n, outputs) of some images, whole numbers of `ROW_STEP`, not weighted.

    Features that are not finite, or not within (-128, 128), are taken for the nearest that are.
    """
    finite = np.nan_to_num(features.astype(np.float64))
    steps = np.rint(np.clip(finite, -LARGEST, LARGEST) / FEATURE_STEP)
    mean = np.rint(public.mean.astype(np.float64) / FEATURE_STEP)
    projected = (steps - mean) @ public.directions.astype(np.float64)
    z = _whole(projected * (FEATURE_STEP * public.unit))
    t = _whole((labels - public.rates.astype(np.float64)) / public.spread)
    return z, t


def _whole(rows: Floats) -> Floats:
    """Rows in whole steps, rounded towards zero, none of them longer than `LONGEST`."""
    length = np.sqrt((rows * rows).sum(axis=-1, keepdims=True))
    factor = np.minimum(1.0, LONGEST * SHORT / np.maximum(length, 1e-300))
    whole: Floats = np.trunc(rows * factor / ROW_STEP)
    return whole


def each_alone(number: int) -> list[Ints]:
    """The units where each image is one, as `units_of` gives them."""
    return [np.arange(number)[:, None]]


def units_of(who: np.ndarray, content: np.ndarray, most: int, seed: int) -> list[Ints]:
    """The units where a person is one: positions of images, (people, m) for each number m of them.

    `who` is on each image, (n,), and `content` a hash of it, (n,). Of each person so many images
    count at `most`, and which follows from these images alone: nobody else's presence changes it.
    """
    order = np.lexsort((content, uniform(content, seed), who))
    starts = np.flatnonzero(np.r_[True, who[order][1:] != who[order][:-1]][: len(who)])
    sizes = np.minimum(np.diff(np.r_[starts, len(who)]), most)
    return [order[starts[sizes == m, None] + np.arange(m)] for m in np.unique(sizes).tolist()]


def sums_of(features: Rows, labels: np.ndarray, public: Public, units: list[Ints]) -> Arrays:
    """Exact sums over units, in steps of 2^-36, as `zero_sums` describes them."""
    total, triangle = zero_sums(public), np.triu_indices(public.k)
    for of_size in units:
        many = max(1, BLOCK // of_size.shape[1])
        for start in range(0, len(of_size), many):
            block = of_size[start : start + many]
            at = block.ravel()
            z, t = rows_of(features[at], labels[at], public)
            z, t = clipped(z.reshape(*block.shape, -1), t.reshape(*block.shape, -1), public)
            z, t = z.reshape(len(at), -1), t.reshape(len(at), -1)
            sums = {"xx": (z.T @ z)[triangle], "xy": z.T @ t}
            add_exactly(total, {key: array.astype(np.int64) for key, array in sums.items()})
    return total


def clipped(z: Floats, t: Floats, public: Public) -> tuple[Floats, Floats]:
    """Rows (u, m, ...) of units of m images, times the root of their unit's weight, in whole steps.

    What a unit adds to the release is a vector v with ::

        |v|^2 = sum_i (Z'Z)_ii^2 + 2 sum_(i<j) (Z'Z)_ij^2 + c^2 sum_ij (Z'T)_ij^2
              = sum_rs (z_r z_s)^2 + c^2 sum_rs (z_r z_s) (t_r t_s)

    over its rows r and s, where c is `times`, since the diagonal of Z'Z, its upper triangle times
    sqrt(2), and c Z'T are released. Rows times the root of w give w v. So w is the largest weight
    up to 1, but for rounding, with |w v| <= `clip`, and it is the rows in whole steps that are
    measured. **The sensitivity is `clip`**: a unit that comes or goes, with whatever images, moves
    what is released by no more, in L2, and changes nothing of what others add.
    """
    root, limit = np.ones((len(z), 1, 1)), public.clip * SHORT
    while True:
        rows = np.trunc(z * root), np.trunc(t * root)
        size = sizes_of(*rows, public.times) * STEP
        far = size > limit
        if not far.any():
            return rows
        # A little more than it takes, and in few bits: then rounding seldom asks for another turn.
        less = root[far] * np.sqrt(limit / size[far])[:, None, None]
        root[far] = np.maximum(np.floor(less * 2**24) - 1, 0) / 2**24


def sizes_of(z: Floats, t: Floats, times: float) -> Floats:
    """|v| as `clipped` says, (u,), of units with the rows (u, m, k) and (u, m, outputs).

    No less than it is: terms of a sum may cancel, so what rounding may have done is added.
    """
    features, labels = z @ z.transpose(0, 2, 1), t @ t.transpose(0, 2, 1)
    of_features, of_labels = features**2, times**2 * features * labels
    terms = (of_features + of_labels).sum(axis=(1, 2))
    rounding = z.shape[1] ** 2 * 2.0**-51 * (of_features + abs(of_labels)).sum(axis=(1, 2))
    size: Floats = np.sqrt(np.maximum(terms + rounding, 0.0))
    return size


def noise_scales(public: Public, sigma: float) -> Arrays:
    """The deviation of the noise of each sum in steps; `sigma`, of what is released, is in units.

    The upper triangle is released times sqrt(2), and Z'T times `times`: theirs is so much smaller.

    Raises
    ------
    InputError
        If it is not many steps: discrete noise would have to be reckoned with otherwise.
    """
    steps = sigma / STEP
    xx = np.where(np.equal(*np.triu_indices(public.k)), steps, steps / math.sqrt(2))
    xy = np.full((public.k, public.outputs), steps / public.times)
    if min(xx.min(), xy.min()) < FINEST:
        raise InputError(
            f"noise: {min(xx.min(), xy.min()):.3g} steps in a deviation, and there must be "
            f"{FINEST:.3g}; lower privacy-epsilon",
            open_to_all=True,
        )
    return {"xx": xx, "xy": xy}
