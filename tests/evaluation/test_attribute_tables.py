import numpy as np
import pytest

from celeba_fl.evaluation.attribute_tables import attribute_rows, final_tables
from celeba_fl.evaluation.curves import ExactCurves
from celeba_fl.evaluation.intervals import Estimate, ratio_moments
from celeba_fl.evaluation.metrics import Counts
from celeba_fl.evaluation.resampling import Scores

SCORES, LABELS = np.array([[3.0, 1], [2, -1]]), np.array([[True, True], [False, True]])
COLUMNS = (
    "split,attribute,n,positives,majority_accuracy,accuracy,balanced_accuracy,f1,auroc,auroc_error,"
    "average_precision,average_precision_error,threshold,balanced_accuracy_low,"
    "balanced_accuracy_high,auroc_low,auroc_high,average_precision_low,average_precision_high,f1_low,"
    "f1_high,accuracy_low,accuracy_high"
)


def test_a_row_has_every_metric_of_an_attribute_by_hand() -> None:
    counts = Counts.of(SCORES, LABELS).at(np.array([2.0, 0]))
    one, other = attribute_rows("test", ["a", "b"], counts, ExactCurves(SCORES, LABELS))
    assert ",".join(one) == ",".join(other) == COLUMNS
    assert [*one.values()][:13] == ["test", "a", 2, 1, 0.5, 1, 1, 1, 1, 0, 1, 0, 2]
    assert np.isnan([*one.values()][13:]).all()
    nan = float("nan")
    expected = [2, 2, 1, 0.5, nan, 2 / 3, nan, nan, 1, 0, 0]
    found = [*other.values()][:13]
    assert found == ["test", "b", *(pytest.approx(v, nan_ok=True) for v in expected)]


def test_counts_alone_give_curves_from_bins_and_how_far_they_may_be_off() -> None:
    scores, labels = np.array([[0.11], [0.12]]), np.array([[True], [False]])
    counts = Counts.of(scores, labels)
    (row,) = attribute_rows("valid", ["a"], counts, counts)
    columns = ("auroc", "auroc_error", "average_precision", "average_precision_error")
    assert [row[column] for column in columns] == [0.5] * 4


def test_test_rows_have_intervals_over_people() -> None:
    """At the run's thresholds, as `attribute_intervals` has them; the clients' rows have none."""
    rng = np.random.default_rng(0)
    labels = rng.random((60, 2)) < 0.5
    outputs, people = rng.normal(size=(60, 2)) + labels, np.repeat(np.arange(12), 5)
    names, thresholds = ("Male", "Young"), np.array([0.5, 0])
    scores = Scores(np.arange(60).astype(str), people, names, labels, outputs)
    counts = {"valid": Counts.of(outputs, labels).to_arrays()}
    rows = final_tables(counts, scores, thresholds, names, [])[1]["attributes.csv"]
    assert np.isnan([row["auroc_low"] for row in rows[:2]]).all()
    for row in rows[2:]:
        for name in ("accuracy", "balanced_accuracy", "f1", "auroc", "average_precision"):
            assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    right = ((outputs[:, 0] > 0.5) == labels[:, 0]).reshape(12, 5).sum(axis=1)
    moments = ratio_moments(right.astype(float), np.full(12, 5.0)).sum(axis=0)
    expected = tuple(map(float, Estimate.of_ratio(moments).share_interval()))
    assert (rows[2]["accuracy_low"], rows[2]["accuracy_high"]) == pytest.approx(expected)
