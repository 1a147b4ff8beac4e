"""Heads compared by their gaps, by hand and against fairlearn."""

import numpy as np
import pytest
from fairlearn.metrics import equalized_odds_difference

from celeba_fl.evaluation import fair_heads
from celeba_fl.evaluation.fair_heads import comparable, compare_heads, group_thresholds

NAMES = ("Male", "Bald", "Smiling", "Young")


def judged(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, answers of two heads, of which the second errs less, and people."""
    rng = np.random.default_rng(seed)
    labels = rng.random((800, 4)) < 0.5
    errs = rng.random((2, 800, 4)) < (0.15 + 0.3 * labels[:, :1]) * [[[1.0]], [[0.5]]]
    return labels, labels ^ errs, np.arange(800) // 8


def test_what_can_be_compared() -> None:
    labels = np.zeros((100, 3), bool)
    labels[:50, 0] = True
    labels[30:70, 1] = True  # 20 in each group
    labels[31:70, 2] = True  # 19 in one
    member = np.stack([~labels[:, 0], labels[:, 0]], axis=1)
    assert comparable(labels, member, NAMES[:3], ("Male",)).tolist() == [False, True, False]
    everyone = np.ones((100, 1), bool)
    assert comparable(labels, everyone, NAMES[:3], ("Male",)).tolist() == [False, True, True]


def test_figures_are_fairlearns_and_the_plain_head_is_the_measure() -> None:
    labels, answers, people = judged()
    rows, gaps = compare_heads(list(answers), labels, people, NAMES, ("Male",))
    right = [
        [
            equalized_odds_difference(labels[:, i], yes[:, i], sensitive_features=labels[:, 0])
            for i in (1, 2, 3)
        ]
        for yes in answers
    ]
    assert np.isnan(gaps[:, 0]).all()
    np.testing.assert_allclose(gaps[:, 1:], right)
    plain, other = rows
    assert plain["compared"] == 3
    assert plain["ratio"] == plain["ratio_low"] == plain["ratio_high"] == 1
    assert plain["accuracy_difference"] == 0
    assert other["ratio"] == pytest.approx(np.mean(right[1]) / np.mean(right[0]))
    accuracy = (answers == labels).mean(axis=(1, 2))
    assert other["accuracy"] == pytest.approx(accuracy[1])
    assert other["accuracy_difference"] == pytest.approx(accuracy[1] - accuracy[0])
    assert other["accuracy_difference_low"] < other["accuracy_difference"]
    assert other["accuracy_difference"] < other["accuracy_difference_high"]


def test_the_widest_are_those_of_the_plain_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_heads, "WIDEST", 1)
    labels, answers, people = judged()
    rows, gaps = compare_heads(list(answers), labels, people, NAMES, ("Male",))
    widest = int(np.nanargmax(gaps[0]))
    assert rows[1]["widest_ratio"] == pytest.approx(gaps[1, widest] / gaps[0, widest])
    yes, truth = answers[1, :, widest], labels[:, widest]
    balanced = (yes[truth].mean() + (~yes[~truth]).mean()) / 2
    assert rows[1]["widest_balanced_accuracy"] == pytest.approx(balanced)


def test_nothing_to_compare_is_no_figure() -> None:
    labels, answers, people = judged()
    (row,), gaps = compare_heads([answers[0, :30]], labels[:30], people[:30], NAMES, ("Male",))
    assert row["compared"] == 0
    assert np.isnan([row["equalized_odds_difference"], row["widest_ratio"]]).all()
    assert row["accuracy"] == pytest.approx((answers[0, :30] == labels[:30]).mean())
    assert np.isnan(gaps).all()


def test_thresholds_of_groups_that_score_apart() -> None:
    """The second group scores 2 higher, whatever its labels: so does its threshold, about."""
    rng = np.random.default_rng(0)
    group, labels = rng.random(4000) < 0.5, rng.random((4000, 2)) < 0.5
    member = np.stack([~group, group], axis=1)
    scores = 4.0 * labels - 2 + rng.normal(size=(4000, 2)) + 2.0 * group[:, None]
    changes = np.array([True, False])
    found = group_thresholds(scores, labels, member, changes, 1.0)
    assert found[:, 1].tolist() == [0, 0]
    assert found[1, 0] - found[0, 0] == pytest.approx(2, abs=0.6)
    rates = [
        [(scores[one & (labels[:, 0] == c), 0] > t).mean() for c in (False, True)]
        for one, t in zip(member.T, found[:, 0], strict=True)
    ]
    np.testing.assert_allclose(rates[0], rates[1], atol=0.02)


def test_thresholds_cost_no_more_than_they_may() -> None:
    rng = np.random.default_rng(1)
    group, labels = rng.random(1000) < 0.5, rng.random((1000, 1)) < 0.3
    member = np.stack([~group, group], axis=1)
    scores = 2.0 * labels - 1 + rng.normal(size=(1000, 1)) - 1.5 * (group & labels[:, 0])[:, None]
    right = []
    for cost in (0.0, 0.02, 1.0):
        found = group_thresholds(scores, labels, member, np.array([True]), cost)
        yes = scores > member.astype(float) @ found
        right.append(float((yes == labels).mean()))
        assert right[-1] >= ((scores > 0) == labels).mean() - cost
    assert right[0] > right[2]
