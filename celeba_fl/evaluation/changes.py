"""What changes from one head to another on the same images, with intervals over people.

Each figure is a mean over the attributes that are there with and without, and what an image adds
to it is known to first order (its influence): for AUROC, the share of images of the other class
that it is on the right side of, as in DeLong, DeLong and Clarke-Pearson (Biometrics, 1988). Images
of one person are added up before they are compared with those of others (Obuchowski,
"Nonparametric Analysis of Clustered ROC Curve Data", Biometrics, 1997). Differences are paired.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.arrays import Floats
from celeba_fl.evaluation.intervals import Estimate, identity_sums
from celeba_fl.evaluation.metrics import bce_with_logits

FIGURES = ("loss", "auroc", "balanced_accuracy")


@dataclass(frozen=True)
class Judged:
    """Figures of a head, and what each image adds to them; both in the order of `FIGURES`."""

    values: Floats  # (3,)
    influence: Floats  # (n, 3), of sum 0

    @classmethod
    def of(cls, scores: Floats, labels: NDArray[np.bool_]) -> "Judged":
        """Judge logits (n, attributes), which say yes above 0."""
        known = labels.any(axis=0) & ~labels.all(axis=0)
        loss = bce_with_logits(scores, labels).mean(axis=1)
        truth = labels[:, known].T
        right = [_placements(scores[:, known].T, truth), (scores[:, known].T > 0) == truth]
        columns = [(loss - loss.mean()) / len(loss)]
        values = [loss.mean()]
        for each in right:
            means = [(each * of).sum(axis=1) / of.sum(axis=1) for of in (truth, ~truth)]
            # Both classes count alike; for AUROC, their means are the same.
            parts = [
                np.where(of, each - mean[:, None], 0) / of.sum(axis=1)[:, None]
                for of, mean in zip((truth, ~truth), means, strict=True)
            ]
            ranked = each is right[0]
            columns.append(sum(parts).mean(axis=0) / (1 if ranked else 2))
            values.append(np.mean(means))
        return cls(np.array(values), np.column_stack(columns))


def change(before: Judged, after: Judged, celeb_id: np.ndarray) -> Estimate:
    """The change of each figure, in the order of `FIGURES`."""
    by_person = identity_sums(after.influence - before.influence, celeb_id)
    people = len(by_person)
    error = np.sqrt(np.square(by_person).sum(axis=0) * people / max(people - 1, 1))
    value = after.values - before.values
    return Estimate(value, error, np.full(len(value), float(people)))


def columns(changed: Estimate, prefix: str = "") -> Mapping[str, float]:
    """A change as columns of a table: of each figure, with ``_low`` and ``_high``."""
    row: dict[str, float] = {}
    for i, name in enumerate(FIGURES):
        ends = (changed.value, *changed.interval())
        row |= {
            f"{prefix}{name}_change{end}": float(of[i])
            for end, of in zip(("", "_low", "_high"), ends, strict=True)
        }
    return row


def _placements(scores: Floats, truth: NDArray[np.bool_]) -> Floats:
    """The share of the other class that each score is on the right side of, (attributes, n).

    Equal scores count half.
    """
    placed = np.empty(scores.shape)
    for place, row, yes in zip(placed, scores, truth, strict=True):
        order = np.argsort(row)  # as the search for numbers in order is far faster
        ranked, of, share = row[order], yes[order], np.empty(len(row))
        for own in (of, ~of):
            mine, others = ranked[own], ranked[~own]
            under, upto = np.searchsorted(others, mine), np.searchsorted(others, mine, "right")
            below = (under + upto) / 2 / len(others)
            share[own] = below if own is of else 1 - below
        place[order] = share
    return placed
