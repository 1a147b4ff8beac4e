import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest
from toys import resample_weights

from celeba_fl.evaluation.intervals import draw_identities, identity_sums, interval, wilson

IDS = np.array([7, 3, 7, 9, 3, 7])


def test_all_images_of_an_identity_are_drawn_together():
    weights = resample_weights(IDS, draws=200)
    assert weights.shape == (200, 6)
    seven, three, nine = weights[:, 0], weights[:, 1], weights[:, 3]
    np.testing.assert_array_equal(weights, np.stack([seven, three, seven, nine, three, seven], 1))
    np.testing.assert_array_equal(seven + three + nine, 3)  # as many identities as there are
    assert set(seven.tolist()) == {0, 1, 2, 3}
    assert seven.mean() == pytest.approx(1, abs=0.2)


def test_draws_are_a_function_of_identities_and_seed():
    weights = resample_weights(IDS, draws=50, seed=1)
    np.testing.assert_array_equal(weights, resample_weights(IDS, draws=50, seed=1))
    assert (weights != resample_weights(IDS, draws=50, seed=2)).any()
    # Paired: the order of the images and other numbers for the identities change nothing.
    other = np.searchsorted([3, 7, 9], IDS)[::-1]
    np.testing.assert_array_equal(weights[:, ::-1], resample_weights(other, draws=50, seed=1))


@given(st.data(), st.integers(0, 20))
def test_sums_are_those_of_the_weights(data, n):
    ids = data.draw(arrays(np.int32, n, elements=st.integers(0, 5)))
    values = data.draw(arrays(bool, (n, 2, 3)))
    expected = np.tensordot(resample_weights(ids, 20, 3), values.astype(float), 1)
    sums = identity_sums(values, ids)
    drawn = np.tensordot(draw_identities(len(sums), 20, 3), sums, 1)
    np.testing.assert_array_equal(drawn, expected)


def test_sums_of_an_identity_by_hand():
    values = np.array([[1, 10], [2, 20], [3, 30], [4, 40], [5, 50], [6, 60]])
    np.testing.assert_array_equal(identity_sums(values, IDS), [[7, 70], [10, 100], [4, 40]])


def test_no_image_at_all():
    nobody = np.array([], int)
    assert resample_weights(nobody, draws=4).shape == (4, 0)
    assert identity_sums(np.empty((0, 2)), nobody).shape == (0, 2)
    assert draw_identities(0, draws=4).shape == (4, 0)


def test_interval_by_hand():
    low, high = interval(np.arange(101.0), level=0.9)
    assert (low, high) == pytest.approx((5, 95))
    assert interval(np.array([1.0, 2]), level=0.5) == pytest.approx((1.25, 1.75))


def test_interval_leaves_out_draws_without_a_value():
    nan = np.nan
    low, high = interval(np.array([[nan, nan, 1], [3, nan, 2], [nan, nan, 3]]), level=1)
    np.testing.assert_array_equal(low, [3, nan, 1])
    np.testing.assert_array_equal(high, [3, nan, 3])


@given(arrays(float, (9, 4), elements=st.floats(-9, 9) | st.just(np.nan)))
def test_interval_is_numpys_quantile(values):
    values[0] = np.nan_to_num(values[0])  # NumPy warns of columns without a value
    low, high = interval(values)
    np.testing.assert_allclose(low, np.nanquantile(values, 0.025, axis=0), atol=1e-12)
    np.testing.assert_allclose(high, np.nanquantile(values, 0.975, axis=0), atol=1e-12)


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


def test_drawing_identities_covers_where_images_taken_for_independent_do_not():
    """100 identities of 10 images, alike within each; 300 times."""
    rng = np.random.default_rng(0)
    ids = np.repeat(np.arange(100), 10)
    drawn = draw_identities(100)
    drawn_covers = wilson_covers = 0
    for _ in range(300):
        right = rng.random(1000) < np.repeat(rng.beta(2, 1, 100), 10)  # mean 2/3
        low, high = interval(drawn @ identity_sums(right, ids) / 1000)
        drawn_covers += bool(low <= 2 / 3 <= high)
        low, high = wilson(right.sum(), np.array(1000))
        wilson_covers += bool(low <= 2 / 3 <= high)
    assert 0.91 <= drawn_covers / 300 <= 0.98
    assert wilson_covers / 300 < 0.85


def test_draws_of_identities_are_multinomial():
    drawn = draw_identities(4, draws=20_000)
    assert drawn.sum(axis=1).tolist() == [4] * 20_000
    assert drawn.mean(axis=0) == pytest.approx([1] * 4, abs=0.03)
    assert drawn.var(axis=0) == pytest.approx([3 / 4] * 4, abs=0.03)  # n p (1 - p)
