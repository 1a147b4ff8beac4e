from dataclasses import replace

import numpy as np
import pytest

from celeba_fl.evaluation.answers import Answers
from celeba_fl.evaluation.attribute_tables import (
    attribute_rows,
    calibration_rows,
    final_tables,
)
from celeba_fl.evaluation.calibration import Reliability
from celeba_fl.evaluation.curves import ExactCurves
from celeba_fl.evaluation.intervals import Estimate, ratio_moments
from celeba_fl.evaluation.metrics import Counts
from celeba_fl.evaluation.resampling import Scores

SCORES, LABELS = np.array([[3.0, 1], [2, -1]]), np.array([[True, True], [False, True]])
COLUMNS = (
    "split,attribute,n,positives,base_rates_loss,majority_accuracy,calibration_error,loss,"
    "accuracy,balanced_accuracy,f1,auroc,auroc_error,average_precision,average_precision_error,"
    "threshold,"
    "balanced_accuracy_low,balanced_accuracy_high,auroc_low,auroc_high,average_precision_low,"
    "average_precision_high,f1_low,f1_high,accuracy_low,accuracy_high,loss_low,loss_high"
)


def test_a_row_has_every_metric_of_an_attribute_by_hand() -> None:
    counts = replace(Counts.of(SCORES, LABELS, np.array([2.0, 0])), base_rates=np.array([0.5, 0.2]))
    one, other = attribute_rows("test", ["a", "b"], counts, ExactCurves(SCORES, LABELS))
    assert ",".join(one) == ",".join(other) == COLUMNS
    yes, no = (np.log1p(np.exp(sign * np.array([3, 2, 1]))) for sign in (-1, 1))
    chance = np.exp(-yes)
    # 3 and 2 are in bands of their own, of 0.95 and 0.88, and so are 1 and -1.
    expected = [2, 1, np.log(2), 0.5, (1 - chance[0] + chance[1]) / 2, (yes[0] + no[1]) / 2]
    expected += [1, 1, 1, 1, 0, 1, 0, 2]
    assert [*one.values()][:16] == ["test", "a", *(pytest.approx(v) for v in expected)]
    nan = float("nan")
    expected = [2, 2, np.log(5), 1, (1 - chance[2] + chance[2]) / 2, (yes[2] + no[2]) / 2]
    expected += [0.5, nan, 2 / 3, nan, nan, 1, 0, 0]
    assert [*other.values()][:16] == [
        "test",
        "b",
        *(pytest.approx(v, nan_ok=True) for v in expected),
    ]
    assert np.isnan([*one.values()][16:]).all()


def test_counts_alone_give_curves_from_bins_and_how_far_they_may_be_off() -> None:
    scores, labels = np.array([[0.11], [0.12]]), np.array([[True], [False]])
    counts = Counts.of(scores, labels)
    (row,) = attribute_rows("valid", ["a"], counts, counts)
    columns = ("auroc", "auroc_error", "average_precision", "average_precision_error")
    assert [row[column] for column in columns] == [0.5] * 4


def test_bands_of_probability_by_hand() -> None:
    """Three people of one image each, of two attributes; -2 is 0.119, 0 is 0.5 and 1 is 0.731."""
    scores = np.array([[-2.0, 0], [-2.0, 1], [0, 1]])
    labels = np.array([[True, False], [False, True], [False, True]])
    bands = Reliability.of(scores, labels, ~labels)
    each = [Reliability.of(scores[[i]], labels[[i]], ~labels[[i]]) for i in range(3)]
    rows = calibration_rows("test", ["a", "b"], bands, each)
    found = [(row["attribute"], row["band"], row["n"], row["positives"]) for row in rows]
    assert found == [
        *(("", 0.1, 2, 1), ("", 0.5, 2, 0), ("", 0.7, 2, 2)),
        *(("a", 0.1, 2, 1), ("a", 0.5, 1, 0)),
        *(("b", 0.5, 1, 0), ("b", 0.7, 2, 2)),
    ]
    low, half, high = 1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-1))
    predicted = [low, half, high, low, half, half, high]
    assert [row["predicted"] for row in rows] == pytest.approx(predicted)
    assert [row["observed"] for row in rows] == [0.5, 0, 1, 0.5, 0, 0, 1]
    ends = rows[0]["observed_low"], rows[0]["observed_high"]
    assert ends == pytest.approx((0, 1), abs=1e-6)  # of two people, one all and one not at all
    without = calibration_rows("valid", ["a", "b"], bands)[0]
    assert np.isnan([without["observed_low"], without["observed_high"]]).all()


def test_test_rows_have_intervals_over_people() -> None:
    """At the run's thresholds, as `attribute_intervals` has them; the clients' rows have none."""
    rng = np.random.default_rng(0)
    labels = rng.random((60, 2)) < 0.5
    outputs, people = rng.normal(size=(60, 2)) + labels, np.repeat(np.arange(12), 5)
    names, thresholds = ("Male", "Young"), np.array([0.5, 0])
    scores = Scores(np.arange(60).astype(str), people, names, labels, outputs)
    counts = {"valid": Counts.of(outputs, labels).to_arrays()}
    rows = final_tables(counts, scores, Answers(thresholds), 0.5, names, [])[1]["attributes.csv"]
    assert np.isnan([row["auroc_low"] for row in rows[:2]]).all()
    for row in rows[2:]:
        for name in ("accuracy", "balanced_accuracy", "f1", "auroc", "average_precision"):
            assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    right = ((outputs[:, 0] > 0.5) == labels[:, 0]).reshape(12, 5).sum(axis=1)
    moments = ratio_moments(right.astype(float), np.full(12, 5.0)).sum(axis=0)
    expected = tuple(map(float, Estimate.of_ratio(moments).share_interval()))
    assert (rows[2]["accuracy_low"], rows[2]["accuracy_high"]) == pytest.approx(expected)
