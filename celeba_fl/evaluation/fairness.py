"""Demographic groups compared: the rates of each, how far they are apart, and how sure that is.

Definitions are fairlearn's (`MetricFrame` and
https://fairlearn.org/main/user_guide/assessment/common_fairness_metrics.html), with one exception:
a rate without the positives or negatives that it needs is undefined, where fairlearn says 0. An
undefined rate is left out of differences, and a difference needs two groups.

Every figure comes from four counts a group and attribute, so that clients send sums only. How sure
it is follows from those of each person, or of each client (`celeba_fl.evaluation.gaps`).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.arrays import Arrays, Floats
from celeba_fl.data.schema import membership
from celeba_fl.evaluation.metrics import Counts

Grouping = tuple[str, ...]


def outcomes(
    predicted: NDArray[np.bool_], labels: NDArray[np.bool_], member: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Four marks of each example by group and attribute: there, positive, true and false positive.

    (n, groups, 4, attributes), for predictions and labels (n, attributes) and members (n, groups).
    Their sums over the examples are the counts that the rest of this module takes.
    """
    four = [np.ones_like(labels), labels, labels & predicted, ~labels & predicted]
    return member[:, :, None, None] & np.stack(four, axis=1)[:, None]


def count_groups(
    scores: Floats,
    labels: NDArray[np.bool_],
    attributes: Sequence[str],
    groupings: Sequence[Grouping],
) -> Arrays:
    """Score histograms of the groups of all groupings, (groups, attributes, bins), for a message.

    Histograms, so that thresholds can be chosen after they are here. No losses: that of a group of
    one image would tell its score to the last digit.
    """
    members = np.concatenate([membership(labels, attributes, one) for one in groupings], axis=1).T
    sent = Counts.stack([Counts.of(scores[m], labels[m]) for m in members]).to_arrays()
    return {f"group_{key}": sent[key] for key in ("positives", "negatives")}


def grouped_counts(total: Arrays) -> Counts:
    """The summed histograms of `count_groups`; their losses are unknown."""
    positives, negatives = (
        total[f"group_{key}"].astype(np.int64) for key in ("positives", "negatives")
    )
    return Counts(positives, negatives, np.full(positives.shape[:-1], np.nan))


def fractions(counts: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Numerator and denominator of each rate, (..., groups, attributes).

    From counts (..., groups, 4, attributes): examples, positives, true and false positives::

        accuracy        (TP + TN) / n
        tpr             TP / (TP + FN)       true positive rate
        fpr             FP / (FP + TN)       false positive rate
        selection_rate  (TP + FP) / n        share that is predicted to have the attribute
    """
    n, p, tp, fp = np.moveaxis(counts, -2, 0)
    return {
        "accuracy": (tp + (n - p - fp), n),
        "tpr": (tp, p),
        "fpr": (fp, n - p),
        "selection_rate": (tp + fp, n),
    }


def difference(rates: Floats) -> Floats:
    """The highest minus the lowest rate of (..., groups, attributes), NaN unless two have one."""
    several = (~np.isnan(rates)).sum(axis=-2) > 1
    low, high = np.fmin.reduce(rates, axis=-2), np.fmax.reduce(rates, axis=-2)
    return np.where(several, high - low, np.nan)


def differences(rates: Mapping[str, Floats]) -> dict[str, Floats]:
    """Differences between groups, (..., attributes), from the rates of `fractions`.

    With max and min over the groups for which the rate is defined::

        demographic_parity_difference   max selection rate - min selection rate
        equal_opportunity_difference    max TPR - min TPR (Hardt et al., NeurIPS 2016)
        equalized_odds_difference       the larger of max TPR - min TPR and max FPR - min FPR
        worst_group_accuracy            min accuracy

    A difference is never below 0, so chance alone makes it larger than 0: `gaps.by_chance` says by
    how much.
    """
    opportunity = difference(rates["tpr"])
    return {
        "demographic_parity_difference": difference(rates["selection_rate"]),
        "equal_opportunity_difference": opportunity,
        "equalized_odds_difference": np.maximum(opportunity, difference(rates["fpr"])),
        "worst_group_accuracy": np.fmin.reduce(rates["accuracy"], axis=-2),
    }
