import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sklearn
from toys import nothing_counted

from celeba_fl.common.arrays import sum_counts
from celeba_fl.evaluation.bins import EDGES, NUM_BINS, bins_of
from celeba_fl.evaluation.curves import ExactCurves
from celeba_fl.evaluation.metrics import (
    EACH_ROUND,
    METRICS,
    RANKED,
    Counts,
    bce_with_logits,
    mean,
    means,
    ratio,
)

# One attribute, eight examples: TP 2 (the scores 3, 1), FN 1 (-1), FP 1 (2), TN 4.
SCORES = np.array([3.0, 1, -1, 2, -2, -3, -4, -5])[:, None]
LABELS = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)[:, None]


@st.composite
def examples(draw, bound=10.0, least=0):
    """Scores and labels of up to 40 examples of 1 to 3 attributes."""
    shape = draw(st.integers(least, 40)), draw(st.integers(1, 3))
    # Multiples of 1/16 are on the edges of bins and half-way between them.
    coarse = st.integers(int(-16 * bound), int(16 * bound)).map(lambda i: i / 16)
    scores = draw(arrays(np.float64, shape, elements=coarse | st.floats(-bound, bound)))
    return scores, draw(arrays(bool, shape))


def test_metrics_by_hand():
    counts = Counts.of(SCORES, LABELS)
    assert (counts.tp, counts.fp, counts.p, counts.n) == (2, 1, 3, 8)
    assert counts.accuracy() == 6 / 8
    assert counts.majority_accuracy() == 5 / 8
    assert counts.balanced_accuracy() == (2 / 3 + 4 / 5) / 2
    assert counts.f1() == 2 * 2 / (2 * 2 + 1 + 1)
    assert counts.thresholds == 0
    # 3 beats five negatives; 1 and -1 lose against 2 and beat the other four.
    assert counts.auroc() == (5 + 4 + 4) / (3 * 5)
    assert counts.auroc_error() == 0
    assert counts.average_precision() == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3)
    assert counts.average_precision_error() == pytest.approx(0)


def test_another_threshold_by_hand():
    counts = Counts.of(SCORES, LABELS).at(np.array([1.0]))  # the score 1 is not above it
    assert (counts.tp, counts.fp, counts.p, counts.n) == (1, 1, 3, 8)
    assert counts.thresholds == 1
    assert counts.accuracy() == 5 / 8
    assert counts.majority_accuracy() == 5 / 8
    assert counts.f1() == 2 * 1 / (2 * 1 + 1 + 2)
    assert counts.auroc() == Counts.of(SCORES, LABELS).auroc()


def test_stacked_counts_are_the_single_ones():
    one, other = Counts.of(SCORES, LABELS), Counts.of(-SCORES, LABELS)
    both = Counts.stack([one, other])
    assert both.positives.shape == (2, 1, NUM_BINS)
    assert both.thresholds.tolist() == [0]
    for threshold in ([0.0], [1.0]):
        apart = one.at(np.array(threshold)), other.at(np.array(threshold))
        judged = both.at(np.array(threshold))
        for name in ("n", "p", "tp", "fp"):
            assert getattr(judged, name).tolist() == [getattr(a, name).tolist() for a in apart]


def test_majority_is_the_more_frequent_answer_either_way():
    assert Counts.of(SCORES, ~LABELS).majority_accuracy() == 5 / 8


def test_loss_by_hand():
    counts = Counts.of(np.array([[0.0], [np.log(3)]]), np.array([[True], [False]]))
    assert counts.loss == pytest.approx(np.log(2) + np.log(4))
    assert counts.mean_loss() == pytest.approx((np.log(2) + np.log(4)) / 2)


def test_loss_of_large_scores_does_not_overflow():
    scores = np.array([[800.0, -800, 800, -800]])
    labels = np.array([[True, False, False, True]])
    np.testing.assert_array_equal(bce_with_logits(scores, labels), [[0, 0, 800, 800]])


def test_attributes_are_judged_apart():
    counts = Counts.of(np.array([[1.0, -1], [1, 1]]), np.array([[True, True], [True, False]]))
    assert counts.accuracy().tolist() == [1, 0]
    assert counts.p.tolist() == [2, 1]


def test_a_score_of_zero_predicts_no_and_any_above_it_yes():
    scores = np.array([[0.0, -0.0, 5e-324, -5e-324, 1e-9]])
    labels = np.ones((1, 5), bool)
    assert Counts.of(scores, labels).tp.tolist() == [0, 0, 1, 0, 1]
    assert Counts.of(scores, ~labels).fp.tolist() == [0, 0, 1, 0, 1]


def test_scores_of_one_bin_count_as_ties():
    scores = np.array([[0.11], [0.12]])
    for labels, exact in (([[True], [False]], 0.0), ([[False], [True]], 1.0)):
        counts = Counts.of(scores, np.array(labels))
        assert ExactCurves(scores, np.array(labels)).auroc() == exact
        assert counts.auroc() == 0.5
        assert counts.auroc_error() == 0.5
        assert counts.average_precision() == 0.5
        assert counts.average_precision_error() == 0.5  # it is 1/2 or 1


def test_undefined_is_nan():
    nothing = nothing_counted(2)
    for metric in (
        nothing.mean_loss, nothing.base_rates_loss, nothing.calibration_error, nothing.accuracy,
        nothing.majority_accuracy, nothing.balanced_accuracy, nothing.f1, nothing.auroc,
        nothing.auroc_error, nothing.average_precision, nothing.average_precision_error,
    ):  # fmt: skip
        assert np.isnan(metric()).tolist() == [True, True]


def test_undefined_without_positives_or_without_negatives():
    labels = np.array([[False, True], [False, True]])
    counts = Counts.of(np.array([[1.0, 1.0], [-1.0, -1.0]]), labels)
    nan = np.isnan
    assert nan(counts.balanced_accuracy()).tolist() == [True, True]
    assert nan(counts.auroc()).tolist() == [True, True]
    assert nan(counts.f1()).tolist() == [True, False]
    assert nan(counts.average_precision()).tolist() == [True, False]
    assert counts.accuracy().tolist() == [0.5, 0.5]
    assert counts.majority_accuracy().tolist() == [1, 1]


@given(examples(), st.data())
def test_counts_of_clients_add_up_to_those_of_the_pool(pool, data):
    scores, labels = pool
    client = data.draw(arrays(np.int64, len(scores), elements=st.integers(0, 4)))
    pooled = Counts.of(scores, labels)
    parts = [Counts.of(scores[client == i], labels[client == i]).to_arrays() for i in range(5)]
    total = Counts.from_arrays(sum_counts(parts))
    np.testing.assert_array_equal(total.positives, pooled.positives)
    np.testing.assert_array_equal(total.negatives, pooled.negatives)
    np.testing.assert_allclose(total.loss, pooled.loss, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(total.auroc(), pooled.auroc())
    np.testing.assert_array_equal(total.f1(), pooled.f1())


@given(examples())
def test_confusion_counts_are_exact(drawn):
    scores, labels = drawn
    counts, yes = Counts.of(scores, labels), scores > 0
    np.testing.assert_array_equal(counts.tp, (yes & labels).sum(axis=0))
    np.testing.assert_array_equal(counts.fp, (yes & ~labels).sum(axis=0))
    np.testing.assert_array_equal(counts.p, labels.sum(axis=0))
    np.testing.assert_array_equal(counts.n, len(labels))


@given(examples(), st.data())
def test_confusion_counts_are_exact_at_every_edge(drawn, data):
    scores, labels = drawn
    chosen = st.sampled_from(EDGES.tolist())
    thresholds = data.draw(arrays(np.float64, labels.shape[1], elements=chosen))
    counts, yes = Counts.of(scores, labels).at(thresholds), scores > thresholds
    np.testing.assert_array_equal(counts.thresholds, thresholds)
    np.testing.assert_array_equal(counts.tp, (yes & labels).sum(axis=0))
    np.testing.assert_array_equal(counts.fp, (yes & ~labels).sum(axis=0))
    np.testing.assert_array_equal(counts.n, len(labels))


@given(examples(bound=1.0, least=2))
def test_binned_auroc_is_within_its_error_of_the_exact_one(drawn):
    scores, labels = drawn
    counts = Counts.of(scores, labels)
    off = np.abs(counts.auroc() - ExactCurves(scores, labels).auroc())
    assert (np.isnan(off) == np.isnan(counts.auroc_error())).all()
    assert (off <= counts.auroc_error() + 1e-12)[~np.isnan(off)].all()


@given(examples(bound=1.0, least=2))
def test_binned_average_precision_is_within_its_error_of_the_exact_one(drawn):
    scores, labels = drawn
    counts = Counts.of(scores, labels)
    off = np.abs(counts.average_precision() - ExactCurves(scores, labels).average_precision())
    assert (np.isnan(off) == np.isnan(counts.average_precision_error())).all()
    assert (off <= counts.average_precision_error() + 1e-12)[~np.isnan(off)].all()


def test_errors_of_many_examples_are_small():
    rng = np.random.default_rng(0)
    labels = rng.random((5000, 1)) < 0.2
    counts = Counts.of(rng.normal(size=(5000, 1)) + labels, labels)
    assert counts.auroc_error() < 0.02
    assert counts.average_precision_error() < 0.05


@given(examples(bound=2.0, least=1))
def test_binned_curves_are_scikit_learns_of_the_binned_scores(drawn):
    scores, labels = drawn
    counts = Counts.of(scores, labels)
    binned = bins_of(scores).astype(np.float64)
    exact = ExactCurves(binned, labels)
    np.testing.assert_allclose(counts.average_precision(), exact.average_precision(), rtol=1e-12)
    np.testing.assert_allclose(counts.auroc(), exact.auroc(), rtol=1e-12)


@settings(max_examples=30)
@given(examples(least=1))
def test_thresholded_metrics_are_scikit_learns(drawn):
    scores, labels = drawn
    counts = Counts.of(scores, labels)
    for i, (truth, score) in enumerate(zip(labels.T, scores.T, strict=True)):
        assert counts.accuracy()[i] == sklearn.accuracy_score(truth, score > 0)
        if truth.any():
            f1 = sklearn.f1_score(truth, score > 0, zero_division=0)
            assert counts.f1()[i] == pytest.approx(f1)
        if truth.any() and not truth.all():
            balanced = sklearn.balanced_accuracy_score(truth, score > 0)
            assert counts.balanced_accuracy()[i] == pytest.approx(balanced)


@pytest.mark.parametrize(
    ("most", "dtype"),
    [(0, np.uint8), (255, np.uint8), (256, np.uint16), (65535, np.uint16), (65536, np.uint32)],
)
def test_counts_travel_in_the_smallest_type(most, dtype):
    counts = nothing_counted(2)
    counts.positives[1, 5] = most
    sent = counts.to_arrays()
    assert {key: array.dtype for key, array in sent.items()} == {
        "positives": dtype, "negatives": dtype, "loss": np.float64,
    }  # fmt: skip
    back = Counts.from_arrays(sent)
    assert (back.positives.dtype, back.negatives.dtype) == (np.int64, np.int64)
    np.testing.assert_array_equal(back.positives, counts.positives)


def test_counts_come_back_as_they_were_sent():
    counts = Counts.of(SCORES, LABELS)
    back = Counts.from_arrays(counts.to_arrays())
    np.testing.assert_array_equal(back.positives, counts.positives)
    np.testing.assert_array_equal(back.negatives, counts.negatives)
    np.testing.assert_array_equal(back.loss, counts.loss)


def test_received_counts_do_not_overflow_when_they_are_added():
    counts = nothing_counted(1)
    counts.negatives[0, 0] = 255
    total = Counts.from_arrays(sum_counts([counts.to_arrays()] * 2))
    assert total.negatives[0, 0] == 510


def test_ratio_is_nan_where_the_denominator_is_zero():
    quotient = ratio(np.array([1, 0, 3]), np.array([0, 0, 4]))
    np.testing.assert_array_equal(quotient, [np.nan, np.nan, 0.75])


def test_mean_leaves_out_what_is_undefined():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mean(np.array([0.5, np.nan, 1.0])) == 0.75
        assert np.isnan(mean(np.array([np.nan])))


def test_the_table_of_metrics_says_which_are_where_and_in_which_order() -> None:
    names = ["loss", "base_rates_loss", "accuracy", "majority_accuracy", "balanced_accuracy"]
    names += ["macro_f1", "auroc"]
    assert [metric.name for metric in EACH_ROUND] == names
    assert [metric.name for metric in METRICS] == [*names, "average_precision", "calibration_error"]
    assert [metric.name for metric in RANKED] == [
        *("balanced_accuracy", "auroc", "average_precision", "macro_f1", "accuracy", "loss")
    ]
    lower = [metric.name for metric in METRICS if metric.lower_is_better]
    assert lower == ["loss", "base_rates_loss", "calibration_error"]


def test_means_are_of_each_metric_over_the_attributes_that_have_it() -> None:
    scores = np.hstack([SCORES, SCORES])
    labels = np.hstack([LABELS, np.zeros_like(LABELS)])  # AUROC and F1 of the second: undefined
    counts = Counts.of(scores, labels)
    counts = replace(counts, base_rates=np.array([0.25, 0.5]))
    curves = ExactCurves(scores, labels)
    found = means(counts, curves, METRICS)
    assert found == pytest.approx(
        {
            "loss": counts.mean_loss().mean(),
            "base_rates_loss": (3 / 8 * np.log(4) + 5 / 8 * np.log(4 / 3) + np.log(2)) / 2,
            "calibration_error": curves.calibration_error().mean(),
            "accuracy": (6 / 8 + 5 / 8) / 2,
            "majority_accuracy": (5 / 8 + 1) / 2,
            "balanced_accuracy": (2 / 3 + 4 / 5) / 2,
            "macro_f1": 4 / 6,
            "auroc": 13 / 15,
            "average_precision": (1 / 1 + 2 / 3 + 3 / 4) / 3,
        }
    )
