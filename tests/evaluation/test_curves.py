import numpy as np
import pytest
from sklearn import metrics as sklearn

from celeba_fl.evaluation.curves import ExactCurves


def test_areas_are_scikit_learns_where_they_are_defined() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(50, 4)).round(1), rng.random((50, 4)) < 0.3
    assert len(np.unique(scores[:, 0])) < 50  # there are ties
    labels[:, 1], labels[:, 2] = True, False
    curves = ExactCurves(scores, labels)
    area, precision = curves.auroc(), curves.average_precision()
    assert np.isnan(area).tolist() == [False, True, True, False]
    assert np.isnan(precision).tolist() == [False, False, True, False]
    for i in (0, 3):
        truth, score = labels[:, i], scores[:, i]
        assert area[i] == pytest.approx(sklearn.roc_auc_score(truth, score), rel=1e-14)
        expected = sklearn.average_precision_score(truth, score)
        assert precision[i] == pytest.approx(expected, rel=1e-14)
    assert precision[1] == 1
    assert np.isnan(ExactCurves(np.empty((0, 2)), np.empty((0, 2), bool)).auroc()).all()


def test_exact_areas_have_no_error_where_they_are_defined() -> None:
    labels = np.array([[True, False], [False, False]])
    curves = ExactCurves(np.array([[1.0, 1], [0, 0]]), labels)
    np.testing.assert_array_equal(curves.auroc_error(), [0, np.nan])
    np.testing.assert_array_equal(curves.average_precision_error(), [0, np.nan])
