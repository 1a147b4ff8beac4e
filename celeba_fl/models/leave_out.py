"""Clients taken out of a head in closed form, and those whose sums are unlike all others'.

Sums are whole numbers, so what is left when a client's are taken off is, to the last bit, what the
others would have added up without it.

With W the head of some clients, H = X'X + lambda of theirs, and G = X'Y - X'X W of a client, which
is how its sums pull at the head, the head moves by H^-1 G when the client joins them or leaves, to
first order. In the scores on their examples, that is a distance (Cook, "Detection of Influential
Observation in Linear Regression", 1977, for a client in the place of an observation) ::

    m^2 = tr(G' H^-1 G)

Of an honest client with n examples chance makes it grow like n, and what is particular to its
examples like n^2. With s = n over the median n of the clients, m^2 / max(s, s^2) is therefore no
larger for large or for small clients; a client's `excess` is this over its median. A client that
multiplies or turns what it knows of the labels has a large one, whoever else does so, too.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.arrays import Arrays, Floats
from celeba_fl.common.log import LOG
from celeba_fl.models.ridge import Problem, calibrate, matrices

# The least excess of a client that is suspected: `tests/benchmarks/liars.py` has what honest and
# lying ones have.
SUSPECT = 5.0
# Lambda, in mean diagonals, of the head that clients pull at: the same whoever lies about labels.
RATIO = 0.3
# The cosine between the pulls of two clients from which on they hold the same, or nearly.
ALIKE = 0.9


Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Work done for each item on as many threads as there are cores; each computes on its own."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [*pool.map(work, items)]


@dataclass(frozen=True)
class Together:
    """The train sums of clients, see `ridge.zero_sums`: their total, and each one's when needed."""

    names: tuple[str, ...]
    total: Arrays
    read: Callable[[str], Arrays]
    factor: Floats | None = None  # (dim,) by which features are multiplied

    @property
    def scale(self) -> Floats:
        """The same with a 1 for the constant, (dim + 1,)."""
        factor = np.ones(len(self.total["xy"]) - 1) if self.factor is None else self.factor
        return np.append(factor, 1.0)

    def without(self, names: Iterable[str], left: Arrays | None = None) -> Arrays:
        """What is left without some clients, of the total or of what is `left` of it already."""
        left = self.total if left is None else left
        for name in names:
            own = self.read(name)
            left = {key: array - own[key] for key, array in left.items()}
        return left

    def joined(self, left: Arrays, names: Iterable[str]) -> Arrays:
        """What is `left` without some clients, with these of them again."""
        for name in names:
            own = self.read(name)
            left = {key: array + own[key] for key, array in left.items()}
        return left


@dataclass(frozen=True)
class Pulls:
    """How the sums of each client pull at the head of those that nobody suspects."""

    names: tuple[str, ...]
    sizes: Floats  # (clients,) examples, by weight
    pulls: NDArray[np.float32]  # (clients, dim x outputs), whose squared length is m^2
    excess: Floats  # (clients,), NaN of one without examples
    suspected: NDArray[np.bool_]

    @classmethod
    def of(cls, clients: Together, trusted: Arrays) -> "Pulls":
        """Suspect clients, first by the head of some `trusted` sums, which no client has touched.

        Then by that of the clients who are not suspected, until there are no more of these: so
        several that do the same cannot cover each other. In the end each suspect by itself joins
        the others, and whoever is not far from their head then is acquitted. Where half of the
        clients would have to be suspected, nobody knows who is right, and none is.
        """
        names, reference = np.array(clients.names), trusted
        out = np.zeros(len(names), bool)
        # As a rule nobody is suspected, and then each client's sums are read but once.
        sizes, (pulls, at_total) = _pulls(clients, trusted, clients.total)
        while True:
            by_size = _by_size(sizes, _squared(pulls), ~out)
            far = np.nan_to_num(by_size) > SUSPECT
            if reference is not trusted and not (far & ~out).any():
                break
            out |= far
            if 2 * out.sum() >= (sizes > 0).sum():
                LOG.warning(
                    "The sums of half of the clients are unlike those of the others, so nobody can "
                    "say whose are right, and none is suspected"
                )
                return cls(clients.names, sizes, pulls, by_size, np.zeros_like(out))
            reference, pulls = clients.without(names[out].tolist()), at_total
            if out.any():
                sizes, (pulls,) = _pulls(clients, reference)
        for i in np.flatnonzero(out).tolist():
            name, (outside,) = clients.names[i], _squared(pulls[i : i + 1])
            inside = _moved(clients, clients.joined(reference, [name]), name)
            by_size[i] *= inside / outside
        return cls(clients.names, sizes, pulls, by_size, np.nan_to_num(by_size) > SUSPECT)

    def alike(self) -> list[list[str]]:
        """Clients that hold the same, or nearly: sets of two and more that nobody suspects.

        What chance adds to a client's sums is another thing in each, unless it is of the same
        images: then both pull in one direction.
        """
        chosen = np.flatnonzero((self.sizes > 0) & ~self.suspected)
        length = np.linalg.norm(self.pulls[chosen], axis=1, keepdims=True)
        unit = self.pulls[chosen] / np.where(length > 0, length, 1)
        near = unit @ unit.T > ALIKE
        sets: dict[int, list[str]] = {}
        for i, row in enumerate(near):
            first = int(np.argmax(row)) if row.any() else i
            sets.setdefault(first, []).append(self.names[chosen[i]])
        return [names for names in sets.values() if len(names) > 1]


def _pulls(clients: Together, *references: Arrays) -> tuple[Floats, NDArray[np.float32]]:
    """Sizes (clients,) and pulls (references, clients, dim x outputs) at their heads."""
    problems = [Problem.of(*matrices(sums, clients.scale)) for sums in references]
    heads = [(one.regression(RATIO), np.sqrt(one.shrunk(RATIO))) for one in problems]
    sizes = np.zeros(len(clients.names))
    pulls = np.zeros((len(problems), len(sizes), problems[0].rotated.size), np.float32)

    def of_client(i: int) -> None:
        own = matrices(clients.read(clients.names[i]), clients.scale)
        sizes[i] = own[0][-1, -1]
        for pull, problem, (w, root) in zip(pulls, problems, heads, strict=True):
            centred = _centred_pull(own, w, problem.mean)
            pull[i] = (problem.vectors.T @ centred / root).ravel()

    side_by_side(of_client, range(len(sizes)))
    return sizes, pulls


def _squared(pulls: NDArray[np.float32]) -> Floats:
    """The squared lengths (clients,) of pulls, without a copy of them in float64."""
    return np.asarray(np.einsum("ij,ij->i", pulls, pulls, dtype=np.float64))


def _moved(clients: Together, joined: Arrays, name: str) -> float:
    """The squared distance that a client moves the head of sums that it has `joined`."""
    solved = _Solved.of(*matrices(joined, clients.scale), RATIO)
    centred = _centred_pull(matrices(clients.read(name), clients.scale), solved.w, solved.mean)
    return float((centred * np.linalg.solve(solved.shrunk, centred)).sum())


def _centred_pull(own: tuple[Floats, Floats], w: Floats, mean: Floats) -> Floats:
    """How sums pull at a head, (dim, outputs), where the bias follows from the other weights."""
    pull = own[1] - own[0] @ w
    return np.asarray(pull[:-1] - np.outer(mean, pull[-1]))


def _by_size(sizes: Floats, moved: Floats, usual: NDArray[np.bool_]) -> Floats:
    """The excess (clients,) of squared distances, by the medians of those that are `usual`."""
    usual = usual & (sizes > 0)
    s = np.where(sizes > 0, sizes, np.nan) / np.median(sizes[usual])
    by_size = moved / np.maximum(s, s**2)
    return np.asarray(by_size / max(float(np.median(by_size[usual])), np.finfo(float).tiny))


def head_of(sums: Arrays, valid: tuple[Floats, Floats], ratio: float, scale: Floats) -> Arrays:
    """The head of train sums at a given ratio, as `ridge.solve` makes one, in a fifth of its time.

    It is solved for that ratio alone, and calibrated by X'X and X'Y of validation.
    """
    own = matrices(sums, scale)
    logits = calibrate(_Solved.of(*own, ratio).w, own, valid) * scale[:, None]
    return {"weight": logits[:-1].T.astype(np.float32), "bias": logits[-1].astype(np.float32)}


@dataclass(frozen=True)
class _Solved:
    """The regression of one ratio: what `ridge.Problem` knows of all."""

    shrunk: Floats  # (dim, dim) the centred X'X with lambda
    mean: Floats  # (dim,) of the features
    w: Floats  # (dim + 1, outputs), the bias last

    @classmethod
    def of(cls, xx: Floats, xy: Floats, ratio: float) -> "_Solved":
        mean, share = xx[:-1, -1] / xx[-1, -1], xy[-1] / xx[-1, -1]
        shrunk = xx[:-1, :-1] - np.outer(mean, xx[-1, :-1])
        np.fill_diagonal(shrunk, shrunk.diagonal() + ratio * shrunk.trace() / len(shrunk))
        weight = np.linalg.solve(shrunk, xy[:-1] - np.outer(mean, xy[-1]))
        return cls(shrunk, mean, np.vstack([weight, share - mean @ weight]))
