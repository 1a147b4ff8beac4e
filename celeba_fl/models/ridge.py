"""A linear head in closed form: regularised least squares from sums that add up over clients.

A client sends X'X and X'Y of its features X (with a constant 1 appended, for the bias) and 0/1
labels Y, and the head depends on their totals alone: not on who held which example. Fed3R (Fani
et al., "Accelerating Heterogeneous Federated Learning with Closed-form Classifiers", ICML 2024,
arXiv 2406.01116); AFL (He et al., "AFL: A Single-Round Analytic Approach for Federated Learning
with Pre-trained Models", CVPR 2025, arXiv 2405.16240).

The sums are whole numbers and exact: features are rounded to steps of 2^-14 (they are right to
1e-5 at best), so float64 sums of a block of products are without error, and int64 holds the rest.
Neither the order in which clients answer nor the partition changes one bit of the totals.

Least squares regresses the label; it gives no logit. `calibrate` takes the regression for a score
whose distribution in each class is normal with one variance, as linear discriminant analysis does
(Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", 2nd ed., section 4.3).
The moments of the score follow from the same sums, of validation examples, as on its own train
examples the regression is too sure. Measured on the people in one half of a validation split,
calibrated on the other half (600 images of CelebA, 20 halvings): loss 0.309 nats and balanced
accuracy 69.2 %, with moments of train examples 0.342 and 70.5 %, by Platt's logistic regression
on validation scores 0.304 and 65.7 %. That one needs scores, which reveal more of each image.
Where validation knows an attribute by few examples, what all attributes have in common stands in.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.arrays import FULL, Arrays, Floats, Ints, Rows, add_exactly, overflow
from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.common.memory import keep_freed_memory
from celeba_fl.common.threads import one_thread
from celeba_fl.evaluation.metrics import ratio
from celeba_fl.models.scaling import BLOCK, FEATURE_STEP, LARGEST, ROUNDING, in_steps

# The lowest and the highest value, or an array of either.
Range = tuple[float | Floats, float | Floats]

WEIGHT_STEP = 2.0**-8
STEP = FEATURE_STEP**2 * WEIGHT_STEP
# Lambda in units of the mean diagonal of the centred X'X, that is of n times the mean variance of
# a feature: one grid for all sizes of data and scales of features.
RATIOS = 10.0 ** np.arange(-4, 2.5, 0.5)
# A variance below so many parts of the mean square is rounding.
TINY = 1e-9
# Examples that what all attributes have in common counts as: about as many as a person has images.
PRIOR = 30


def zero_sums(dim: int, outputs: int) -> Arrays:
    """The sums of no example: ``xx`` the upper triangle of X'X, row by row, and ``xy`` X'Y.

    int64, of shapes ((dim + 1) (dim + 2) / 2,) and (dim + 1, outputs).
    """
    size = dim + 1
    xx, xy = np.zeros(size * (size + 1) // 2, np.int64), np.zeros((size, outputs), np.int64)
    return {"xx": xx, "xy": xy}


def sums_of(features: Rows, labels: NDArray[np.bool_], weight: Floats) -> Arrays:
    """The sums of some examples in steps of 2^-36, as `zero_sums` describes them.

    Features (n, dim), within (-128, 128), are read block by block. The weights (n,) by which
    examples count are rounded to multiples of 1/256, but never to 0.

    Raises
    ------
    InputError
        If a feature or a sum is out of range.
    """
    keep_freed_memory()
    total = zero_sums(features.shape[1], labels.shape[1])
    factor = in_weight_steps(weight)
    for times in np.unique(factor):
        chosen = np.flatnonzero(factor == times)
        for start in range(0, len(chosen), BLOCK):
            rows = chosen[start : start + BLOCK]
            x = np.c_[in_steps(features[rows]), np.full(len(rows), 1 / FEATURE_STEP)]
            xx, xy = (x.T @ x)[_triangle(x.shape[1])], x.T @ (labels[rows] / FEATURE_STEP)
            if times * xx.max() >= FULL:
                raise overflow()
            whole = {"xx": xx.astype(np.int64), "xy": xy.astype(np.int64)}
            for array in whole.values():
                array *= times
            add_exactly(total, whole)
    return total


def in_weight_steps(weight: Floats) -> Ints:
    """Weights in steps of 1/256, rounded, but never to 0."""
    return np.maximum(1, np.rint(weight / WEIGHT_STEP)).astype(np.int64)


def check_sums(sums: Arrays, weight: Range, positives: Range) -> None:
    """Raise InputError unless sums, as `zero_sums` describes them, can be those of some examples.

    `weight` is the range of their total weight and `positives`, (outputs,), that of their positives
    of each output, both in units of one example. Features are limited, and by Cauchy and Schwarz
    no product of two columns of X and Y is larger than their lengths allow; nor is it with 1 - Y.
    """
    packed, xy = sums["xx"].astype(np.float64), sums["xy"].astype(np.float64)
    ends = np.cumsum(np.arange(len(xy), 0, -1))  # of rows from the diagonal on
    square, column = packed[np.append(0, ends[:-1])], packed[ends - 1]
    total, true = square[-1], xy[-1]
    if not _within(total * STEP, weight):
        raise InputError(
            f"sums for the closed form: of {total * STEP:.6g} examples by weight, not "
            f"{weight[0]:.6g} to {weight[1]:.6g}"
        )
    if not _within(true * STEP, positives):
        raise InputError("sums for the closed form: of more or fewer positives than there are")
    if not ((square >= 0) & (square <= total * LARGEST**2)).all():
        raise InputError("sums for the closed form: no features have such squares")
    length, most = np.sqrt(square) * (1 + ROUNDING), np.empty_like(packed)
    for i, end in enumerate(ends.tolist()):
        np.multiply(length[i], length[i:], out=most[end - len(length) + i : end])
    slack = ROUNDING * total * square[:, None]
    with_it, without = square[:, None] * true, square[:, None] * (total - true)
    if not (
        (np.abs(packed, out=packed) <= most).all()
        and (xy**2 <= with_it + slack).all()
        and ((column[:, None] - xy) ** 2 <= without + slack).all()
    ):
        raise InputError("sums for the closed form: no features and labels have such products")


def _within(values: Floats, limits: Range) -> bool:
    low, high = (np.asarray(limit) for limit in limits)
    return bool(((values >= low * (1 - ROUNDING)) & (values <= high * (1 + ROUNDING))).all())


@cache
def _triangle(size: int) -> NDArray[np.bool_]:
    return np.triu(np.ones((size, size), np.bool_))


def solve(train: Arrays, valid: Arrays, factor: Floats | None = None) -> tuple[Arrays, float]:
    """The regression of least squared error on validation, as a head of logits, and its ratio.

    Both sums are of at least one example. With a `factor`, (dim,), lambda penalises the weights of
    features that are multiplied by it; sums and head are of features as they are. On one thread,
    so that the number of cores changes no digit.
    """
    with one_thread():
        chosen = choose(train, valid, factor)
        return chosen.head(chosen.plain), chosen.ratio


@dataclass(frozen=True)
class Problem:
    """The least squares of some sums, factored once for every lambda; the bias is free."""

    n: float  # examples, by weight
    mean: Floats  # (dim,) of the features
    share: Floats  # (outputs,) of positives
    values: Floats  # (dim,) eigenvalues of the centred X'X
    vectors: Floats  # (dim, dim) its eigenvectors, in columns
    rotated: Floats  # (dim, outputs) the centred X'Y in their coordinates
    scale: float  # lambda is a ratio times so much

    @classmethod
    def of(cls, xx: Floats, xy: Floats) -> "Problem":
        """Factor X'X (dim + 1, dim + 1) with X'Y (dim + 1, outputs), the constant last."""
        mean, share = xx[:-1, -1] / xx[-1, -1], xy[-1] / xx[-1, -1]
        centred = xx[:-1, :-1] - np.outer(mean, xx[-1, :-1])
        values, vectors = np.linalg.eigh(centred)
        scale = max(centred.trace() / len(centred), STEP)  # where all examples are alike it is 0
        rotated = vectors.T @ (xy[:-1] - np.outer(mean, xy[-1]))
        return cls(float(xx[-1, -1]), mean, share, values, vectors, rotated, scale)

    def shrunk(self, ratio: float) -> Floats:
        """The eigenvalues with lambda, in a column."""
        column: Floats = (self.values + ratio * self.scale)[:, None]
        return column

    def regression(self, ratio: float) -> Floats:
        """The minimum of ``|XW - Y|^2 + lambda |W|^2``, (dim + 1, outputs), the bias last."""
        return self.turned_back(self.rotated / self.shrunk(ratio))

    def turned_back(self, rotated: Floats) -> Floats:
        """Weights with their bias, of weights in the coordinates of the eigenvectors."""
        weight = self.vectors @ rotated
        return np.vstack([weight, self.share - self.mean @ weight])


@dataclass(frozen=True)
class Chosen:
    """A problem with the ratio of least squared error on validation."""

    problem: Problem
    ratio: float
    scale: Floats  # (dim + 1,) by which features are multiplied in it; 1 for the constant
    own: tuple[Floats, Floats]  # X'X and X'Y of train
    held_out: tuple[Floats, Floats]  # and of validation

    @cached_property
    def plain(self) -> Floats:
        """The regression itself, (dim + 1, outputs)."""
        return self.problem.regression(self.ratio)

    def head(self, w: Floats) -> Arrays:
        """A head of logits on features as they are, of a regression (dim + 1, outputs)."""
        logits = calibrate(w, self.own, self.held_out, self.plain) * self.scale[:, None]
        return {"weight": logits[:-1].T.astype(np.float32), "bias": logits[-1].astype(np.float32)}


def choose(train: Arrays, valid: Arrays, factor: Floats | None = None) -> Chosen:
    """Factor the sums of train and choose the ratio, as `solve` says, on the caller's threads."""
    scale = np.ones(len(train["xy"])) if factor is None else np.append(factor, 1.0)
    own, held_out = matrices(train, scale), matrices(valid, scale)
    problem = Problem.of(*own)
    errors = [squared_error(problem.regression(r), *held_out).mean() for r in RATIOS]
    best = int(np.argmin(errors))
    if best in (0, len(RATIOS) - 1):
        LOG.warning("lambda / mean diagonal = %g is the end of the grid", RATIOS[best])
    return Chosen(problem, float(RATIOS[best]), scale, own, held_out)


def squared_error(w: Floats, xx: Floats, xy: Floats) -> Floats:
    """Mean of (x'w - y)^2 over the examples of the sums, (outputs,); y^2 is y."""
    return ((w * (xx @ w - 2 * xy)).sum(axis=0) + xy[-1]) / xx[-1, -1]


def calibrate(
    w: Floats,
    train: tuple[Floats, Floats],
    valid: tuple[Floats, Floats],
    plain: Floats | None = None,
) -> Floats:
    """Turn scores into logits, by linear discriminant analysis of each score.

    With d the difference of the means of a score s with and without the attribute, v its variance
    within these classes, m the middle between the two means and p the share of positives::

        logit = d / v * (s - m) + log(p / (1 - p))

    d and v are those of validation, as far as it knows them. On train the regression is too sure,
    all attributes in about the same way: d is too large there and v too small, each by a factor
    that all attributes together tell. So corrected, d and v of train count as `PRIOR` examples, and
    those of validation as n1 n0 / n, with n1 of its examples that have the attribute and n0 that do
    not. p is that of train, the larger of the two, as (positives + 1/2) / (n + 1); where the
    classes are not told apart, there is p only.

    `w` is (dim + 1, outputs), the bias last, and so is the result; `train` and `valid` are X'X and
    X'Y of each. The factors are those of `plain`, a regression of the same problem, or without it
    of `w` itself: so nothing that is done to an attribute changes another one.
    """
    held_out, own = _moments(w, *valid), _moments(w, *train)
    n, n1 = valid[0][-1, -1], valid[1][-1]
    known = n1 * (n - n1) / n
    both = (held_out, own) if plain is None else (_moments(plain, *of) for of in (valid, train))
    common = ratio(*(moments @ known for moments in both))[:, None]
    d, v = (held_out * known + np.nan_to_num(common, nan=1.0) * own * PRIOR) / (known + PRIOR)
    mean = w.T @ valid[0][-1] / n
    slope = np.where((d > 0) & (v > TINY * mean**2), ratio(d, v), 0.0)
    middle = mean + d * (0.5 - n1 / n)
    positives, total = train[1][-1] + 0.5, train[0][-1, -1] + 1
    logits: Floats = w * slope
    logits[-1] += np.log(positives / (total - positives)) - slope * middle
    return logits


def _moments(w: Floats, xx: Floats, xy: Floats) -> Floats:
    """The difference of each score's means, 0 if there is one class, and its variance within them.

    (2, outputs).
    """
    n, n1 = xx[-1, -1], xy[-1]
    total, with_it, square = w.T @ xx[-1], (w * xy).sum(axis=0), (w * (xx @ w)).sum(axis=0)
    m1, m0 = ratio(with_it, n1), ratio(total - with_it, n - n1)
    between = np.nan_to_num(n1 * m1**2) + np.nan_to_num((n - n1) * m0**2)
    return np.stack([np.nan_to_num(m1 - m0), (square - between) / n])


def matrices(sums: Arrays, scale: Floats) -> tuple[Floats, Floats]:
    """X'X, both triangles, and X'Y, in units of one example; X is multiplied by `scale`."""
    size, packed, start = len(sums["xy"]), sums["xx"] * STEP, 0
    xx = np.empty((size, size))
    for at in range(size):  # a third of the time of an index for all
        row = packed[start : start + size - at]
        xx[at, at:] = xx[at:, at] = row
        start += len(row)
    xx *= scale
    xx *= scale[:, None]
    return xx, sums["xy"] * STEP * scale[:, None]
