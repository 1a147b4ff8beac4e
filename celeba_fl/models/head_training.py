"""Training the head on one client's examples, in NumPy.

A head is two small matrix products, and a client in a deployment is a new process for every
message: importing PyTorch would take it longer than everything else. All is as PyTorch does it, the
random numbers among it, so that models are the same up to rounding.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import RandomState

from celeba_fl.common.arrays import Arrays, Rows
from celeba_fl.common.memory import keep_freed_memory
from celeba_fl.common.threads import one_thread

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam


@one_thread()
@np.errstate(over="ignore", invalid="ignore")  # where training diverges, the loss says so
def train_head(
    head: Arrays,
    features: Rows,
    labels: np.ndarray,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    optimizer: str,
    dropout: float,
    positive_weight: np.ndarray | None,
    example_weight: np.ndarray,
    counted: np.ndarray | None = None,
    proximal_mu: float,
    seed: int,
) -> tuple[Arrays, float]:
    """Train a head, from `head` on, on one client's examples by binary cross-entropy.

    Features are (n, dim) float32, n > 0, and read batch by batch; labels are (n, outputs) bool. The
    loss of positives is multiplied by `positive_weight`, (outputs,); `example_weight`, (n,), are
    weights in the mean over the examples, of which only the ratios matter.

    Where `counted`, (n, outputs) bool and not all False, is given, it says which labels are learned
    from. The terms of others are left out of the loss of a batch, whose divisor stays that of all:
    each label that counts moves the head as far as it does among all.

    `proximal_mu` is the mu of FedProx, by whose (mu / 2) ||w - w_0||^2 the head is drawn back to
    where it started (Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020); 0
    is plain training. The seed is that of the order of examples and of dropout.

    Returns the trained head, and the weighted mean training loss of the last epoch in nats, over
    the labels that count.
    """
    keep_freed_memory()
    n, y = len(labels), labels.astype(np.float32)
    # The bias is the weight of one more input, which is always 1 and never dropped.
    weights = np.column_stack([head["weight"], head["bias"]])
    start = weights.copy()
    positives = np.float32(1) if positive_weight is None else positive_weight.astype(np.float32)
    factor = (example_weight / example_weight.mean()).astype(np.float32)[:, None]
    share = 1.0
    if counted is not None:
        factor = factor * counted
        share = float(factor.mean())
    step = _adam(weights, learning_rate) if optimizer == "adam" else _sgd(weights, learning_rate)

    random = RandomState(seed % 2**32)
    inputs = np.ones((min(batch_size, n), weights.shape[1]), np.float32)
    for _ in range(epochs):
        total = 0.0
        order = _permutation(random, n)
        for first in range(0, n, batch_size):
            batch = order[first : first + batch_size]
            x = inputs[: len(batch)]
            x[:, :-1] = features[batch]
            if dropout:
                x[:, :-1] *= _kept(random, (len(batch), x.shape[1] - 1), dropout)
            scores = x @ weights.T
            missed = np.logaddexp(np.float32(0), -scores)  # the loss of a positive
            negative = 1 - y[batch]
            weight = positives * y[batch] + negative
            loss = (negative * scores + weight * missed) * factor[batch]
            slope = (negative + weight * np.expm1(-missed)) * (factor[batch] / loss.size)
            total += float(loss.mean()) * len(batch)
            gradient = slope.T @ x
            if proximal_mu:
                gradient += np.float32(proximal_mu) * (weights - start)
            step(gradient)
    return {"weight": weights[:, :-1].copy(), "bias": weights[:, -1].copy()}, total / (share * n)


def _adam(weights: np.ndarray, learning_rate: float) -> Callable[[np.ndarray], None]:
    """Steps of Adam (Kingma and Ba, ICLR 2015), which change `weights` in place."""
    mean, square, work = (np.zeros_like(weights) for _ in range(3))
    steps = 0

    def step(gradient: np.ndarray) -> None:
        """Take a step; in place, as memory for results of this size costs as much as the sums."""
        nonlocal steps
        steps += 1
        np.subtract(gradient, mean, out=work)
        np.add(mean, np.multiply(work, 1 - BETA1, out=work), out=mean)
        np.multiply(np.square(gradient, out=gradient), 1 - BETA2, out=gradient)
        np.add(np.multiply(square, BETA2, out=square), gradient, out=square)
        root = np.divide(np.sqrt(square, out=work), (1 - BETA2**steps) ** 0.5, out=work)
        root += EPSILON
        moved = np.multiply(mean, learning_rate / (1 - BETA1**steps), out=gradient)
        moved /= root
        weights[...] -= moved

    return step


def _sgd(weights: np.ndarray, learning_rate: float) -> Callable[[np.ndarray], None]:
    """Steps of gradient descent, which change `weights` in place."""

    def step(gradient: np.ndarray) -> None:
        weights[...] -= learning_rate * gradient

    return step


def _permutation(random: RandomState, n: int) -> np.ndarray:
    """An order of `n` examples, as `torch.randperm` draws it."""
    draws = random.randint(2**32, size=n - 1, dtype=np.uint32)
    order = list(range(n))
    for i, further in enumerate((draws % np.arange(n, 1, -1)).tolist()):
        order[i], order[i + further] = order[i + further], order[i]
    return np.array(order)


def _kept(random: RandomState, shape: tuple[int, int], dropout: float) -> np.ndarray:
    """Factors of inputs, as those of `torch.nn.functional.dropout`: 0 for what is dropped."""
    draws = random.randint(2**64, size=shape, dtype=np.uint64)
    draws &= np.uint64(2**53 - 1)
    return (draws < (1 - dropout) * 2**53) / np.float32(1 - dropout)
