"""Areas under the ROC and the precision-recall curve, and the calibration error, from scores.

Where the scores stay on the clients, `celeba_fl.evaluation.metrics.Counts` has the same from score
bins, with the most that areas can be off.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.arrays import Floats, Ints
from celeba_fl.evaluation.calibration import Reliability


@dataclass(frozen=True)
class ExactCurves:
    """Both areas of every attribute, from (n, attributes) scores and labels."""

    scores: Floats
    labels: NDArray[np.bool_]

    def auroc(self) -> Floats:
        """Area under the ROC curve, NaN without positives or negatives.

        Whole numbers up to the one division: 2 P N AUROC is twice the number of pairs in which the
        positive has the higher score, and once that of the ties (Hanley and McNeil 1982).
        """
        area = np.full(self.labels.shape[1], np.nan)
        for i in np.flatnonzero(self.labels.any(axis=0) & ~self.labels.all(axis=0)):
            tp, fp = self._points[i]
            wins = np.diff(fp, prepend=0) * (2 * tp - np.diff(tp, prepend=0))
            area[i] = wins.sum() / (2 * tp[-1] * fp[-1])
        return area

    def average_precision(self) -> Floats:
        """The precision at every distinct score, weighted by the positives that have it.

        NaN without positives.
        """
        area = np.full(self.labels.shape[1], np.nan)
        for i in np.flatnonzero(self.labels.any(axis=0)):
            tp, fp = self._points[i]
            area[i] = (np.diff(tp, prepend=0) * tp / (tp + fp)).sum() / tp[-1]
        return area

    def auroc_error(self) -> Floats:
        """0, NaN where `auroc` is."""
        return 0 * self.auroc()

    def average_precision_error(self) -> Floats:
        """0, NaN where `average_precision` is."""
        return 0 * self.average_precision()

    def calibration_error(self) -> Floats:
        """How far probabilities are from shares, NaN without examples."""
        return self.reliability.error()

    @cached_property
    def reliability(self) -> Reliability:
        """Probabilities beside shares."""
        return Reliability.of(self.scores, self.labels, ~self.labels)

    @cached_property
    def _points(self) -> list[tuple[Ints, Ints]]:
        """True and false positives at every distinct score, from the highest, (k,) each."""
        points = []
        for scores, labels in zip(self.scores.T, self.labels.T, strict=True):
            order = np.argsort(scores, kind="stable")[::-1]
            last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
            tp = np.cumsum(labels[order])[last]
            points.append((tp, last + 1 - tp))
        return points
