"""The head: dropout and one linear layer on frozen features, trained from scratch.

Its arrays are the only ones that travel: `weight` (attributes, dim) and `bias` (attributes,), both
float32, in PyTorch's layout; 51,240 numbers for 40 attributes on MobileNetV2.
"""

import math

import numpy as np

from celeba_fl.common.arrays import Arrays, Floats, Rows
from celeba_fl.common.threads import one_thread

BLOCK = 64


def initial_head(dim: int, outputs: int, seed: int) -> Arrays:
    """A head as PyTorch's `nn.Linear` would start it: uniform within 1 / sqrt(dim)."""
    rng = np.random.default_rng(seed)
    bound = 1 / math.sqrt(dim)
    return {
        "weight": rng.uniform(-bound, bound, (outputs, dim)).astype(np.float32),
        "bias": rng.uniform(-bound, bound, outputs).astype(np.float32),
    }


def base_rate_head(dim: int, positives: Floats, negatives: Floats) -> Arrays:
    """A head that knows how often each label is true, and nothing else: its loss is their entropy.

    The weights are 0 and the biases the log odds, log((positives + 1/2) / (negatives + 1/2)), of
    the numbers of both, (outputs,).
    """
    odds = (positives + 0.5) / (negatives + 0.5)
    weight = np.zeros((len(odds), dim), np.float32)
    return {"weight": weight, "bias": np.log(odds).astype(np.float32)}


@one_thread()
def scores(head: Arrays, features: Rows) -> np.ndarray:
    """Logits, (n, outputs) float64.

    In blocks of one fixed shape: BLAS adds up in an order that depends on the shape, and no score
    may depend on the examples that are scored with it, or counts of pooled examples would not
    equal the summed counts of clients. A second thread would gain nothing on a block, and then spin
    on a core that others need.
    """
    weight = head["weight"].astype(np.float64).T
    block = np.zeros((BLOCK, len(weight)))
    result = np.empty((len(features), weight.shape[1]))
    for start in range(0, len(features), BLOCK):
        part = features[start : start + BLOCK]
        block[: len(part)] = part
        result[start : start + BLOCK] = (block @ weight)[: len(part)]
    return result + head["bias"]
