"""The Fréchet distance, against what can be worked out by hand."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from celeba_fl.evaluation.frechet import frechet_distance


def test_in_one_dimension_it_is_the_distance_of_means_and_of_deviations():
    one = np.array([[0.0], [2.0]])  # mean 1, variance 2
    other = np.array([[1.0], [5.0], [3.0]])  # mean 3, variance 4
    expected = (1 - 3) ** 2 + (np.sqrt(2) - np.sqrt(4)) ** 2
    assert frechet_distance(one, other) == pytest.approx(expected)


def test_without_correlation_dimensions_add_up():
    corners = np.array([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])  # variance 4 / 3 each
    scaled = corners * [3, 5] + [10, 0]
    expected = 10**2 + 4 / 3 * ((3 - 1) ** 2 + (5 - 1) ** 2)
    assert frechet_distance(corners, scaled) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "m"), [(6, 9), (40, 9), (40, 50)], ids=["few", "mixed", "many"])
def test_it_is_the_formula(n, m):
    rng = np.random.default_rng(0)
    one = rng.normal(size=(n, 12)) @ rng.normal(size=(12, 12))
    other = rng.normal(size=(m, 12)) + 1
    root = sqrtm(np.cov(one.T) @ np.cov(other.T))
    expected = ((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum() + np.trace(
        np.cov(one.T) + np.cov(other.T) - 2 * root.real
    )
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(other, one) == pytest.approx(frechet_distance(one, other))


def test_of_a_sample_to_itself_it_is_0_and_a_shift_adds_its_square():
    sample = np.random.default_rng(1).normal(size=(30, 8)).astype(np.float32)
    assert frechet_distance(sample, sample) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(sample, sample + np.eye(8)[0] * 3) == pytest.approx(9, rel=1e-5)


def test_between_samples_of_one_distribution_it_falls_with_their_size():
    rng = np.random.default_rng(2)
    found = [frechet_distance(*rng.normal(size=(2, n, 16))) for n in (20, 100, 1000)]
    assert found[0] > found[1] > found[2] > 0
