"""Training the head on one client's examples."""

import numpy as np
import torch
from torch import nn

from celeba_fl.common.arrays import Arrays, Rows
from celeba_fl.common.threads import one_thread
from celeba_fl.models.optimizers import make_optimizer, make_proximal_term


@one_thread()
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

    `proximal_mu` is the mu of FedProx, see `make_proximal_term`; 0 is plain training. The seed is
    that of the order of examples and of dropout.

    Returns the trained head, and the weighted mean training loss of the last epoch in nats, over
    the labels that count.
    """
    y = torch.from_numpy(labels.astype(np.float32))
    weight, bias = (torch.tensor(head[key], requires_grad=True) for key in ("weight", "bias"))
    proximal_term = make_proximal_term([weight, bias], proximal_mu)
    positives = None if positive_weight is None else torch.from_numpy(positive_weight).float()
    factor = torch.from_numpy(example_weight / example_weight.mean()).float()[:, None]
    share = 1.0
    if counted is not None:
        factor = factor * torch.from_numpy(counted)
        share = float(factor.mean())
    step = make_optimizer(optimizer, [weight, bias], learning_rate)

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed sees to all GPUs, too
        for _ in range(epochs):
            total = 0.0
            for batch in torch.randperm(len(y)).split(batch_size):
                x = torch.from_numpy(features[batch.numpy()])
                inputs, targets = nn.functional.dropout(x, dropout), y[batch]
                logits = nn.functional.linear(inputs, weight, bias)
                loss = nn.functional.binary_cross_entropy_with_logits(
                    logits, targets, weight=factor[batch], pos_weight=positives
                )
                total += loss.item() * len(batch)
                if proximal_mu:
                    loss = loss + proximal_term()
                loss.backward()
                step()
    trained = {"weight": weight.detach().numpy(), "bias": bias.detach().numpy()}
    return trained, total / (share * len(y))
