"""The head: dropout and one linear layer on frozen features, trained from scratch.

Its arrays are the only ones that travel: `weight` (attributes, dim) and `bias` (attributes,), both
float32, in PyTorch's layout; 51,240 numbers for 40 attributes on MobileNetV2.
"""

import math

import numpy as np
import torch
from torch import nn

Arrays = dict[str, np.ndarray]
BLOCK = 256


def initial_head(dim: int, outputs: int, seed: int) -> Arrays:
    """A head as PyTorch's `nn.Linear` would start it: uniform within 1 / sqrt(dim)."""
    rng = np.random.default_rng(seed)
    bound = 1 / math.sqrt(dim)
    return {
        "weight": rng.uniform(-bound, bound, (outputs, dim)).astype(np.float32),
        "bias": rng.uniform(-bound, bound, outputs).astype(np.float32),
    }


def scores(head: Arrays, features: np.ndarray) -> np.ndarray:
    """Logits, (n, outputs) float64.

    In blocks of one fixed shape: BLAS adds up in an order that depends on the shape, and no score
    may depend on the examples that are scored with it, or counts of pooled examples would not
    equal the summed counts of clients.
    """
    weight = head["weight"].astype(np.float64).T
    block = np.zeros((BLOCK, len(weight)))
    result = np.empty((len(features), weight.shape[1]))
    for start in range(0, len(features), BLOCK):
        part = features[start : start + BLOCK]
        block[: len(part)] = part
        result[start : start + BLOCK] = (block @ weight)[: len(part)]
    return result + head["bias"]


def train_head(
    head: Arrays,
    features: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    optimizer: str,
    dropout: float,
    positive_weight: np.ndarray | None,
    example_weight: np.ndarray,
    proximal_mu: float,
    seed: int,
) -> tuple[Arrays, float]:
    """Train a head on one client's examples by mini-batches of binary cross-entropy.

    Parameters
    ----------
    head : dict[str, np.ndarray]
        Where training starts; not changed.
    features : np.ndarray
        (n, dim) float32, n > 0.
    labels : np.ndarray
        (n, outputs) bool.
    positive_weight : np.ndarray | None
        (outputs,) by which the loss of positives is multiplied.
    example_weight : np.ndarray
        (n,) of the mean over the examples; only their ratios matter.
    proximal_mu : float
        Weight of (mu / 2) ||w - w_0||^2 in the loss, w_0 where training starts (FedProx, Li et al.,
        MLSys 2020).
    seed : int
        Of the order of examples and of dropout.

    Returns
    -------
    tuple[dict[str, np.ndarray], float]
        The trained head, and the weighted mean training loss of the last epoch in nats.
    """
    torch.set_num_threads(1)  # several clients train side by side, and sums must not vary
    x, y = torch.from_numpy(features), torch.from_numpy(labels.astype(np.float32))
    weight, bias = (torch.tensor(head[key], requires_grad=True) for key in ("weight", "bias"))
    start = weight.detach().clone(), bias.detach().clone()
    positives = None if positive_weight is None else torch.from_numpy(positive_weight).float()
    factor = torch.from_numpy(example_weight / example_weight.mean()).float()[:, None]
    make = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer]
    optimise = make([weight, bias], lr=learning_rate)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(epochs):
            total = 0.0
            for batch in torch.randperm(len(x)).split(batch_size):
                dropped = nn.functional.dropout(x[batch], dropout)
                loss = nn.functional.binary_cross_entropy_with_logits(
                    nn.functional.linear(dropped, weight, bias),
                    y[batch],
                    weight=factor[batch],
                    pos_weight=positives,
                )
                total += loss.item() * len(batch)
                if proximal_mu:
                    moved = ((weight - start[0]) ** 2).sum() + ((bias - start[1]) ** 2).sum()
                    loss = loss + proximal_mu / 2 * moved
                optimise.zero_grad()
                loss.backward()
                optimise.step()
    trained = {"weight": weight.detach().numpy(), "bias": bias.detach().numpy()}
    return trained, total / len(x)
