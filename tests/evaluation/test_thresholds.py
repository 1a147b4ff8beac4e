"""Thresholds from counts: by hand, and against all that could be chosen."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toys import nothing_counted

from celeba_fl.evaluation import thresholds
from celeba_fl.evaluation.bins import EDGES
from celeba_fl.evaluation.calibration import Calibration
from celeba_fl.evaluation.metrics import Counts
from celeba_fl.evaluation.thresholds import best_thresholds

# One attribute, 10 times eight examples: TP 2 (the scores 3, 1), FN 1 (-1), FP 1 (2), TN 4.
SCORES = np.tile([3.0, 1, -1, 2, -2, -3, -4, -5], 10)[:, None]
LABELS = np.tile(np.array([1, 1, 1, 0, 0, 0, 0, 0], bool), 10)[:, None]


@pytest.fixture
def decided() -> Iterator[None]:
    """One example of each kind decides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "FEW", 1)
        yield


def test_the_best_balanced_accuracy_by_hand() -> None:
    # Above -2: all three positives, one of five negatives; -1.125 to -1.875 say the same.
    found = best_thresholds(Counts.of(SCORES, LABELS))
    assert found == [-1.125]
    assert Counts.of(SCORES, LABELS).at(found).balanced_accuracy() == (1 + 4 / 5) / 2


def test_the_best_that_keeps_accuracy_by_hand() -> None:
    """Of 100 examples, 90 without the attribute.

    At 0: 2 of 10 positives and all negatives are right, 92 in all. Above -1: 6 positives and 88
    negatives, 94. Above -2: all 10 positives and 76 negatives, 86: the best balance, for 6 points.
    """
    positives = [1] * 2 + [-0.5] * 4 + [-1.5] * 4
    negatives = [-0.5] * 2 + [-1.5] * 12 + [-3] * 76
    scores = np.array([*positives, *negatives], float)[:, None]
    labels = np.arange(100)[:, None] < 10
    counts = Counts.of(scores, labels)
    above = {cost: counts.at(best_thresholds(counts, cost)) for cost in (0.0, 0.059, 0.06, 1.0)}
    assert [judged.tp.tolist() for judged in above.values()] == [[6], [6], [10], [10]]
    assert [judged.accuracy()[0] for judged in above.values()] == [0.94, 0.94, 0.86, 0.86]


def test_it_is_0_where_few_examples_would_decide() -> None:
    """Nine positives, whose best threshold is -1.125: nothing to go by."""
    few = np.ones(len(LABELS), bool)
    few[np.flatnonzero(LABELS[:, 0])[9:]] = False
    assert LABELS[few].sum() == 9
    assert best_thresholds(Counts.of(SCORES[few], LABELS[few])) == [0]
    assert best_thresholds(Counts.of(-SCORES[few], ~LABELS[few])) == [0]


@pytest.mark.usefixtures("decided")
def test_it_is_0_where_nothing_tells_another() -> None:
    labels = np.array([[True, False, True], [True, False, False]])
    counts = Counts.of(np.array([[3.0, 3, 5], [-3, -3, -5]]), labels)
    assert best_thresholds(counts).tolist() == [0, 0, 0]
    assert best_thresholds(nothing_counted(2)).tolist() == [0, 0]


def test_of_calibrated_counts_it_is_where_the_calibrated_score_is() -> None:
    counts = Counts.of(SCORES, LABELS).calibrated(Calibration(np.array([0.5]), np.array([0.25])))
    # 0 is where a raw score is -0.5, and -1.125 is the nearest of the best.
    assert best_thresholds(counts) == [-1.125 / 2 + 0.25]
    assert counts.at(best_thresholds(counts)).balanced_accuracy() == (1 + 4 / 5) / 2


@pytest.mark.usefixtures("decided")
@given(st.data())
def test_no_edge_is_better_than_the_best(data: st.DataObject) -> None:
    shape = data.draw(st.integers(0, 40)), data.draw(st.integers(1, 3))
    coarse = st.integers(-32, 32).map(lambda i: i / 16)
    scores = data.draw(arrays(np.float64, shape, elements=coarse | st.floats(-2.0, 2.0)))
    labels = data.draw(arrays(bool, shape))
    most_lost = data.draw(st.sampled_from([0.0, 0.05, 1.0]))
    found = best_thresholds(Counts.of(scores, labels), most_lost)
    for truth, score, best in zip(labels.T, scores.T, found, strict=True):
        if truth.all() or not truth.any():
            assert best == 0
            continue
        right = ((score > 0) == truth).mean()
        reached = {
            edge: (score > edge)[truth].mean() / 2 + (score <= edge)[~truth].mean() / 2
            for edge in EDGES.tolist()
            if ((score > edge) == truth).mean() >= right - most_lost - 1e-9
        }
        assert reached[best] == pytest.approx(max(reached.values()))
