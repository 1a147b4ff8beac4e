import numpy as np
import pytest

from celeba_fl.evaluation.attribute_tables import attribute_rows
from celeba_fl.evaluation.curves import ExactCurves
from celeba_fl.evaluation.metrics import Counts

SCORES, LABELS = np.array([[3.0, 1], [2, -1]]), np.array([[True, True], [False, True]])
COLUMNS = (
    "split,attribute,n,positives,majority_accuracy,accuracy,balanced_accuracy,f1,auroc,auroc_error,"
    "average_precision,average_precision_error,threshold"
)


def test_a_row_has_every_metric_of_an_attribute_by_hand() -> None:
    counts = Counts.of(SCORES, LABELS).at(np.array([2.0, 0]))
    one, other = attribute_rows("test", ["a", "b"], counts, ExactCurves(SCORES, LABELS))
    assert ",".join(one) == ",".join(other) == COLUMNS
    assert [*one.values()] == ["test", "a", 2, 1, 0.5, 1, 1, 1, 1, 0, 1, 0, 2]
    nan = float("nan")
    expected = [2, 2, 1, 0.5, nan, 2 / 3, nan, nan, 1, 0, 0]
    assert [*other.values()] == ["test", "b", *(pytest.approx(v, nan_ok=True) for v in expected)]


def test_counts_alone_give_curves_from_bins_and_how_far_they_may_be_off() -> None:
    scores, labels = np.array([[0.11], [0.12]]), np.array([[True], [False]])
    counts = Counts.of(scores, labels)
    (row,) = attribute_rows("valid", ["a"], counts, counts)
    columns = ("auroc", "auroc_error", "average_precision", "average_precision_error")
    assert [row[column] for column in columns] == [0.5] * 4
