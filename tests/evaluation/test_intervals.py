"""Intervals over people: by hand, against SciPy, and against what the truth is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, logit
from scipy.stats import binomtest
from scipy.stats import t as student_t

from celeba_fl.evaluation.intervals import (
    Estimate,
    identity_sums,
    ratio_moments,
    student,
    wilson,
)

IDS = np.array([7, 3, 7, 9, 3, 7])


def of_ratio(top: np.ndarray, bottom: np.ndarray) -> Estimate:
    return Estimate.of_ratio(ratio_moments(top, bottom).sum(axis=0))


@given(st.data(), st.integers(0, 20))
def test_sums_are_those_of_each_identity(data, n):
    ids = data.draw(arrays(np.int32, n, elements=st.integers(0, 5)))
    values = data.draw(arrays(bool, (n, 2, 3)))
    expected = [values[ids == person].sum(axis=0) for person in np.unique(ids)]
    np.testing.assert_array_equal(identity_sums(values, ids), np.reshape(expected, (-1, 2, 3)))


def test_sums_of_an_identity_by_hand():
    values = np.array([[1, 10], [2, 20], [3, 30], [4, 40], [5, 50], [6, 60]])
    np.testing.assert_array_equal(identity_sums(values, IDS), [[7, 70], [10, 100], [4, 40]])
    assert identity_sums(np.empty((0, 2)), np.array([], int)).shape == (0, 2)


@pytest.mark.parametrize("level", [0.9, 0.95, 1 - 0.05 / 12])
def test_student_is_scipys(level):
    people = np.array([2, 3, 6, 14, 50, 200, 1000, 30_000])
    expected = student_t.ppf((1 + level) / 2, people - 1)
    np.testing.assert_allclose(student(people, level), expected, rtol=1e-5)
    assert np.isnan(student(np.array([0, 1, np.nan]))).all()


def test_a_ratio_by_hand():
    # 3 of 4, 2 of 4, 4 of 4 images: 9 / 12; residuals 0, -1, 1; s = sqrt(2 * 3 / 2) / 12.
    rate = of_ratio(np.array([3.0, 2, 4]), np.array([4.0, 4, 4]))
    assert (rate.value, rate.error, rate.people) == (0.75, pytest.approx(3**0.5 / 12), 3)
    half = student_t.ppf(0.975, 2) * 3**0.5 / 12
    assert rate.interval() == pytest.approx((0.75 - half, 0.75 + half))
    moved = half / (0.75 * 0.25)
    expected = expit(logit(0.75) - moved), expit(logit(0.75) + moved)
    assert rate.share_interval() == pytest.approx(expected, rel=1e-5)


def test_people_without_an_example_do_not_count():
    with_them = of_ratio(np.array([3.0, 0, 2, 4]), np.array([4.0, 0, 4, 4]))
    assert with_them.people == 3
    assert with_them.error == pytest.approx(3**0.5 / 12)


def test_moments_add_up():
    top, bottom = np.random.default_rng(0).integers(1, 9, (2, 6, 4)).astype(float)
    parts = [ratio_moments(top[i], bottom[i]).sum(axis=0) for i in (slice(2), slice(2, 6))]
    assert Estimate.of_ratio(sum(parts)).error == pytest.approx(of_ratio(top, bottom).error)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(0).normal(size=(9, 3))
    without = (x.sum(axis=0) - x) / 8
    found = Estimate.of_replicates(x.mean(axis=0), without, np.array([9, 9, 3]))
    np.testing.assert_allclose(found.error, x.std(axis=0, ddof=1) / 3)
    low, high = found.interval()
    expected = student_t.interval(0.95, [8, 8, 2], x.mean(axis=0), found.error)
    np.testing.assert_allclose((low, high), expected, rtol=1e-5)


def test_a_figure_that_is_undefined_without_someone():
    nan = np.nan
    found = Estimate.of_replicates(np.array([2.0]), np.array([[1.0], [nan], [3]]), np.array([3]))
    assert found.error == pytest.approx((1 / 2 * 2) ** 0.5)


@pytest.mark.parametrize(("right", "people"), [(1.0, 5), (0.0, 5), (0.5, 1)])
def test_where_nothing_varies_people_count_as_one_image_each(right, people):
    rate = of_ratio(np.full(people, 4 * right), np.full(people, 4.0))
    assert rate.share_interval() == wilson(np.array(right * people), np.array(people))
    assert np.isnan(of_ratio(np.zeros(3), np.zeros(3)).share_interval()).all()


@pytest.mark.parametrize(
    ("successes", "n", "ends"),
    # 8 of 10 by hand: z = 1.96, (0.8 + 0.19207 -+ 1.96 sqrt(0.016 + 0.0096)) / 1.38415
    [(8, 10, (0.4902, 0.9433)), (0, 10, (0, 0.2775)), (10, 10, (0.7225, 1))],
)
def test_wilson_by_hand(successes, n, ends):
    assert wilson(np.array(successes), np.array(n)) == pytest.approx(ends, abs=1e-4)


def test_wilson_of_nothing_is_undefined():
    low, high = wilson(np.array([0, 1]), np.array([0, 1]))
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [True, False]


@given(st.integers(1, 500), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys(n, data, level):
    k = data.draw(st.integers(0, n))
    low, high = wilson(np.array(k), np.array(n), level)
    assert 0 <= low <= k / n <= high <= 1
    expected = binomtest(k, n).proportion_ci(level, method="wilson")
    assert (low, high) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize(("people", "least"), [(14, 0.9), (50, 0.92), (200, 0.92)])
def test_an_interval_over_people_covers_where_one_over_images_does_not(people, least):
    """People of 10 images, alike within each; 400 times. Percentiles of draws reach 0.88 of 14."""
    rng = np.random.default_rng(0)
    ours = images = 0
    for _ in range(400):
        right = rng.binomial(10, rng.beta(4, 0.5, people)).astype(float)  # mean 8/9
        low, high = of_ratio(right, np.full(people, 10.0)).share_interval()
        ours += bool(low <= 8 / 9 <= high)
        low, high = wilson(right.sum(), np.array(10.0 * people))
        images += bool(low <= 8 / 9 <= high)
    assert least <= ours / 400 <= 0.97
    assert images / 400 < 0.8
