"""Ridge heads that are fairer by construction, from sums that add up over clients.

Equalised odds, relaxed to linear conditions on a head (Donini et al., "Empirical Risk Minimization
under Fairness Constraints", NeurIPS 2018, arXiv 1802.08626): among the examples with an attribute,
and among those without it, the mean score is to be the same in every group. For two groups, with
u_c the difference of their mean features among the examples of class c, each output minimises::

    |Xw - y|^2 + lambda |w|^2 + rho n [(u_1'w)^2 + (u_0'w)^2]

For more groups the bracket has all pairs of groups, and of J mean features m_a ::

    sum over pairs of ((m_a - m_b)'w)^2  =  J sum over a of ((m_a - mean of all m)'w)^2

All of it follows from X'X, X'Y and X'(Y o G), the products with labels of a group's examples alone,
G being 1 in the group: exact whole numbers, so the head is the same on every partition, to the
last bit. Each output is a step of low rank (Woodbury's identity) from the factorisation of X'X
that is there, for any rho. Lambda is the one that is best without the penalty. The head needs no
group to predict.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.arrays import Arrays, Floats
from celeba_fl.common.errors import InputError
from celeba_fl.common.threads import one_thread
from celeba_fl.models import leace, ridge
from celeba_fl.models.ridge import STEP
from celeba_fl.models.scaling import ROUNDING

# An output that is true of all members of a group, for each but the first, of which none is. The
# marks are the outputs that define the groups.
Marks = Sequence[int]
# A cell of class and group with fewer examples, by weight, is left out: the mean of so few is
# chance, and to make the scores of those few equal costs accuracy and helps nobody else.
FEWEST = 10


def with_groups(labels: NDArray[np.bool_], member: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Outputs whose sums are all that there is to send: (n, outputs x groups).

    Labels (n, outputs), then labels of the examples of each group but the first, by members
    (n, groups); without groups, those of labels alone.
    """
    return np.concatenate([labels, *(labels & one[:, None] for one in member.T[1:])], axis=1)


def cells(xx: np.ndarray, xy: np.ndarray, marks: Marks) -> np.ndarray:
    """Sums of the features of each class and group, (2, groups, dim + 1, outputs).

    The number of examples comes last of the features. `xx`, (dim + 1,), is the constant's column of
    X'X and `xy` X'Y of `with_groups`. A group's examples are those with the attribute that marks
    it; of the first group are all others.
    """
    every, *marked = np.split(xy, len(marks) + 1, axis=1)
    with_it = np.stack([every - sum(marked), *marked])
    columns = [one[:, at] for one, at in zip(marked, marks, strict=True)]
    group = np.stack([xx - sum(columns), *columns])
    return np.stack([group[:, :, None] - with_it, with_it])


def check_cells(sums: Arrays, marks: Marks) -> None:
    """Raise InputError unless the sums of some examples, checked before, have honest cells.

    No cell has fewer than no examples, nor, by Cauchy and Schwarz, larger sums than they allow.
    """
    size = len(sums["xy"])
    rows = np.split(sums["xx"].astype(np.float64), np.cumsum(np.arange(size, 1, -1)))
    square, column = (np.array([row[at] for row in rows]) for at in (0, -1))
    of = cells(column, sums["xy"].astype(np.float64), marks)
    n = of[:, :, -1:]
    # Each is a difference of up to so many sums, which are rounded.
    slack = 4 * len(marks) * ROUNDING * square[-1]
    limit = square[:, None] * (n + slack) + slack * square[:, None]
    if not ((n >= -slack).all() and (of**2 <= limit).all()):
        raise InputError("sums for the closed form: no features, labels and groups have them")


class FairRidge:
    """The heads of some sums for every rho, and that of erased features.

    Parameters
    ----------
    train, valid : dict[str, np.ndarray]
        Sums as `ridge.sums_of` gives them, of `with_groups` and of labels alone.
    factor : np.ndarray | None
        As for `ridge.solve`.
    marks : Sequence[int]
        As for `cells`.

    Attributes
    ----------
    penalised : np.ndarray
        (outputs,) bool. The others are left as they are: those that define the groups, and those
        of which a class has `FEWEST` examples in fewer than two groups.
    smallest : np.ndarray
        (outputs,) examples in the smallest cell.
    """

    def __init__(self, train: Arrays, valid: Arrays, factor: Floats | None, marks: Marks) -> None:
        outputs = valid["xy"].shape[1]
        labels = {**train, "xy": train["xy"][:, :outputs]}
        column = train["xx"][np.cumsum(np.arange(len(train["xy"]), 0, -1)) - 1]
        of = cells(column, train["xy"], marks)
        with one_thread():
            self._chosen = ridge.choose(labels, valid, factor)
            problem, scale = self._chosen.problem, self._chosen.scale[:-1, None]
            sums = np.moveaxis(of[:, :, :-1] * STEP, 2, 0)  # (dim, 2, groups, outputs)
            self._sums = np.tensordot(
                problem.vectors.T, (sums.reshape(len(scale), -1) * scale).reshape(sums.shape), 1
            )
        self._n = of[:, :, -1] * STEP  # (2, groups, outputs)
        two = ((self._n >= FEWEST).sum(axis=1) > 1).all(axis=0)
        self.penalised = two & ~np.isin(np.arange(outputs), marks)
        self.smallest = self._n.min(axis=(0, 1))

    @property
    def ratio(self) -> float:
        """Lambda in units of the mean diagonal."""
        return self._chosen.ratio

    def head(self, rho: float) -> Arrays:
        """The head of logits for a rho; 0 gives the one of `ridge.solve`, to the last bit."""
        with one_thread():
            return self._chosen.head(self.regression(rho))

    def regression(self, rho: float) -> Floats:
        """The minimum, (dim + 1, outputs), the bias last, of features times `factor`."""
        problem = self._chosen.problem
        shrunk = problem.shrunk(self.ratio)
        w = problem.rotated / shrunk
        for output in np.flatnonzero(self.penalised).tolist() if rho else ():
            u = self._conditions(output)
            pulled, weight = u / shrunk, rho * problem.n
            inner = np.eye(u.shape[1]) + weight * (u.T @ pulled)
            w[:, output] -= pulled @ np.linalg.solve(inner, weight * (u.T @ w[:, output]))
        return problem.turned_back(w)

    def _conditions(self, output: int) -> Floats:
        """The columns whose products with w are to be small, in the eigenvectors' coordinates."""
        columns = []
        for of_class in (0, 1):
            there = self._n[of_class, :, output] >= FEWEST
            means = self._sums[:, of_class, there, output] / self._n[of_class, there, output]
            columns.append(np.sqrt(there.sum()) * (means - means.mean(axis=1, keepdims=True)))
        return np.hstack(columns)

    def erased_head(self) -> Arrays:
        """The head whose penalised outputs are of features from which the groups are erased."""
        problem, n = self._chosen.problem, self._n[:, 1:, 0].sum(axis=0)
        group = self._sums[:, :, 1:, 0].sum(axis=1)  # each example is in one class
        with one_thread():
            cross = group - (problem.vectors.T @ problem.mean)[:, None] * n
            erased = leace.regression(problem, cross, self.ratio)
            w = np.where(self.penalised, erased, problem.regression(self.ratio))
            return self._chosen.head(w)
