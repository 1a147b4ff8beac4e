from itertools import product

import numpy as np
import onnxruntime
import pytest
from numpy.random import RandomState

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.models.head_graph import STEPS, head_step
from celeba_fl.models.head_training import _kept, _permutation, train_head
from celeba_fl.models.heads import initial_head


def train_by_graph(head, features, labels, epochs, batch_size, dropout, seed, **settings):
    """What `train_head` does, each step of it by the graph of its optimizer."""
    session = onnxruntime.InferenceSession(head_step(settings["optimizer"]))
    weights = np.column_stack([head["weight"], head["bias"]])
    counted, weight = settings["counted"], settings["example_weight"]
    counted = np.ones(labels.shape, bool) if counted is None else counted
    factor = (weight / weight.mean()).astype(np.float32)[:, None] * counted
    positives = settings["positive_weight"]
    positives = np.ones(labels.shape[1]) if positives is None else positives
    state = {"weights": weights, "mean": np.zeros_like(weights), "square": np.zeros_like(weights)}
    steps, total, random = 0, 0.0, RandomState(seed)
    for _ in range(epochs):
        total, order = 0.0, _permutation(random, len(labels))
        for first in range(0, len(labels), batch_size):
            batch = order[first : first + batch_size]
            x = features[batch]
            if dropout:
                x = x * _kept(random, x.shape, dropout)
            told = {
                "x": np.column_stack([x, np.ones(len(batch), np.float32)]),
                "y": labels[batch],
                "factor": factor[batch],
                "positives": positives.astype(np.float32),
                "start": weights,
                "mu": np.array(settings["proximal_mu"]),
                "learning_rate": np.array(settings["learning_rate"]),
                "steps": np.array(float(steps)),
                **state,
            }
            feeds = {one.name: told[one.name] for one in session.get_inputs()}
            names = [one.name for one in session.get_outputs()]
            loss, *changed = session.run(names, feeds)
            names = [name.removeprefix("next_") for name in names[1:]]
            state |= dict(zip(names, changed, strict=True))
            total, steps = total + float(loss) * len(batch), steps + 1
    trained = {"weight": state["weights"][:, :-1], "bias": state["weights"][:, -1]}
    return trained, total / (factor.mean() * len(labels))


@pytest.mark.parametrize(
    ("optimizer", "dropout", "mu", "weighted"),
    [*product(("adam", "sgd"), (0.0, 0.3), (0.0, 0.5), (False, True))],
)
def test_training_by_the_graph_is_training(optimizer, dropout, mu, weighted):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(37, 12)).astype(np.float32)
    labels = rng.random((37, 5)) < 0.4
    settings = {
        "epochs": 4,
        "batch_size": 8,
        "learning_rate": 0.05,
        "optimizer": optimizer,
        "dropout": dropout,
        "positive_weight": rng.uniform(0.5, 4, 5) if weighted else None,
        "example_weight": rng.uniform(0.5, 2, 37) if weighted else np.ones(37),
        "counted": rng.random((37, 5)) < 0.6 if weighted else None,
        "proximal_mu": mu,
        "seed": 7,
    }
    head = initial_head(12, 5, 1)
    trained, loss = train_head(head, features, labels, **settings)
    by_graph, its_loss = train_by_graph(head, features, labels, **settings)
    assert not np.allclose(trained["weight"], head["weight"], atol=1e-2)
    for key, array in trained.items():
        np.testing.assert_allclose(by_graph[key], array, rtol=1e-5, atol=1e-5)
    assert its_loss == pytest.approx(loss, rel=1e-5)


def test_one_graph_is_of_one_optimizer():
    assert tuple(STEPS) == RunConfig.keys()["optimizer"].choices
    with pytest.raises(InputError, match="optimizer = 'lion': should be one of adam, sgd"):
        head_step("lion")
