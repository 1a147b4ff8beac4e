"""How the scores of a final model become probabilities and answers: decided on validation."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from celeba_fl.common.arrays import Arrays, Floats
from celeba_fl.evaluation.calibration import Calibration, fit
from celeba_fl.evaluation.metrics import Counts
from celeba_fl.evaluation.thresholds import best_thresholds


@dataclass(frozen=True)
class Answers:
    """What is made of scores: first they are calibrated, then those above `thresholds` are a yes.

    There is no calibration where scores stay as they are. `by` is the part whose examples decide,
    ``server_valid`` or ``valid``; empty if there are none.
    """

    thresholds: Floats
    calibration: Calibration | None = None
    by: str = ""

    def head(self, arrays: Arrays) -> Arrays:
        """A linear head whose scores are the calibrated ones."""
        return self.calibration.head(arrays) if self.calibration else arrays

    def judge(self, counts: Counts) -> Counts:
        """Counts of the calibrated scores, at the edges of bins nearest to the thresholds."""
        if self.calibration:
            counts = counts.calibrated(self.calibration)
        return counts.at(self.thresholds)

    def metadata(self) -> dict[str, str]:
        """What a model file says of them."""
        found = {"thresholds": json.dumps(self.thresholds.tolist())}
        if self.calibration:
            lists = {key: array.tolist() for key, array in vars(self.calibration).items()}
            found["calibration"] = json.dumps({"by": self.by, **lists})
        return found


def decide(
    parts: Mapping[str, Counts], attributes: int, calibrated: bool, rule: str, most_lost: float
) -> Answers:
    """The answers by the first of some parts that has examples.

    `rule` says how thresholds are chosen, as the key `thresholds` does; ``capped`` are those that
    cost no more than `most_lost` of the right answers. Without any examples scores stay as they
    are, and 0 decides.
    """
    thresholds, calibration = np.zeros(attributes), None
    by = next((part for part, counts in parts.items() if counts.n.any()), "")
    if by and calibrated:
        calibration = fit(parts[by].positives, parts[by].negatives)
    if by and rule != "zero":
        counts = parts[by].calibrated(calibration) if calibration else parts[by]
        thresholds = best_thresholds(counts, most_lost if rule == "capped" else 1.0)
    return Answers(thresholds, calibration, by)
