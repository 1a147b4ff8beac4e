"""Learning from a teacher's labels where the model disagrees, and what that changed.

Agreement is counted on the clients, before training in each round; what was fixed and what was
broken is counted on the test images, between the model that the rounds started from (the base) and
the final one.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.arrays import Arrays, Floats
from celeba_fl.data.schema import group_names, membership
from celeba_fl.data.teacher import UNASKED, Answers
from celeba_fl.evaluation.intervals import Estimate, identity_sums, ratio_moments
from celeba_fl.evaluation.metrics import Rows, ratio, rows_of

Bools = NDArray[np.bool_]
COUNTS = ("asked", "answered", "agreed", "right")


def count_answers(answers: Answers, labels: Bools, predicted: Bools) -> Arrays:
    """Counts of a teacher's answers to some images, (attributes,) int64 that add up over clients.

    ``teacher_asked`` and ``teacher_answered``; ``teacher_agreed``, where the model predicts the
    same; and ``teacher_right``, where the annotation is the same. All arguments (n, attributes).
    """
    sure, yes = answers >= 0, answers == 1
    outcomes = (answers != UNASKED, sure, sure & (yes == predicted), sure & (yes == labels))
    return {f"teacher_{key}": c.sum(axis=0) for key, c in zip(COUNTS, outcomes, strict=True)}


def agreement(counts: Mapping[str, np.ndarray]) -> float:
    """Share of the teacher's answers that the model gives too; NaN without any."""
    agreed, answered = (counts[f"teacher_{key}"].sum() for key in ("agreed", "answered"))
    return float(ratio(agreed, answered))


def teacher_rows(split: str, counts: Mapping[str, np.ndarray], attributes: Sequence[str]) -> Rows:
    """Rows of `teacher.csv`: per attribute labels asked for, and shares of the answers."""
    asked, answered, agreed, right = (counts[f"teacher_{key}"] for key in COUNTS)
    columns = {"asked": asked, "answered": answered}
    columns |= {"agreement": ratio(agreed, answered), "accuracy": ratio(right, answered)}
    return rows_of(columns, attributes, split=split)


def compare(
    base: Bools,
    final: Bools,
    labels: Bools,
    celeb_id: np.ndarray,
    attributes: Sequence[str],
    groupings: Sequence[tuple[str, ...]],
) -> Rows:
    """Rows of `corrections.csv`: what the final model fixed and broke of the base's answers.

    For all images (group empty) and each group, and for all attributes together (attribute
    empty) and each: accuracies, their difference with its 95 % interval over identities, and
    McNemar's test, also after Holm's correction for the attributes of one group (1979, "A Simple
    Sequentially Rejective Multiple Test Procedure", Scand. J. Stat. 6(2), 65-70). The test takes
    images for independent, which those of one person are not: where the two disagree, believe the
    interval. All attributes together have no p: answers on one image go together.
    """
    before, after = base == labels, final == labels
    members = [("", "", np.ones(len(labels), bool))]
    for grouping in groupings:
        names = zip(group_names(grouping), membership(labels, attributes, grouping).T, strict=True)
        members += [(",".join(grouping), name, member) for name, member in names]
    rows: Rows = []
    for named, group, member in members:
        outcomes = np.stack([before, after, after & ~before, before & ~after], axis=2)
        sums = identity_sums(outcomes * member[:, None, None], celeb_id)
        images = identity_sums(member.astype(np.int64), celeb_id)
        columns = _columns(sums, images)
        rows += rows_of(columns, ["", *attributes], split="test", grouping=named, group=group)
    return rows


def _columns(sums: Floats, images: Floats) -> dict[str, np.ndarray]:
    """Columns of one group, from sums (identities, attributes, 4) and images (identities,)."""
    together = np.concatenate([sums.sum(axis=1, keepdims=True), sums], axis=1)
    n = images.sum() * np.array([sums.shape[1], *np.ones(sums.shape[1], int)])
    right, now, fixed, broken = together.sum(axis=0).astype(np.int64).T
    gains = together[:, :, 2] - together[:, :, 3]
    own = np.outer(images, n / max(images.sum(), 1))  # answers of each identity
    ends = Estimate.of_ratio(ratio_moments(gains, own).sum(axis=0)).interval()
    low, high = np.clip(ends, -1, 1)
    p = np.array([*map(mcnemar, fixed[1:].tolist(), broken[1:].tolist())])
    return {
        "n": n.astype(np.int64),
        "base_accuracy": ratio(right, n),
        "accuracy": ratio(now, n),
        "difference": ratio(fixed - broken, n),
        "difference_low": low,
        "difference_high": high,
        "fixed": fixed,
        "broken": broken,
        "p": np.append(np.nan, p),
        "p_holm": np.append(np.nan, holm(p)),
    }


def mcnemar(fixed: int, broken: int) -> float:
    """Two-sided p of as many answers fixed and broken, or more unequal numbers, by chance alone.

    The exact form of McNemar's test (1947, "Note on the Sampling Error of the Difference between
    Correlated Proportions or Percentages", Psychometrika 12(2), 153-157): fixed + broken tosses of
    a fair coin. 1 where nothing changed.
    """
    tosses = fixed + broken
    ways = tail = 1  # of so many heads, and of as many at the most
    for heads in range(min(fixed, broken)):
        ways = ways * (tosses - heads) // (heads + 1)
        tail += ways
    return min(1.0, 2 * tail / 2**tosses)


def holm(p: Floats) -> Floats:
    """Holm's adjusted p-values of a family, (k,): max over j <= i of (k - j + 1) p_j, p sorted."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    steps = np.arange(len(p), 0, -1) * p[order]
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted
