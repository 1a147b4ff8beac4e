"""The head of one place: which examples it learns from, and which choose its L2."""

import numpy as np
from tables import make_table

from celeba_fl.models import logistic
from celeba_fl.models.scaling import Scaling, scaled
from celeba_fl.tasks import central
from celeba_fl.tasks.examples import Examples

SCALING = Scaling(np.float32([0.5, 0, 1]), np.float32([2, 1, 0.5]))


def examples(rows: range) -> Examples:
    """Some rows of one table, each with three features."""
    features = np.random.default_rng(1).normal(size=(90, 3)).astype(np.float32)
    return Examples(make_table(90), np.array(rows), features[rows])


def test_it_learns_from_public_images_and_from_the_answers_there_are() -> None:
    train, public, valid = examples(range(50)), examples(range(50, 70)), examples(range(70, 90))
    answers = np.random.default_rng(2).integers(-1, 2, (50, 40)).astype(np.int8)
    made = central.fit(train, answers, public, valid, SCALING)

    x = np.vstack([train.features[:], public.features[:]])
    labels = np.vstack([answers == 1, public.labels])
    counted = np.vstack([answers >= 0, np.ones((20, 40), bool)])
    held_out = scaled(valid.features, SCALING)
    found = logistic.fit(scaled(x, SCALING), labels, held_out, valid.labels, counted)
    assert made is not None
    head, chosen = made
    np.testing.assert_array_equal(head["weight"], found.head["weight"])
    np.testing.assert_array_equal(head["bias"], found.head["bias"])
    assert chosen == {"by": "loss on validation", "value": found.loss, "l2": found.ratio}


def test_there_is_none_without_validation() -> None:
    assert central.fit(examples(range(5)), None, None, examples(range(0)), None) is None
