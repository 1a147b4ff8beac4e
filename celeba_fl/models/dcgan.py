"""DCGAN: faces of 64 x 64 pixels from noise, by two networks that train against each other.

Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014; Radford, Metz and Chintala,
"Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks", ICLR
2016 (arXiv 1511.06434), with standard normal noise in place of uniform, as has become usual.

What becomes of batch norm in a federation: the running means and variances travel with the weights
and are averaged like them, by examples, since the server generates from one global model, and a
generator without statistics would make each face depend on those that are made with it. As for
`celeba_fl.models.lenet`, the mean of the clients' variances leaves out how far their means are
apart. Keys of the arrays are ``generator/...`` and ``discriminator/...``; the counters
`num_batches_tracked` play no part at a fixed momentum, and do not travel.

What becomes of Adam: its moments are those of gradients at weights from which averaging has moved
the client, so each round begins them anew. A client then keeps nothing of them, and one that has
been away trains like all others. By the bias correction, the first steps of a round are of full
length in each weight.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from celeba_fl.common.arrays import Arrays, Rows
from celeba_fl.common.threads import one_thread
from celeba_fl.models.optimizers import make_optimizer

NETWORK = "celeba_fl.models.dcgan:generator"
SIZE = 64
NOISE = 100
BETA1 = 0.5
SLOPE = 0.2
# Images that are in memory at once where nothing is trained.
BLOCK = 64


class Losses(NamedTuple):
    """Sums over images x and noise z, in nats.

    Of the generator -log D(G(z)), the loss that does not saturate (Goodfellow et al. 2014, section
    3); of the discriminator -log D(x) - log(1 - D(G(z))).
    """

    generator: float
    discriminator: float


def generator(maps: int) -> nn.Sequential:
    """(n, NOISE) noise to (n, 3, SIZE, SIZE) images within [-1, 1]; 64 `maps` in the paper."""
    layers: list[nn.Module] = [nn.Unflatten(1, (NOISE, 1, 1))]
    channels = (NOISE, 8 * maps, 4 * maps, 2 * maps, maps)
    for i, (before, after) in enumerate(pairwise(channels)):
        stride, padding = (2, 1) if i else (1, 0)
        conv = nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False)
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
    return _named([*layers, nn.ConvTranspose2d(maps, 3, 4, 2, 1, bias=False), nn.Tanh()])


def discriminator(maps: int) -> nn.Sequential:
    """(n, 3, SIZE, SIZE) images within [-1, 1] to (n,) logits, above 0 where they look real."""
    layers: list[nn.Module] = [nn.Conv2d(3, maps, 4, 2, 1, bias=False), nn.LeakyReLU(SLOPE)]
    channels = (maps, 2 * maps, 4 * maps, 8 * maps)
    for before, after in pairwise(channels):
        conv = nn.Conv2d(before, after, 4, 2, 1, bias=False)
        layers += [conv, nn.BatchNorm2d(after), nn.LeakyReLU(SLOPE)]
    return _named([*layers, nn.Conv2d(8 * maps, 1, 4, bias=False), nn.Flatten(0)])


def initial_arrays(maps: int, seed: int) -> Arrays:
    """Weights from N(0, 0.02) as in the paper, and as in its code N(1, 0.02) for batch norm."""
    networks = generator(maps), discriminator(maps)
    rng = torch.Generator().manual_seed(seed)
    for module in chain.from_iterable(network.modules() for network in networks):
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02, generator=rng)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02, generator=rng)
    return _arrays(*networks)


def noise(number: int, seed: int) -> np.ndarray:
    """(number, NOISE) float32, standard normal; the same seed begins with the same rows."""
    return np.random.default_rng(seed).standard_normal((number, NOISE), np.float32)


@one_thread()
def generate(arrays: Arrays, inputs: np.ndarray) -> Iterator[np.ndarray]:
    """The faces (3, SIZE, SIZE) uint8 of (n, NOISE) float32, one by one; running statistics."""
    network = load(generator, arrays, "generator").eval()
    with torch.inference_mode():
        for block in torch.from_numpy(inputs).split(BLOCK):
            yield from in_8_bits(network(block)).numpy()


@one_thread()
def judge(arrays: Arrays, pixels: Rows, seed: int) -> Losses:
    """The losses on images (n, 3, SIZE, SIZE) uint8 and as many generated ones; nothing is trained.

    With the running statistics, so that they add up whatever the images are judged with.
    """
    making = load(generator, arrays, "generator").eval()
    judging = load(discriminator, arrays, "discriminator").eval()
    inputs = torch.from_numpy(noise(len(pixels), seed)).split(BLOCK)
    sums = np.zeros(2)
    with torch.inference_mode():
        for i, block in enumerate(inputs if len(pixels) else ()):
            real = judging(_scaled(pixels[i * BLOCK : (i + 1) * BLOCK]))
            made = judging(making(block))
            seen_through = _bce(real, True) + _bce(made, False)
            sums += np.array([_bce(made, True).item(), seen_through.item()]) * len(block)
    return Losses(*sums.tolist())


@one_thread()
def train_dcgan(
    arrays: Arrays,
    pixels: Rows,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    optimizer: str,
    seed: int,
    on_epoch: Callable[[int, Losses], None],
) -> Arrays:
    """Train both networks, from `arrays` on, on one client's images, by turns of a step each.

    Images are (n, 3, SIZE, SIZE) uint8, n > 0, and read batch by batch. The optimizer is ``adam``,
    with BETA1, or ``sgd``; the seed is that of the order of images and of the noise. `on_epoch` is
    called after each epoch, with its number from 1 on and the losses of its steps; a step counts
    with as many generated images as it had real ones.
    """
    making = load(generator, arrays, "generator")
    judging = load(discriminator, arrays, "discriminator")
    step_making, step_judging = (
        make_optimizer(optimizer, list(network.parameters()), learning_rate, beta1=BETA1)
        for network in (making, judging)
    )
    rng = torch.Generator().manual_seed(seed)
    for epoch in range(1, epochs + 1):
        sums = np.zeros(2)
        for batch in torch.randperm(len(pixels), generator=rng).split(batch_size):
            real = _scaled(pixels[batch.numpy()])
            made = making(torch.randn((len(batch), NOISE), generator=rng))
            seen_through = _bce(judging(real), True) + _bce(judging(made.detach()), False)
            seen_through.backward()
            step_judging()
            judging.requires_grad_(False)
            taken_in = _bce(judging(made), True)
            taken_in.backward()
            step_making()
            judging.requires_grad_(True)
            sums += np.array([taken_in.item(), seen_through.item()]) * len(batch)
        on_epoch(epoch, Losses(*sums.tolist()))
    return _arrays(making, judging)


def _bce(logits: torch.Tensor, real: bool) -> torch.Tensor:
    """Mean binary cross-entropy of images that are all real, or all generated."""
    return nn.functional.softplus(-logits if real else logits).mean()


def in_8_bits(pictures: torch.Tensor) -> torch.Tensor:
    """[-1, 1] to uint8."""
    return ((pictures + 1) * 127.5).round().to(torch.uint8)


def _scaled(pixels: np.ndarray) -> torch.Tensor:
    """Uint8 to [-1, 1]."""
    return torch.from_numpy(pixels).float() / 127.5 - 1


def _named(layers: list[nn.Module]) -> nn.Sequential:
    """Name layers by kind and number of their block: ``conv1``, ``norm1``."""
    names, block = [], 0
    for layer in layers:
        convolves = isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        block += convolves
        kind = "conv" if convolves else type(layer).__name__.lower()
        names.append(f"{kind.replace('batchnorm2d', 'norm')}{block}")
    return nn.Sequential(OrderedDict(zip(names, layers, strict=True)))


def load(make: Callable[[int], nn.Sequential], arrays: Arrays, name: str) -> nn.Sequential:
    """The generator or the discriminator, with the arrays that bear its name."""
    own = {
        key.removeprefix(f"{name}/"): torch.tensor(array)
        for key, array in arrays.items()
        if key.startswith(f"{name}/")
    }
    # The convolutions on the side of the image tell the number of maps.
    maps = own["conv5.weight"].shape[0] if name == "generator" else own["conv1.weight"].shape[0]
    network = make(maps)
    network.load_state_dict(own)
    return network


def _arrays(making: nn.Sequential, judging: nn.Sequential) -> Arrays:
    """Copies of the trained arrays."""
    return {
        f"{name}/{key}": value.numpy().copy()
        for name, network in (("generator", making), ("discriminator", judging))
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
