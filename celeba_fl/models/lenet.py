"""LeNet-5 for small images in colour, trained whole; all its numbers travel.

LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc.
IEEE 86(11), 1998, with what has replaced its parts since: ReLU, max pooling, and batch norm (Ioffe
and Szegedy, ICML 2015) after each convolution, which therefore has no bias.

What becomes of batch norm in a federation: the running mean and variance travel with the weights
and are averaged like them, by examples, since the server evaluates one global model and needs
statistics for it. The mean of the clients' variances leaves out how far their means are apart, so
on unlike clients it is too small. FedBN (Li et al., ICLR 2021) keeps the layers on the clients
instead; it gives each client a model of its own and the server none. The counter
`num_batches_tracked` plays no part at a fixed momentum, and does not travel.
"""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.threads import one_thread
from celeba_fl.models.optimizers import make_optimizer, make_proximal_term

# Of CIFAR-10's train images, by channel.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
MOMENTUM = 0.9
BLOCK = 256


def lenet5(classes: int = 10) -> nn.Sequential:
    """The network: (n, 3, 32, 32) images as from `standardise` to (n, classes) logits.

    With ten classes, it has 62,028 weights and 44 running statistics.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 6, 5, bias=False),
            norm1=nn.BatchNorm2d(6),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5, bias=False),
            norm2=nn.BatchNorm2d(16),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            linear1=nn.Linear(16 * 5 * 5, 120),
            relu3=nn.ReLU(),
            linear2=nn.Linear(120, 84),
            relu4=nn.ReLU(),
            linear3=nn.Linear(84, classes),
        )
    )


def standardise(pixels: torch.Tensor) -> torch.Tensor:
    """Input of the network: (x / 255 - MEAN) / STD of (n, 3, 32, 32) uint8."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (pixels.float() / 255 - mean) / std


def initial_arrays(seed: int, classes: int = 10) -> Arrays:
    """PyTorch's own random weights, running means of 0 and variances of 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _arrays(lenet5(classes))


@one_thread()
def scores(arrays: Arrays, pixels: np.ndarray) -> np.ndarray:
    """Logits, (n, classes) float64, of (n, 3, 32, 32) uint8; with the running statistics."""
    network = load(arrays).eval()
    result = np.empty((len(pixels), len(arrays["linear3.bias"])))
    with torch.inference_mode():
        for start in range(0, len(pixels), BLOCK):
            block = standardise(torch.from_numpy(pixels[start : start + BLOCK]))
            result[start : start + BLOCK] = network(block).numpy()
    return result


@one_thread()
def train_lenet(
    arrays: Arrays,
    pixels: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    optimizer: str,
    proximal_mu: float,
    seed: int,
    on_epoch: Callable[[int, Arrays], None],
) -> tuple[Arrays, float]:
    """Train, from `arrays` on, on one client's examples by mini-batches of cross-entropy.

    Pixels are (n, 3, 32, 32) uint8, n > 0, and labels (n,) int64. The optimizer is ``adam``, or
    ``sgd`` with a momentum of 0.9. `proximal_mu` is the mu of FedProx, see `make_proximal_term`; 0
    is plain training. Running statistics are not among its weights. The seed is that of the order
    of examples. `on_epoch` is called after each epoch, with its number from 1 on and the model.

    Returns the trained model, and the mean training loss of the last epoch in nats.
    """
    x, y = torch.from_numpy(pixels), torch.from_numpy(labels)
    network = load(arrays)
    weights = list(network.parameters())
    proximal_term = make_proximal_term(weights, proximal_mu)
    step = make_optimizer(optimizer, weights, learning_rate, MOMENTUM)
    order = torch.Generator().manual_seed(seed)
    for epoch in range(1, epochs + 1):
        total = 0.0
        network.train()
        for batch in torch.randperm(len(x), generator=order).split(batch_size):
            loss = nn.functional.cross_entropy(network(standardise(x[batch])), y[batch])
            total += loss.item() * len(batch)
            if proximal_mu:
                loss = loss + proximal_term()
            loss.backward()
            step()
        on_epoch(epoch, _arrays(network))
    return _arrays(network), total / len(x)


def load(arrays: Arrays) -> nn.Sequential:
    """The network with its arrays."""
    network = lenet5(len(arrays["linear3.bias"]))
    network.load_state_dict({key: torch.tensor(array) for key, array in arrays.items()})
    return network


def _arrays(network: nn.Sequential) -> Arrays:
    """Copies of the arrays that travel."""
    state = network.state_dict().items()
    return {k: v.numpy().copy() for k, v in state if not k.endswith("num_batches_tracked")}
