"""Examples in groups that some of their labels make, and the fair heads of their sums."""

import numpy as np

from celeba_fl.common.arrays import Arrays
from celeba_fl.models.fair_ridge import FairRidge, with_groups
from celeba_fl.models.ridge import sums_of

# Outputs 0 and 1 make the groups.
MARKS = {1: (0,), 2: (1, 0, 0)}


def member_of(y: np.ndarray, of: int) -> np.ndarray:
    """Members of the groups of the first so many outputs."""
    code = y[:, :of] @ (1 << np.arange(of)[::-1])
    return np.asarray(code[:, None] == np.arange(1 << of))


def faces(n: int, seed: int = 0, dim: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Features in whole steps, and five labels that depend on the groups."""
    rng = np.random.default_rng(seed)
    y = rng.random((n, 5)) < [0.4, 0.6, 0.3, 0.5, 0.2]
    y[:, 2] |= y[:, 0] & (rng.random(n) < 0.5)
    x = rng.normal(size=(n, dim)) + y @ rng.normal(size=(5, dim)) + 3
    return np.rint(x * 2**10).astype(np.float32) / 2**10, y


def summed(x: np.ndarray, y: np.ndarray, of: int) -> Arrays:
    return sums_of(x, with_groups(y, member_of(y, of)), np.ones(len(x)))


def fair(of: int, factor: np.ndarray | None = None) -> tuple[FairRidge, np.ndarray, np.ndarray]:
    (x, y), (other, truth) = faces(600), faces(90, 1)
    valid = sums_of(other, truth, np.ones(len(other)))
    return FairRidge(summed(x, y, of), valid, factor, MARKS[of]), x.astype(float), y
