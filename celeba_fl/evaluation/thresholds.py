"""The scores above which an attribute is predicted, chosen on validation examples."""

import numpy as np

from celeba_fl.common.arrays import Floats, Ints
from celeba_fl.evaluation.bins import EDGES
from celeba_fl.evaluation.metrics import Counts, ratio

# Examples with the attribute, and without it, below which counts decide no threshold.
FEW = 10


def best_thresholds(counts: Counts, most_lost: float = 1.0) -> Floats:
    """The threshold of each attribute with the highest balanced accuracy, (attributes,).

    Of those that give up at most this share of the answers that are right at 0. Of equally good
    ones the nearest to 0, which is also where an attribute stays of which fewer than `FEW` examples
    of either kind are there. The examples that decide must not be those that are judged.
    """
    edges = (counts.slope * EDGES[:, None] + counts.offset).T + np.zeros((len(counts.n), 1))
    p, negatives = counts.p[:, None], (counts.n - counts.p)[:, None]
    tp, tn = p - _below(counts.positives), _below(counts.negatives)
    balanced = (ratio(tp, p + 0 * tp) + ratio(tn, negatives + 0 * tn)) / 2
    at_zero = counts.at(np.zeros(len(edges)))
    right = (at_zero.accuracy() * counts.n)[:, None]
    reached = np.where(right - (tp + tn) <= most_lost * counts.n[:, None] + 1e-6, balanced, -1.0)
    distance = np.where(reached == reached.max(axis=1)[:, None], np.abs(edges), np.inf)
    best = distance.argmin(axis=1)[:, None]
    gained = np.take_along_axis(reached, best, 1)[:, 0] > at_zero.balanced_accuracy()
    decided = np.minimum(counts.p, counts.n - counts.p) >= FEW
    return np.where(gained & decided, np.take_along_axis(edges, best, 1)[:, 0], 0.0)


def _below(histogram: Ints) -> Ints:
    """How many are not above each of `EDGES`, (attributes, edges)."""
    return np.cumsum(histogram, axis=1)[:, :-1]
