import numpy as np
import pytest
import torch
from torch import nn

from celeba_fl.models.lenet import (
    MEAN,
    STD,
    initial_arrays,
    lenet5,
    scores,
    standardise,
    train_lenet,
)

SETTINGS = {
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 0.01,
    "optimizer": "sgd",
    "proximal_mu": 0.0,
    "seed": 5,
    "on_epoch": lambda epoch, arrays: None,
}


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (20, 3, 32, 32)).astype(np.uint8), np.arange(20) % 10


def test_shapes_of_every_layer():
    shapes = {}
    x = torch.zeros(2, 3, 32, 32)
    for name, layer in lenet5().named_children():
        x = layer(x)
        shapes[name] = tuple(x.shape[1:])
    assert shapes["conv1"] == shapes["relu1"] == (6, 28, 28)
    assert shapes["pool1"] == (6, 14, 14)
    assert shapes["conv2"] == shapes["relu2"] == (16, 10, 10)
    assert shapes["pool2"] == (16, 5, 5)
    assert shapes["flatten"] == (400,)
    assert [shapes[f"linear{i}"] for i in (1, 2, 3)] == [(120,), (84,), (10,)]


def test_number_of_weights_by_hand():
    convolutions = 6 * 3 * 25 + 16 * 6 * 25
    norms = 2 * 6 + 2 * 16
    linear = (400 + 1) * 120 + (120 + 1) * 84 + (84 + 1) * 10
    assert sum(p.numel() for p in lenet5().parameters()) == convolutions + norms + linear == 62_028
    statistics = 2 * (6 + 16)
    assert sum(a.size for a in initial_arrays(0).values()) == 62_028 + statistics


def test_all_but_the_counters_travel():
    names = {k for k in lenet5().state_dict() if not k.endswith("num_batches_tracked")}
    arrays = initial_arrays(0)
    assert arrays.keys() == names
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    assert (arrays["norm2.running_var"] == 1).all()
    assert (arrays["norm2.running_mean"] == 0).all()


def test_initial_arrays_are_a_function_of_the_seed():
    state = torch.random.get_rng_state()
    one, same, other = initial_arrays(1), initial_arrays(1), initial_arrays(2)
    assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_array_equal(one["conv1.weight"], same["conv1.weight"])
    assert not np.array_equal(one["conv1.weight"], other["conv1.weight"])


def test_pixels_are_standardised_by_channel():
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    values = standardise(pixels.expand(1, 3, 2, 2))
    by_hand = [(x - m) / s for x, m, s in zip((0, 1, 0.2), MEAN, STD, strict=True)]
    np.testing.assert_allclose(values[0, :, 1, 1], by_hand, rtol=1e-6)


def test_scores_use_the_running_statistics(examples):
    pixels, _ = examples
    arrays = initial_arrays(0)
    network = lenet5().eval()
    network.load_state_dict({key: torch.tensor(array) for key, array in arrays.items()})
    with torch.no_grad():
        by_torch = network(standardise(torch.from_numpy(pixels))).numpy()
    np.testing.assert_allclose(scores(arrays, pixels), by_torch, rtol=1e-5, atol=1e-6)
    # So an image's scores do not depend on those beside it.
    np.testing.assert_allclose(scores(arrays, pixels[3:4])[0], by_torch[3], rtol=1e-5, atol=1e-6)
    moved = {**arrays, "norm1.running_mean": arrays["norm1.running_mean"] + 1}
    assert np.abs(scores(moved, pixels) - by_torch).max() > 0.001


def test_no_images_have_no_scores():
    assert scores(initial_arrays(0), np.empty((0, 3, 32, 32), np.uint8)).shape == (0, 10)


def test_running_statistics_of_one_batch_by_hand(examples):
    pixels, labels = examples
    arrays = initial_arrays(0)
    trained, _ = train_lenet(arrays, pixels, labels, **{**SETTINGS, "epochs": 1, "batch_size": 20})
    seen = nn.functional.conv2d(
        standardise(torch.from_numpy(pixels)), torch.tensor(arrays["conv1.weight"])
    )
    mean, var = seen.mean(dim=(0, 2, 3)), seen.var(dim=(0, 2, 3))
    np.testing.assert_allclose(trained["norm1.running_mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(trained["norm1.running_var"], 0.9 + 0.1 * var, rtol=1e-4)


def by_pytorch(arrays, pixels, labels, make, epochs, batch_size, seed):
    """The same training, as one would write it."""
    network = lenet5()
    network.load_state_dict({key: torch.tensor(array) for key, array in arrays.items()})
    optimizer = make(network.parameters())
    x, y = standardise(torch.from_numpy(pixels)), torch.from_numpy(labels)
    torch.manual_seed(seed)
    losses = []
    for _ in range(epochs):
        network.train()
        for batch in torch.randperm(len(x)).split(batch_size):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item() * len(batch))
    last = losses[-(len(losses) // epochs) :]
    return {key: value.numpy() for key, value in network.state_dict().items()}, sum(last) / len(x)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_training_is_pytorchs(examples, optimizer):
    make = {
        "adam": lambda weights: torch.optim.Adam(weights, lr=0.01),
        "sgd": lambda weights: torch.optim.SGD(weights, lr=0.01, momentum=0.9),
    }[optimizer]
    arrays = initial_arrays(0)
    trained, loss = train_lenet(arrays, *examples, **{**SETTINGS, "optimizer": optimizer})
    known, known_loss = by_pytorch(
        arrays, examples[0], examples[1], make, epochs=2, batch_size=8, seed=5
    )
    assert loss == pytest.approx(known_loss, rel=1e-5)
    for key, array in trained.items():
        np.testing.assert_allclose(array, known[key], rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(arrays["conv1.weight"], initial_arrays(0)["conv1.weight"])


def test_the_proximal_term_holds_weights_back(examples):
    arrays = initial_arrays(0)

    def moved(proximal_mu):
        trained, _ = train_lenet(arrays, *examples, **{**SETTINGS, "proximal_mu": proximal_mu})
        return np.linalg.norm(trained["linear1.weight"] - arrays["linear1.weight"])

    assert moved(10.0) < 0.8 * moved(0.0)


def test_each_epoch_is_shown(examples):
    seen = []
    settings = {**SETTINGS, "on_epoch": lambda epoch, arrays: seen.append((epoch, arrays))}
    trained, _ = train_lenet(initial_arrays(0), *examples, **settings)
    assert [epoch for epoch, _ in seen] == [1, 2]
    np.testing.assert_array_equal(seen[1][1]["conv1.weight"], trained["conv1.weight"])
    assert not np.array_equal(seen[0][1]["conv1.weight"], trained["conv1.weight"])
    once, _ = train_lenet(initial_arrays(0), *examples, **{**SETTINGS, "epochs": 1})
    np.testing.assert_array_equal(seen[0][1]["conv1.weight"], once["conv1.weight"])


def test_a_single_example_is_enough(examples):
    pixels, labels = examples
    trained, loss = train_lenet(initial_arrays(0), pixels[:1], labels[:1], **SETTINGS)
    assert np.isfinite(loss)
    assert all(np.isfinite(array).all() for array in trained.values())
