"""Heads compared by how equal their odds are between groups, and what that costs.

All are judged on the same images. Intervals come from leaving out one person at a time, for
each head alike, so what a head changes is paired.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.arrays import Floats
from celeba_fl.data.schema import membership
from celeba_fl.evaluation import fairness
from celeba_fl.evaluation.intervals import Estimate, identity_sums
from celeba_fl.evaluation.metrics import Rows, ratio

Answers = NDArray[np.bool_]  # (n, attributes): whether each is predicted
# Attributes are compared where each group has so many examples with them, and as many without.
FEWEST = 20
# Of those, so many with the largest difference under the plain head are looked at by themselves.
WIDEST = 10
# Scores that are tried as the threshold of a group.
TRIED = 65


def comparable(
    labels: Answers, member: NDArray[np.bool_], attributes: Sequence[str], grouping: Sequence[str]
) -> NDArray[np.bool_]:
    """Attributes that can be compared: (attributes,), never one that makes the groups."""
    with_it = member.T.astype(np.int64) @ labels
    without = member.sum(axis=0)[:, None] - with_it
    enough = (np.minimum(with_it, without) >= FEWEST).all(axis=0)
    return np.asarray(enough & ~np.isin(attributes, grouping))


def compare_heads(
    answers: Sequence[Answers],
    labels: Answers,
    celeb_id: np.ndarray,
    attributes: Sequence[str],
    grouping: Sequence[str],
) -> tuple[Rows, Floats]:
    """A row for each head, of which the first is the plain one; and their differences.

    ``accuracy`` and ``balanced_accuracy`` are means over all attributes, and
    ``equalized_odds_difference`` over those that are `comparable`; ``widest_`` is of those of them,
    `WIDEST` at most, that are farthest apart by the plain head. ``accuracy_difference`` is the head
    less the plain one, and ``ratio`` the head's difference between groups as a part of the plain
    one's. The equalized odds differences are (heads, attributes), NaN where it is not comparable.
    """
    member = membership(labels, attributes, grouping)
    compared = comparable(labels, member, attributes, grouping)
    sums = [identity_sums(fairness.outcomes(one, labels, member), celeb_id) for one in answers]
    people = len(sums[0])
    # Of all people, and without each of them.
    weights = np.vstack([np.ones(people), 1 - np.eye(people)])
    judged = [_judge(np.tensordot(weights, one, 1)) for one in sums]
    gaps = np.array([np.where(compared, gap[0], np.nan) for _, _, gap in judged])
    order = np.argsort(-np.nan_to_num(gaps[0], nan=-1.0), kind="stable")
    widest = order[: min(WIDEST, int(compared.sum()))]
    plain: dict[str, Floats] = {}
    rows: Rows = []
    for accuracy, balanced, gap in judged:
        values = {
            "accuracy": accuracy.mean(axis=1),
            "balanced_accuracy": _mean(balanced),
            "equalized_odds_difference": _mean(gap[:, compared]),
            "widest_balanced_accuracy": _mean(balanced[:, widest]),
            "widest_equalized_odds_difference": _mean(gap[:, widest]),
        }
        plain = plain or values
        values["accuracy_difference"] = values["accuracy"] - plain["accuracy"]
        for name in ("", "widest_"):
            column = f"{name}equalized_odds_difference"
            values[f"{name}ratio"] = ratio(values[column], plain[column])
        row: dict[str, object] = {"compared": int(compared.sum())}
        for name, draws in values.items():
            low, high = Estimate.of_replicates(draws[0], draws[1:], np.array(people)).interval()
            row |= {name: draws[0], f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return rows, gaps


def _judge(counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Accuracy, balanced accuracy and equalized odds difference, (draws, attributes) each.

    Of counts (draws, groups, 4, attributes).
    """
    gap = {name: ratio(*part) for name, part in fairness.fractions(counts).items()}
    whole = {name: ratio(*part) for name, part in fairness.fractions(counts.sum(axis=1)).items()}
    balanced = (whole["tpr"] + 1 - whole["fpr"]) / 2
    return whole["accuracy"], balanced, fairness.differences(gap)["equalized_odds_difference"]


def _mean(values: Floats) -> Floats:
    """Means over the attributes for which there is a value, (draws,)."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1))


def group_thresholds(
    scores: Floats,
    labels: Answers,
    member: NDArray[np.bool_],
    changes: NDArray[np.bool_],
    cost: float,
) -> Floats:
    """Thresholds of two groups, (2, attributes), that leave the smallest equalized odds difference.

    Of all pairs that cost an attribute no more than `cost` of its accuracy on these examples
    (Hardt et al., NeurIPS 2016, choose thresholds by group, too). Attributes that are not among
    `changes` stay at 0.
    """
    thresholds = np.zeros((2, scores.shape[1]))
    for at in np.flatnonzero(changes).tolist():
        tried, rates, errors = [], [], []
        for one in member.T:
            s, y = scores[one, at], labels[one, at]
            edges = np.append(0.0, np.quantile(s, np.linspace(0, 1, TRIED - 1)))
            yes = s[:, None] > edges
            tried.append(edges)
            rates.append(np.stack([yes[y].mean(axis=0), yes[~y].mean(axis=0)]))
            errors.append((yes != y[:, None]).sum(axis=0))
        gap = np.abs(rates[0][:, :, None] - rates[1][:, None]).max(axis=0)
        wrong = errors[0][:, None] + errors[1]
        allowed = wrong <= wrong[0, 0] + cost * len(scores)
        best = np.lexsort((wrong.ravel(), np.where(allowed, gap, np.inf).ravel()))[0]
        thresholds[:, at] = [
            edges[i] for edges, i in zip(tried, np.unravel_index(best, gap.shape), strict=True)
        ]
    return thresholds
