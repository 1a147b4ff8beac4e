"""The two networks, and a client's training, against PyTorch's own parts."""

import numpy as np
import pytest
import torch
from torch import nn

from celeba_fl.models import dcgan

MAPS = 2


@pytest.fixture(scope="module")
def arrays():
    return dcgan.initial_arrays(MAPS, seed=1)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (10, 3, 64, 64)).astype(np.uint8)


def train(arrays, pixels, on_epoch=lambda *_: None, **changes):
    settings = {"epochs": 2, "batch_size": 4, "learning_rate": 2e-4, "optimizer": "adam", "seed": 7}
    return dcgan.train_dcgan(arrays, pixels, **{**settings, **changes}, on_epoch=on_epoch)


def test_the_networks_are_the_papers():
    making, judging = dcgan.generator(64), dcgan.discriminator(64)
    number = [sum(w.numel() for w in net.parameters()) for net in (making, judging)]
    # 16 (100 512 + 512 256 + 256 128 + 128 64 + 64 3), and two numbers a map for batch norm.
    assert number[0] == 16 * (51200 + 131072 + 32768 + 8192 + 192) + 2 * (512 + 256 + 128 + 64)
    assert number[1] == 16 * (192 + 8192 + 32768 + 131072 + 512) + 2 * (128 + 256 + 512)
    faces = making(torch.zeros(2, 100))
    assert faces.shape == (2, 3, 64, 64)
    assert judging(faces).shape == (2,)
    assert isinstance(making[-1], nn.Tanh)
    assert all(layer.bias is None for layer in [*making, *judging] if hasattr(layer, "stride"))


def test_weights_start_as_in_the_paper():
    found = dcgan.initial_arrays(16, seed=0)
    convs = [array for key, array in found.items() if "conv" in key]
    norms = [array for key, array in found.items() if "norm" in key and key.endswith(".weight")]
    assert np.concatenate([a.ravel() for a in convs]).std() == pytest.approx(0.02, rel=0.01)
    assert np.concatenate(norms).mean() == pytest.approx(1, abs=0.01)
    assert np.concatenate(norms).std() == pytest.approx(0.02, rel=0.2)
    for key, array in dcgan.initial_arrays(16, seed=0).items():
        np.testing.assert_array_equal(array, found[key])
    other = dcgan.initial_arrays(16, seed=1)["generator/conv1.weight"]
    assert not np.array_equal(other, found["generator/conv1.weight"])


def test_training_is_that_of_pytorchs_own_parts(arrays, pixels):
    making, judging = dcgan.generator(MAPS), dcgan.discriminator(MAPS)
    for name, net in (("generator", making), ("discriminator", judging)):
        state = {k.removeprefix(f"{name}/"): torch.tensor(v) for k, v in arrays.items()}
        net.load_state_dict({k: v for k, v in state.items() if "/" not in k})
    steps = [torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (making, judging)]
    bce, rng, expected = nn.BCELoss(), torch.Generator().manual_seed(7), []
    for _ in range(2):
        sums = np.zeros(2)
        for batch in torch.randperm(10, generator=rng).split(4):
            n = len(batch)
            real, fake = torch.ones(n), torch.zeros(n)
            images = torch.from_numpy(pixels)[batch] / 255 * 2 - 1
            made = making(torch.randn(n, 100, generator=rng))
            judging.zero_grad()
            loss = bce(judging(images).sigmoid(), real) + bce(
                judging(made.detach()).sigmoid(), fake
            )
            loss.backward()
            steps[1].step()
            making.zero_grad()
            taken_in = bce(judging(made).sigmoid(), real)
            taken_in.backward()
            steps[0].step()
            sums += n * np.array([taken_in.item(), loss.item()])
        expected.append(sums)

    said = []
    found = train(arrays, pixels, lambda epoch, sums: said.append((epoch, *sums)))
    for name, net in (("generator", making), ("discriminator", judging)):
        for key, value in net.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                np.testing.assert_allclose(found[f"{name}/{key}"], value, atol=1e-5, err_msg=key)
    assert [epoch for epoch, *_ in said] == [1, 2]
    np.testing.assert_allclose([sums for _, *sums in said], expected, rtol=1e-4)


def test_training_leaves_its_start_alone_and_goes_by_its_seed(arrays, pixels):
    before = {key: array.copy() for key, array in arrays.items()}
    one, same, other = (train(arrays, pixels, seed=seed) for seed in (1, 1, 2))
    for key, array in arrays.items():
        np.testing.assert_array_equal(array, before[key])
        np.testing.assert_array_equal(one[key], same[key])
    assert one.keys() == arrays.keys()
    key = "generator/conv3.weight"
    assert not np.array_equal(one[key], other[key])
    assert not np.array_equal(one[key], arrays[key])


def test_untrained_losses_are_those_of_a_coin(pixels):
    arrays = dcgan.initial_arrays(MAPS, seed=0)
    arrays["discriminator/conv5.weight"] = 0 * arrays["discriminator/conv5.weight"]
    assert dcgan.judge(arrays, pixels, seed=0) == pytest.approx((10 * np.log(2), 20 * np.log(2)))
    assert dcgan.judge(arrays, pixels[:0], seed=0) == (0, 0)


def test_losses_of_a_discriminator_that_sees_through(arrays, pixels):
    """Where generated faces have the logit -a and real ones b, both losses are known."""
    network = dcgan.load(dcgan.discriminator, arrays, "discriminator").eval()
    making = dcgan.load(dcgan.generator, arrays, "generator").eval()
    with torch.no_grad():
        real = network(torch.from_numpy(pixels) / 127.5 - 1).double()
        made = network(making(torch.from_numpy(dcgan.noise(10, 3)))).double()
    softplus = nn.functional.softplus
    expected = softplus(-made).sum(), softplus(-real).sum() + softplus(made).sum()
    assert dcgan.judge(arrays, pixels, seed=3) == pytest.approx([v.item() for v in expected])


def test_faces_are_pixels_and_depend_on_their_own_noise_alone(arrays):
    bold = {key: array * (10 if "conv" in key else 1) for key, array in arrays.items()}
    inputs = dcgan.noise(70, seed=0)
    faces = np.stack([*dcgan.generate(bold, inputs)])
    assert faces.shape == (70, 3, 64, 64)
    assert faces.dtype == np.uint8
    with torch.no_grad():
        made = dcgan.load(dcgan.generator, bold, "generator").eval()(torch.from_numpy(inputs))
    assert abs(faces - (made.numpy() + 1) / 2 * 255).max() < 0.51
    assert faces.std() > 10
    alone = np.stack([*dcgan.generate(bold, inputs[65:67])])
    assert abs(alone.astype(int) - faces[65:67]).max() <= 1
    np.testing.assert_array_equal(dcgan.noise(70, seed=0)[:5], dcgan.noise(5, seed=0))
