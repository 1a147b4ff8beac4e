"""The linear head that examples in one place would give: logistic regression with one L2.

It is what federated heads are compared with: the loss that they are trained for, minimised to the
end, with one penalty for all outputs, chosen on validation examples. No number of epochs, no step
size and no seed has a part in it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.arrays import Arrays, Floats, Rows
from celeba_fl.common.log import LOG

if TYPE_CHECKING:
    from torch import Tensor

# L2 in units of the mean variance of a feature, from where hardly anything is learned; as
# celeba_fl.models.ridge has lambda: one grid for all sizes of data and scales of features.
RATIOS = 10.0 ** np.arange(1.0, -5.25, -0.25)
# The gradient of the mean loss at which a head is the minimum.
TOLERANCE = 1e-5
# A direction whose variance is below so many parts of the largest is rounding.
TINY = 1e-10


@dataclass(frozen=True)
class Fitted:
    """The head of least loss on validation, its L2 in units of RATIOS, and that loss in nats."""

    head: Arrays
    ratio: float
    loss: float


def fit(
    features: Rows,
    labels: NDArray[np.bool_],
    valid_features: Rows,
    valid_labels: NDArray[np.bool_],
    counted: NDArray[np.bool_] | None = None,
) -> Fitted:
    """Fit a head for each L2, from the strongest on, until the loss on validation rises.

    Features are (n, dim), labels (n, outputs); both parts have at least one example. `counted`,
    of the labels' shape, says which labels are learned from; all by default.
    """
    held_out = np.asarray(valid_features[:], np.float64)
    best = Fitted({}, np.nan, np.inf)
    for ratio, weight, bias in path(np.asarray(features[:], np.float64), labels, counted):
        loss = cross_entropy(held_out @ weight + bias, valid_labels)
        if loss >= best.loss:
            break
        head = {"weight": weight.T.astype(np.float32), "bias": bias.astype(np.float32)}
        best = Fitted(head, ratio, loss)
    if best.ratio in (RATIOS[0], RATIOS[-1]):
        LOG.warning("L2 / mean variance = %g is the end of the grid", best.ratio)
    return best


def cross_entropy(scores: Floats, labels: NDArray[np.bool_]) -> float:
    """Mean binary cross-entropy of logits in nats."""
    return float(np.mean(np.logaddexp(0, np.where(labels, -scores, scores))))


def path(
    x: Floats, labels: NDArray[np.bool_], counted: NDArray[np.bool_] | None = None
) -> Iterator[tuple[float, Floats, Floats]]:
    """The minimum of ``sum of losses / n + l2 / 2 |W|^2`` for each of `RATIOS`, strongest first.

    The ratio, the weights (dim, outputs) and the biases (outputs,), which are not penalised. Each
    is sought from the one before it, along the principal axes of the features, each axis in the
    unit in which the loss is about as steep as along the others: among raw features, whose
    variances are a million to one, L-BFGS would take thousands of steps.
    """
    import torch

    n, mean = len(x), x.mean(axis=0)
    values, axes = np.linalg.eigh((x - mean).T @ (x - mean) / n)
    variance = max(float(values.mean()), np.finfo(np.float64).tiny)
    kept = values > TINY * max(float(values[-1]), variance)
    values, axes = values[kept], axes[:, kept]
    along, truth = torch.from_numpy((x - mean) @ axes), torch.from_numpy(labels.astype(np.float64))
    mask = torch.ones_like(truth)
    if counted is not None:
        mask = torch.from_numpy(counted.astype(np.float64))
    positives, number = (truth * mask).sum(0) + 0.5, mask.sum(0) + 1
    bias = torch.log(positives / (number - positives))
    weight = torch.zeros(len(values), len(bias), dtype=torch.float64)
    for ratio in RATIOS.tolist():
        l2 = ratio * variance
        chance = torch.sigmoid(along @ weight + bias)
        curved = (mask * chance * (1 - chance)).mean(0)
        unit = 1 / torch.sqrt(torch.from_numpy(values)[:, None] * curved + l2)
        weight, bias = _minimum(along, truth, mask, weight, bias, unit, l2)
        back = axes @ weight.numpy()
        yield ratio, back, bias.numpy() - mean @ back


def _minimum(
    x: "Tensor",
    truth: "Tensor",
    mask: "Tensor",
    weight: "Tensor",
    bias: "Tensor",
    unit: "Tensor",
    l2: float,
) -> "tuple[Tensor, Tensor]":
    """The best weights and biases, sought from those that are given, in these units."""
    import torch

    loss_of = torch.nn.functional.binary_cross_entropy_with_logits
    sought, moved = (weight / unit).requires_grad_(), bias.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [sought, moved],
        max_iter=1000,
        tolerance_grad=TOLERANCE,
        tolerance_change=0.0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def objective() -> float:
        optimizer.zero_grad()
        weight = sought * unit
        loss: Tensor = loss_of(x @ weight + moved, truth, mask, reduction="sum") / len(x)
        loss = loss + l2 / 2 * (weight**2).sum()
        loss.backward()
        return loss.detach().item()

    optimizer.step(objective)
    return (sought * unit).detach(), moved.detach()
