"""Features brought to mean 0 and deviation 1, and heads on scaled and on raw features.

FedAvg over unlike clients loses mostly by scale: where some features are a hundred times as large
as others, the heads that clients send have each gone as far as their own step size let them. The
mean and the deviation are those of all images together, so they follow from sums that add up over
clients, and these are exact: features are rounded to steps of 2^-14, and whole numbers are added.
Neither the partition nor the order of clients changes one bit.

A head on scaled features is one on raw features in other coordinates: `fold` and `unfold`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.arrays import Arrays, Floats, Rows, add_exactly
from celeba_fl.common.errors import InputError

# Features are right to 1e-5 at best.
FEATURE_STEP = 2.0**-14
# So many squares of the largest feature are 2^53 steps, up to where float64 knows each number.
BLOCK, LARGEST = 2048, 128.0
# A feature whose variance is below so many parts of its mean square is dead: it would be stretched
# more than 300 times as much as it is large, and the bias of a folded head would be as large.
TINY = 1e-5
# Sums are whole numbers up to 2^62, of which float64 knows 53 bits.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Scaling:
    """The scale of features: x becomes ``(x - mean) * factor``.

    Both are (dim,) float32. The factor is 1 / deviation, and 0 for a dead feature.
    """

    mean: NDArray[np.float32]
    factor: NDArray[np.float32]

    @classmethod
    def of_sums(cls, sums: Arrays) -> "Scaling":
        """The scale of the examples behind some sums, as `zero_sums` describes them.

        A feature is dead if it varies by less than a step or 0.3 % of its size; all are,
        where there are fewer than two examples.
        """
        n = max(int(sums["n"][0]), 1)
        mean, square = sums["x"] * FEATURE_STEP / n, sums["xx"] * FEATURE_STEP**2 / n
        variance = square - mean**2
        alive = variance > np.maximum(TINY * square, FEATURE_STEP**2)
        factor = np.where(alive, 1 / np.sqrt(np.where(alive, variance, 1.0)), 0.0)
        return cls(mean.astype(np.float32), factor.astype(np.float32))

    def to_bytes(self) -> bytes:
        """Mean and factor, little-endian float32, for the instructions of clients."""
        return np.concatenate([self.mean, self.factor]).astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Scaling":
        """Undo `to_bytes`."""
        mean, factor = np.frombuffer(data, "<f4").astype(np.float32).reshape(2, -1)
        return cls(mean, factor)


class Scaled:
    """Rows (n, dim) on a scale, computed in float32 as they are read."""

    def __init__(self, rows: Rows, scaling: Scaling) -> None:
        self._rows, self._scaling, self.shape = rows, scaling, rows.shape

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        rows: np.ndarray = (self._rows[index] - self._scaling.mean) * self._scaling.factor
        return rows


def scaled(rows: Rows, scaling: Scaling | None) -> Rows:
    """Rows on a scale; without one as they are."""
    return rows if scaling is None else Scaled(rows, scaling)


def fold(head: Arrays, scaling: Scaling | None) -> Arrays:
    """The head on raw features that gives the scores of `head` on scaled ones.

    With weights W and bias b of `head`, mean m and factor f::

        (x - m) f W + b = x (f W) + (b - m (f W))

    f W is rounded to float32 before it is multiplied by m. So rounding counts by how far x is
    from m, not by how large x is. Without a scale the head is `head` itself.
    """
    if scaling is None:
        return head
    weight = (head["weight"].astype(np.float64) * scaling.factor).astype(np.float32)
    moved = (weight.astype(np.float64) * scaling.mean).sum(axis=1)
    return {"weight": weight, "bias": (head["bias"] - moved).astype(np.float32)}


def unfold(head: Arrays, scaling: Scaling | None) -> Arrays:
    """The head on scaled features of a `head` on raw ones, which takes dead ones for their mean."""
    if scaling is None:
        return head
    wide, factor = head["weight"].astype(np.float64), scaling.factor.astype(np.float64)
    weight = np.divide(wide, factor, out=np.zeros_like(wide), where=factor > 0)
    bias = head["bias"] + (wide * scaling.mean).sum(axis=1)
    return {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}


def zero_sums(dim: int) -> Arrays:
    """The sums of no example: ``n`` their number, ``x`` the sum and ``xx`` that of squares.

    int64, of shapes (1,), (dim,) and (dim,), in steps of 2^-14 and their squares.
    """
    return {key: np.zeros(size, np.int64) for key, size in (("n", 1), ("x", dim), ("xx", dim))}


def sums_of(features: Rows) -> Arrays:
    """The sums of some examples (n, dim), as `zero_sums` describes them, read block by block.

    Raises
    ------
    InputError
        If a feature or a sum is out of range.
    """
    total = zero_sums(features.shape[1])
    total["n"] += len(features)
    for start in range(0, len(features), BLOCK):
        x = in_steps(features[start : start + BLOCK])
        sums = {"n": np.zeros(1), "x": x.sum(axis=0), "xx": (x**2).sum(axis=0)}
        add_exactly(total, {key: array.astype(np.int64) for key, array in sums.items()})
    return total


def check_sums(sums: Arrays, n: int) -> None:
    """Raise InputError unless sums, as `zero_sums` describes them, can be those of `n` examples.

    Features are limited, and by Cauchy and Schwarz ``x^2 <= n xx``.
    """
    x, xx, most = (
        sums["x"].astype(np.float64),
        sums["xx"].astype(np.float64),
        LARGEST / FEATURE_STEP,
    )
    if sums["n"][0] != n:
        raise InputError(f"sums of features: of {sums['n'][0]} examples, not {n}")
    if not ((xx >= 0) & (xx <= n * most**2) & (x**2 <= n * xx * (1 + ROUNDING))).all():
        raise InputError("sums of features: no features have such sums")


def in_steps(block: np.ndarray) -> Floats:
    """Features in steps of 2^-14, rounded, float64.

    Raises
    ------
    InputError
        If one is not within (-128, 128).
    """
    if not (np.abs(block) < LARGEST).all():
        raise InputError(
            f"a feature is {np.abs(block).max():.4g}; exact sums are of whole numbers, and that "
            f"takes features below {LARGEST:.0f}: scale them in the backbone, or set scaling to "
            f"none and take no closed form"
        )
    return np.rint(block.astype(np.float64) / FEATURE_STEP)
