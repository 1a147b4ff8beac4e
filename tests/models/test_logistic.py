"""The central head: against scikit-learn, and by what must hold at a minimum."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from celeba_fl.models import logistic

SCALES = np.array([100, 10, 1, 1, 0.1, 0.01])


def examples(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of very unlike scales, and labels of three outputs that depend on them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)) * SCALES + 5
    slope = np.random.default_rng(9).normal(size=(6, 3)) / SCALES[:, None]
    chance = 1 / (1 + np.exp(-((x - 5) @ slope + [0, 1, -3])))
    return x, rng.random((n, 3)) < chance


def test_the_path_is_that_of_scikit_learn() -> None:
    x, y = examples(300)
    l2 = np.var(x, axis=0).mean() * logistic.RATIOS
    for (ratio, weight, bias), strength in zip(logistic.path(x, y), l2, strict=True):
        if ratio not in logistic.RATIOS[[0, 8, 16]]:
            continue
        for output in range(3):
            other = LogisticRegression(C=1 / (len(x) * strength), solver="newton-cg", tol=1e-8)
            other.fit(x, y[:, output])
            scores, own = other.decision_function(x), x @ weight[:, output] + bias[output]
            np.testing.assert_allclose(own, scores, atol=2e-3)


def test_the_l2_of_least_loss_on_validation_is_taken() -> None:
    (x, y), (held_out, truth) = examples(60), examples(500, seed=1)
    x, held_out = x / SCALES, held_out / SCALES
    found = logistic.fit(x, y, held_out, truth)
    losses = {
        ratio: logistic.cross_entropy(held_out @ weight + bias, truth)
        for ratio, weight, bias in logistic.path(x, y)
    }
    assert found.ratio == min(losses, key=lambda ratio: losses[ratio])
    assert found.loss == losses[found.ratio]
    assert found.ratio not in (logistic.RATIOS[0], logistic.RATIOS[-1])
    assert {key: array.shape for key, array in found.head.items()} == {
        "weight": (3, 6),
        "bias": (3,),
    }


def test_labels_that_do_not_count_move_nothing() -> None:
    x, y = examples(80)
    counted = np.random.default_rng(2).random(y.shape) < 0.7
    held_out, truth = examples(100, seed=1)
    found, other = (
        logistic.fit(x, labels, held_out, truth, counted) for labels in (y, y ^ ~counted)
    )
    np.testing.assert_array_equal(found.head["weight"], other.head["weight"])
    assert (found.head["weight"] != logistic.fit(x, y, held_out, truth).head["weight"]).any()


@pytest.mark.parametrize("x", [np.ones((4, 3)), np.zeros((1, 3))])
def test_features_that_never_vary_leave_the_base_rates(x: np.ndarray) -> None:
    y = np.zeros((len(x), 2), bool)
    y[0, 0] = True
    head = logistic.fit(x, y, x, y).head
    assert not head["weight"].any()
    assert np.isfinite(head["bias"]).all()
