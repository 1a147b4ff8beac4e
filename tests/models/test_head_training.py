import math
from itertools import product

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from celeba_fl.models import head_training
from celeba_fl.models.heads import initial_head, scores

SETTINGS = {
    "epochs": 1,
    "batch_size": 100,
    "learning_rate": 0.5,
    "optimizer": "sgd",
    "dropout": 0.0,
    "positive_weight": None,
    "proximal_mu": 0.0,
    "seed": 0,
}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def data(rng):
    """Features (7, 3) and labels (7, 2)."""
    return rng.normal(size=(7, 3)).astype(np.float32), rng.random((7, 2)) < 0.5


def train_head(head, features, labels, **settings):
    """Train on examples that count alike, if nothing else is said."""
    weight = settings.pop("example_weight", np.ones(len(features)))
    return head_training.train_head(head, features, labels, example_weight=weight, **settings)


def sgd(head, features, labels, learning_rate, positive_weight=1.0, mu=0.0, start=None):
    """One step of gradient descent on the whole data, and the loss before it."""
    start = start or head
    s = features.astype(float) @ head["weight"].astype(float).T + head["bias"]
    y, q = labels.astype(float), 1 / (1 + np.exp(-s))
    loss = -(positive_weight * y * np.log(q) + (1 - y) * np.log(1 - q)).mean()
    slope = (positive_weight * y * (q - 1) + (1 - y) * q) / y.size
    gradient = {"weight": slope.T @ features, "bias": slope.sum(axis=0)}
    step = {k: head[k] - learning_rate * (gradient[k] + mu * (head[k] - start[k])) for k in head}
    return step, loss


def assert_close(one, two):
    assert one.keys() == two.keys()
    for key in one:
        np.testing.assert_allclose(one[key], two[key], rtol=1e-5, atol=1e-6)


def test_one_step_of_sgd(data):
    head = initial_head(3, 2, 0)
    expected, loss = sgd(head, data[0], data[1], 0.5)
    trained, mean_loss = train_head(head, *data, **SETTINGS)
    assert_close(trained, expected)
    assert mean_loss == pytest.approx(loss)
    assert {array.dtype for array in trained.values()} == {np.dtype(np.float32)}


def test_loss_is_that_of_the_last_epoch(data):
    head = initial_head(3, 2, 0)
    once, _ = sgd(head, data[0], data[1], 0.5)
    expected, loss = sgd(once, data[0], data[1], 0.5)
    trained, mean_loss = train_head(head, *data, **SETTINGS | {"epochs": 2})
    assert_close(trained, expected)
    assert mean_loss == pytest.approx(loss)


def test_positive_weight(data):
    head, weight = initial_head(3, 2, 0), np.array([3.0, 0.25])
    expected, loss = sgd(head, data[0], data[1], 0.5, positive_weight=weight)
    trained, mean_loss = train_head(head, *data, **SETTINGS | {"positive_weight": weight})
    assert_close(trained, expected)
    assert mean_loss == pytest.approx(loss)


def test_a_weight_is_a_number_of_copies(data):
    head, copies = initial_head(3, 2, 0), np.array([1, 2, 1, 1, 4, 1, 1])
    repeated = [np.repeat(array, copies, axis=0) for array in data]
    expected, loss = sgd(head, repeated[0], repeated[1], 0.5)
    for factor in (1.0, 0.3):
        settings = SETTINGS | {"example_weight": factor * copies}
        trained, mean_loss = train_head(head, *data, **settings)
        assert_close(trained, expected)
        assert mean_loss == pytest.approx(loss)


def test_proximal_term_pulls_towards_the_start_and_is_no_part_of_the_loss(data):
    head = initial_head(3, 2, 0)
    once, _ = sgd(head, data[0], data[1], 0.5)
    expected, loss = sgd(once, data[0], data[1], 0.5, mu=0.8, start=head)
    trained, mean_loss = train_head(head, *data, **SETTINGS | {"epochs": 2, "proximal_mu": 0.8})
    assert_close(trained, expected)
    assert mean_loss == pytest.approx(loss)


def test_first_step_of_adam_moves_each_weight_by_the_learning_rate(data):
    head = initial_head(3, 2, 0)
    direction, _ = sgd(head, data[0], data[1], 1.0)
    trained, _ = train_head(head, *data, **SETTINGS | {"optimizer": "adam", "learning_rate": 0.01})
    for key in head:
        np.testing.assert_allclose(
            trained[key] - head[key], 0.01 * np.sign(direction[key] - head[key]), rtol=1e-3
        )


def test_every_example_is_used_once_an_epoch(data):
    """Batches of 3 of 7 equal examples: three steps, and the loss weighs them by their size."""
    features, labels = (np.repeat(array[:1], 7, axis=0) for array in data)
    head = expected = initial_head(3, 2, 0)
    losses = []
    for size in (3, 3, 1):
        expected, loss = sgd(expected, features[:size], labels[:size], 0.5)
        losses += [loss] * size
    trained, mean_loss = train_head(head, features, labels, **SETTINGS | {"batch_size": 3})
    assert_close(trained, expected)
    assert mean_loss == pytest.approx(np.mean(losses))


def test_order_of_examples_is_a_function_of_the_seed(data):
    head = initial_head(3, 2, 0)
    one, same, other = (
        train_head(head, *data, **SETTINGS | {"batch_size": 2, "seed": seed})[0]["weight"]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_dropout_is_a_function_of_the_seed(data):
    features, labels = (np.repeat(array[:1], 100, axis=0) for array in data)
    head = initial_head(3, 2, 0)
    one, same, other, none = (
        train_head(head, features, labels, **SETTINGS | {"dropout": dropout, "seed": seed})[0]
        for dropout, seed in ((0.5, 1), (0.5, 1), (0.5, 2), (0, 1))
    )
    np.testing.assert_array_equal(one["weight"], same["weight"])
    assert (one["weight"] != other["weight"]).any()
    assert (one["weight"] != none["weight"]).any()


def test_dropout_keeps_a_share_of_the_inputs_and_scales_them_up():
    """Without a weight all scores are 0, so the gradient is linear in the inputs kept."""
    features, labels = np.ones((100_000, 1), np.float32), np.ones((100_000, 1), bool)
    head = {"weight": np.zeros((1, 1), np.float32), "bias": np.zeros(1, np.float32)}
    settings = SETTINGS | {"batch_size": 100_000, "learning_rate": 1.0, "dropout": 0.2}
    trained, loss = train_head(head, features, labels, **settings)
    assert trained["weight"].item() == pytest.approx(0.5, rel=0.01)
    assert trained["weight"].item() != 0.5
    assert loss == pytest.approx(math.log(2))


def test_arguments_are_left_alone(data):
    head = initial_head(3, 2, 0)
    features, labels = data
    before = {key: array.copy() for key, array in head.items()}, features.copy(), labels.copy()
    trained, _ = train_head(head, features, labels, **SETTINGS | {"epochs": 3, "dropout": 0.5})
    for key in head:
        np.testing.assert_array_equal(head[key], before[0][key])
        assert (trained[key] != head[key]).any()
    np.testing.assert_array_equal(features, before[1])
    np.testing.assert_array_equal(labels, before[2])


def test_training_learns_what_is_linear(rng):
    features = rng.normal(size=(400, 5)).astype(np.float32)
    labels = features[:, :2] > 0
    settings = SETTINGS | {"epochs": 20, "batch_size": 20, "optimizer": "adam"}
    head = initial_head(5, 2, 0)
    trained, loss = train_head(head, features, labels, **settings | {"learning_rate": 0.05})
    assert ((scores(trained, features) > 0) == labels).mean() > 0.98
    assert loss < 0.1


def test_training_is_pytorchs(rng):
    """With the same order of examples, the same dropout, and the same numbers up to rounding."""
    features, labels = rng.random((50, 30), np.float32), rng.random((50, 4)) < 0.3
    head, weight = initial_head(30, 4, 0), np.array([1.0, 3.0, 0.5, 2.0])
    makers = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    for (optimizer, make), positive_weight in product(makers.items(), (None, weight)):
        changed = {"optimizer": optimizer, "positive_weight": positive_weight, "epochs": 3}
        changed |= {"batch_size": 8, "dropout": 0.2, "learning_rate": 0.01, "seed": 2**40 + 1}
        trained, mean_loss = train_head(head, features, labels, **SETTINGS | changed)
        layer = torch.nn.Linear(30, 4)
        layer.load_state_dict({key: torch.from_numpy(array) for key, array in head.items()})
        optimise = make(layer.parameters(), lr=0.01)
        positives = None if positive_weight is None else torch.from_numpy(weight).float()
        loss_of = torch.nn.BCEWithLogitsLoss(pos_weight=positives)
        torch.manual_seed(changed["seed"])
        for _ in range(3):
            losses = []
            for batch in torch.randperm(50).split(8):
                inputs = torch.nn.functional.dropout(torch.from_numpy(features)[batch], 0.2)
                loss = loss_of(layer(inputs), torch.from_numpy(labels).float()[batch])
                optimise.zero_grad()
                loss.backward()
                optimise.step()
                losses += [loss.item()] * len(batch)
        for key, array in trained.items():
            expected = getattr(layer, key).detach().numpy()
            np.testing.assert_allclose(array, expected, rtol=0, atol=1e-6)
        assert mean_loss == pytest.approx(np.mean(losses))


def test_a_loss_beyond_all_bounds_is_not_a_warning(data):
    settings = SETTINGS | {"epochs": 9, "learning_rate": 1e30}
    features = np.float32(1e20) * data[0]
    trained, loss = train_head(initial_head(3, 2, 0), features, data[1], **settings)
    assert not np.isfinite(loss)
    assert not np.isfinite(trained["weight"]).all()


def test_the_number_of_cores_changes_no_digit(rng):
    """64 examples by 1280 features are enough for two threads, each of which adds up a half."""
    features, labels = rng.random((64, 1280), np.float32), rng.random((64, 40)) < 0.3
    found = []
    for limit in (1, 2):
        with threadpool_limits(limit):
            found.append(train_head(initial_head(1280, 40, 0), features, labels, **SETTINGS)[0])
    np.testing.assert_array_equal(found[0]["weight"], found[1]["weight"])


def test_labels_that_do_not_count_move_nothing(data):
    """The gradient of the mean over all, with the terms of the others left out."""
    head = initial_head(3, 2, 0)
    counted = np.zeros((7, 2), bool)
    counted[2, 0] = counted[5, 0] = counted[5, 1] = True
    features, labels = data
    expected = {key: array.astype(float) for key, array in head.items()}
    loss = 0.0
    for row, output in np.argwhere(counted):
        x, y = features[row].astype(float), float(labels[row, output])
        q = 1 / (1 + np.exp(-(head["weight"][output] @ x + head["bias"][output])))
        expected["weight"][output] -= 0.5 * (q - y) * x / 14
        expected["bias"][output] -= 0.5 * (q - y) / 14
        loss -= np.log(q if y else 1 - q) / 3
    trained, mean_loss = train_head(head, *data, **SETTINGS | {"counted": counted})
    assert_close(trained, expected)
    assert mean_loss == pytest.approx(loss)


def test_where_all_labels_count_it_is_as_if_nothing_were_said(data):
    head = initial_head(3, 2, 0)
    expected, loss = train_head(head, *data, **SETTINGS)
    trained, mean_loss = train_head(head, *data, **SETTINGS | {"counted": np.ones((7, 2), bool)})
    assert_close(trained, expected)
    assert mean_loss == pytest.approx(loss)
