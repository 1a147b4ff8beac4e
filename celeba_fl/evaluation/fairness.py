"""Demographic groups compared: the rates of each, how far they are apart, and how sure that is.

Definitions are fairlearn's (`MetricFrame` and
https://fairlearn.org/main/user_guide/assessment/common_fairness_metrics.html), with one exception:
a rate without the positives or negatives that it needs is undefined, where fairlearn says 0. An
undefined rate is left out of differences, and a difference needs two groups.

Every figure comes from four counts a group and attribute, so that clients send sums only, and each
resample of the test images is one row of a matrix product.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.arrays import Arrays, Floats, Ints
from celeba_fl.data.schema import group_names, membership
from celeba_fl.evaluation.intervals import draw_identities, identity_sums, interval, wilson
from celeba_fl.evaluation.metrics import Counts, Rows, ratio, rows_of

Grouping = tuple[str, ...]
# By measure: lower and upper end.
Bounds = Mapping[str, tuple[Floats, Floats]]


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

    A difference is never below 0, so chance alone makes it larger than 0: in small groups, see the
    intervals of the rates first.
    """
    opportunity = difference(rates["tpr"])
    return {
        "demographic_parity_difference": difference(rates["selection_rate"]),
        "equal_opportunity_difference": opportunity,
        "equalized_odds_difference": np.maximum(opportunity, difference(rates["fpr"])),
        "worst_group_accuracy": np.fmin.reduce(rates["accuracy"], axis=-2),
    }


def wilson_bounds(counts: Ints) -> Bounds:
    """Intervals of the rates where there are only counts, as if the examples were independent."""
    return {name: wilson(*fraction) for name, fraction in fractions(counts).items()}


def identity_bounds(sums: Floats) -> Bounds:
    """Intervals of rates and differences, from drawing identities with replacement.

    `sums` are the counts of each identity, (identities, groups, 4, attributes).

    Where every resample gives the same value (there is only one identity, or a rate is 0 or 1),
    drawing says nothing about other people. A rate then has Wilson's interval with
    identities in place of examples, as if all images of a person were one; a difference has none.
    """
    resamples = np.tensordot(draw_identities(len(sums)), sums, 1)
    drawn = {name: ratio(*fraction) for name, fraction in fractions(resamples).items()}
    bounds = {}
    for name, (part, whole) in fractions(sums).items():
        low, high = interval(drawn[name])
        people = (whole > 0).sum(axis=0)
        rate = ratio(part.sum(axis=0), whole.sum(axis=0))
        bounds[name] = _where(low < high, (low, high), wilson(rate * people, people))
    for name, values in differences(drawn).items():
        low, high = interval(values)
        bounds[name] = _where(low < high, (low, high), (np.nan, np.nan))
    return bounds


def compare_test(
    predicted: NDArray[np.bool_],
    labels: NDArray[np.bool_],
    celeb_id: np.ndarray,
    attributes: Sequence[str],
    groupings: Sequence[Grouping],
) -> tuple[Rows, Rows]:
    """Rows of `groups.csv` and `fairness.csv` for the test images, whose identities are known."""
    groups, fairness = [], []
    for grouping in groupings:
        member = membership(labels, attributes, grouping)
        sums = identity_sums(outcomes(predicted, labels, member), celeb_id)
        counts, people = sums.sum(axis=0).astype(np.int64), (sums[:, :, 0] > 0).sum(axis=0)
        more = _rows("test", attributes, grouping, counts, people, identity_bounds(sums))
        groups += more[0]
        fairness += more[1]
    return groups, fairness


def compare_clients(
    split: str, counts: Counts, attributes: Sequence[str], groupings: Sequence[Grouping]
) -> tuple[Rows, Rows]:
    """Rows of `groups.csv` and `fairness.csv` from the summed histograms of clients.

    Histograms of shape (groups, attributes, bins), the groups of all groupings in order.
    """
    groups, fairness = [], []
    four = np.stack([counts.n, counts.p, counts.tp, counts.fp], axis=-2)
    ends = np.cumsum([1 << len(grouping) for grouping in groupings])[:-1]
    for grouping, part in zip(groupings, np.split(four, ends), strict=True):
        unknown = np.full(part[:, 0].shape, np.nan)
        more = _rows(split, attributes, grouping, part, unknown, wilson_bounds(part))
        groups += more[0]
        fairness += more[1]
    return groups, fairness


def _rows(
    split: str,
    attributes: Sequence[str],
    grouping: Grouping,
    counts: Ints,
    people: np.ndarray,
    bounds: Bounds,
) -> tuple[Rows, Rows]:
    """The rows of one grouping; `people` is the number of identities, NaN if unknown."""
    rates = {name: ratio(*fraction) for name, fraction in fractions(counts).items()}
    names = group_names(grouping)
    where = {"split": split, "grouping": ",".join(grouping)}
    columns = {"n": counts[:, 0], "positives": counts[:, 1], "identities": people}
    columns |= _with_bounds(rates, bounds)
    groups: Rows = []
    for g, group in enumerate(names):
        own = {name: column[g] for name, column in columns.items()}
        groups += rows_of(own, attributes, **where, group=group)
    worst = np.where(np.isnan(rates["accuracy"]), np.inf, rates["accuracy"]).argmin(axis=0)
    measures = _with_bounds(differences(rates), bounds)
    measures["worst_group"] = np.where(counts[:, 0].any(axis=0), np.array(names)[worst], "")
    return groups, rows_of(measures, attributes, **where)


def _with_bounds(values: Mapping[str, Floats], bounds: Bounds) -> dict[str, np.ndarray]:
    """Columns of the values, each with those of its interval."""
    columns: dict[str, np.ndarray] = {}
    for name, array in values.items():
        low, high = bounds.get(name, (np.full(array.shape, np.nan),) * 2)
        columns |= {name: array, f"{name}_low": low, f"{name}_high": high}
    return columns


def _where(chosen: np.ndarray, one: Sequence[Any], other: Sequence[Any]) -> tuple[Floats, Floats]:
    low, high = (np.where(chosen, a, b) for a, b in zip(one, other, strict=True))
    return low, high
