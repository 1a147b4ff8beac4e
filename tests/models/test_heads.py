import math

import numpy as np
import pytest

from celeba_fl.models.heads import base_rate_head, initial_head, scores


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_initial_head_is_within_its_bound_and_fills_it():
    head = initial_head(1280, 40, seed=0)
    bound = 1 / math.sqrt(1280)
    assert head["weight"].shape == (40, 1280)
    assert head["bias"].shape == (40,)
    assert head["weight"].size + head["bias"].size == 51_240
    for array in head.values():
        assert array.dtype == np.float32
        assert np.abs(array).max() <= bound
    assert head["weight"].std() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert head["weight"].mean() == pytest.approx(0, abs=bound / 100)


def test_initial_head_is_a_function_of_the_seed():
    one, same, other = (initial_head(8, 2, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one["weight"], same["weight"])
    np.testing.assert_array_equal(one["bias"], same["bias"])
    assert (one["weight"] != other["weight"]).all()
    assert (one["bias"] != other["bias"]).all()


def test_scores_by_hand():
    head = {
        "weight": np.array([[1, 2], [0, -1]], np.float32),
        "bias": np.array([0.5, 0], np.float32),
    }
    result = scores(head, np.array([[1, 1], [3, 0], [0, -2]], np.float32))
    assert result.tolist() == [[3.5, -1], [3.5, 0], [-3.5, 2]]
    assert result.dtype == np.float64


def test_scores_are_exact_to_double_precision(rng):
    features, head = rng.normal(size=(600, 1280)).astype(np.float32), initial_head(1280, 40, 0)
    rows = [0, 255, 256, 599]
    products = features[rows, None].astype(np.float64) * head["weight"]
    exact = [[math.fsum(terms) for terms in row] for row in products] + head["bias"]
    np.testing.assert_allclose(scores(head, features)[rows], exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("number", [1, 2, 3, 17, 255, 256, 257, 599])
def test_a_score_does_not_depend_on_the_other_examples(rng, number):
    features, head = rng.normal(size=(600, 1280)).astype(np.float32), initial_head(1280, 40, 0)
    rows = rng.permutation(600)[:number]
    np.testing.assert_array_equal(scores(head, features[rows]), scores(head, features)[rows])


def test_scores_of_no_example():
    assert scores(initial_head(8, 3, 0), np.empty((0, 8), np.float32)).shape == (0, 3)


def test_the_head_of_base_rates_by_hand():
    head = base_rate_head(3, np.array([2, 0, 0]), np.array([4, 1, 0]))
    assert head["weight"].tolist() == [[0, 0, 0]] * 3
    np.testing.assert_allclose(head["bias"], np.log([2.5 / 4.5, 0.5 / 1.5, 1]), rtol=1e-6)
    assert {array.dtype for array in head.values()} == {np.dtype(np.float32)}
