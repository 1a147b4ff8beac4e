"""Calibration: bands and their error by hand and by scikit-learn, fits by scipy."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from celeba_fl.evaluation import calibration
from celeba_fl.evaluation.bins import CENTRES, NUM_BINS, bins_of
from celeba_fl.evaluation.calibration import Calibration, Reliability, fit
from celeba_fl.evaluation.curves import ExactCurves
from celeba_fl.evaluation.metrics import Counts, bce_with_logits
from celeba_fl.models.heads import scores as scores_of


def drawn(
    n: int, slope: float, offset: float, share: float = 0.3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of normal classes that say `slope` times the true log odds, and `offset` more."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 1)) < share
    x = rng.normal(size=(n, 1)) + 2.0 * labels
    true = 2.0 * (x - 1) + np.log(share / (1 - share))
    return slope * true + offset, labels


def test_the_error_by_hand() -> None:
    # Two images at 0.119 of which one is positive, and two at 0.881 which both are.
    scores, labels = np.array([[-2.0], [-2], [2], [2]]), np.array([[True], [False], [True], [True]])
    low = 1 / (1 + np.exp(2))
    error = (2 * (0.5 - low) + 2 * (1 - (1 - low))) / 4
    assert ExactCurves(scores, labels).calibration_error() == pytest.approx([error])


def test_bands_are_those_of_scikit_learn() -> None:
    scores, labels = drawn(500, 1.5, 0.3)
    chance = 1 / (1 + np.exp(-scores[:, 0]))
    observed, predicted = calibration_curve(labels[:, 0], chance, n_bins=10)
    bands = Reliability.of(scores, labels, ~labels)
    np.testing.assert_allclose(bands.positives[0] / bands.n[0], observed)
    np.testing.assert_allclose(bands.predicted[0] / bands.n[0], predicted)


def test_from_bins_it_is_nearly_what_scores_give() -> None:
    scores, labels = drawn(5000, 2.0, 0.5)
    exact, binned = (
        of.calibration_error()[0] for of in (ExactCurves(scores, labels), Counts.of(scores, labels))
    )
    assert exact > 0.05
    assert binned == pytest.approx(exact, abs=0.005)


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (2.5, 1.0), (0.5, -1.0)])
def test_many_examples_find_the_slope_and_the_offset(slope: float, offset: float) -> None:
    """The truth, which is known here, and what logistic regression makes of the same bins."""
    scores, labels = drawn(100_000, slope, offset)
    counts = Counts.of(scores, labels)
    found = fit(counts.positives, counts.negatives)
    assert found.slope[0] == pytest.approx(1 / slope, rel=0.04)
    assert found.offset[0] == pytest.approx(-offset / slope, abs=0.04)
    right = LogisticRegression(C=np.inf).fit(CENTRES[bins_of(scores)], labels[:, 0])
    assert found.slope[0] == pytest.approx(right.coef_[0, 0], rel=0.02)


def test_it_is_the_likeliest_under_its_prior_by_scipy() -> None:
    scores = np.hstack([drawn(40, 2.0, 0.5, seed=seed)[0] for seed in range(3)])
    labels = np.hstack([drawn(40, 2.0, 0.5, seed=seed)[1] for seed in range(3)])
    counts = Counts.of(scores, labels)

    def likeliest(
        positives: np.ndarray, negatives: np.ndarray, prior: np.ndarray, spread: np.ndarray
    ) -> np.ndarray:
        def loss(at: np.ndarray) -> float:
            logits = np.exp(at[0]) * CENTRES + at[1]
            nats = positives @ np.logaddexp(0, -logits) + negatives @ np.logaddexp(0, logits)
            return float(nats + (((at - prior) / spread) ** 2).sum() / 2)

        best: np.ndarray = minimize(loss, prior, method="Nelder-Mead", tol=1e-10).x
        return best

    pooled = counts.positives.sum(axis=0), counts.negatives.sum(axis=0)
    common = likeliest(*pooled, np.zeros(2), calibration.SPREAD_OF_ALL)
    found = fit(counts.positives, counts.negatives)
    for i in range(3):
        slope, offset = likeliest(
            counts.positives[i], counts.negatives[i], common, calibration.SPREAD
        )
        assert found.slope[i] == pytest.approx(np.exp(slope), abs=1e-4)
        assert found.offset[i] == pytest.approx(offset, abs=1e-4)


def test_an_attribute_without_positives_does_not_explode() -> None:
    """It gets the slope that the others have in common, and no offset that runs away."""
    drawn_ones = [drawn(500, 3.0, 0.0, seed=seed) for seed in range(4)]
    scores, labels = (np.hstack(part) for part in zip(*drawn_ones, strict=True))
    labels = np.where([True, True, True, False], labels, False)
    counts = Counts.of(np.where(labels.any(axis=0), scores, scores - 6), labels)
    found = fit(counts.positives, counts.negatives)
    others = found.slope[:3].mean()
    assert others == pytest.approx(1 / 3, rel=0.2)
    assert found.slope[3] == pytest.approx(others, rel=0.25)
    assert abs(found.offset[3]) < 3


def test_the_slope_stays_above_0_where_scores_are_the_wrong_way_round() -> None:
    scores, labels = drawn(500, -1.0, 0.0)
    counts = Counts.of(scores, labels)
    assert 0 < fit(counts.positives, counts.negatives).slope[0] < 1


def test_without_examples_scores_stay() -> None:
    nothing = np.zeros((2, NUM_BINS), np.int64)
    found = fit(nothing, nothing)
    assert found.slope.tolist() == [1, 1]
    assert found.offset.tolist() == [0, 0]


def test_a_calibrated_head_has_the_calibrated_scores() -> None:
    rng = np.random.default_rng(0)
    head = {
        "weight": rng.normal(size=(2, 5)).astype(np.float32),
        "bias": rng.normal(size=2).astype(np.float32),
    }
    by = Calibration(np.array([0.5, 2.0]), np.array([1.0, -1.0]))
    x = rng.normal(size=(7, 5)).astype(np.float32)
    expected = scores_of(head, x) * by.slope + by.offset
    np.testing.assert_allclose(scores_of(by.head(head), x), expected, rtol=1e-5, atol=1e-5)
    assert {a.dtype for a in by.head(head).values()} == {np.dtype(np.float32)}


def test_calibrated_counts_are_nearly_those_of_calibrated_scores() -> None:
    scores, labels = drawn(5000, 2.0, 0.5)
    by = Calibration(np.array([0.5]), np.array([-0.25]))
    moved, counts = scores * by.slope + by.offset, Counts.of(scores, labels).calibrated(by)
    assert counts.loss[0] == pytest.approx(bce_with_logits(moved, labels).sum(), rel=2e-3)
    assert counts.thresholds == [0]  # the edge 1/2
    assert counts.accuracy()[0] == ((moved > counts.thresholds) == labels).mean()
    assert counts.auroc() == Counts.of(scores, labels).auroc()
    assert counts.calibration_error()[0] == pytest.approx(
        ExactCurves(moved, labels).calibration_error()[0], abs=0.005
    )


def test_recalibration_lowers_the_loss_on_other_examples() -> None:
    counts = Counts.of(*drawn(300, 3.0, 1.0, seed=1))
    by = fit(counts.positives, counts.negatives)
    scores, labels = drawn(5000, 3.0, 1.0, seed=2)
    before, after = (
        bce_with_logits(s, labels).mean() for s in (scores, by.slope * scores + by.offset)
    )
    assert after < 0.8 * before
