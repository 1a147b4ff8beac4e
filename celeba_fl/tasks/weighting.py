"""Weights of classes and groups in the loss, from what is counted over all clients."""

from collections.abc import Callable, Mapping

import numpy as np

from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES, group_names, membership
from celeba_fl.evaluation.metrics import ratio
from celeba_fl.task import Instructions

# From labels (n, attributes) to the weight of each example, (n,).
Weigh = Callable[[np.ndarray], np.ndarray]


def instruct(config: RunConfig, counts: Mapping[str, int], num_train: int) -> Instructions:
    """The weights that `class-weights` and `group-weighting` ask for.

    Parameters
    ----------
    config : RunConfig
        Has both keys.
    counts : Mapping[str, int]
        Train examples of all clients by group and by attribute.
    num_train : int
        All of them.
    """
    weights: Instructions = {}
    if config.class_weights:
        positives = np.array([counts[name] for name in ATTRIBUTES])
        weights["positive-weight"] = positive_weights(positives, num_train)
    if config.weighted:
        sizes = np.array([counts[name] for name in group_names(config.weighted)])
        weights["group-weights"] = group_weights(sizes, num_train)
    return weights


def positive_weights(positives: np.ndarray, num_train: int) -> list[float]:
    """Negatives / positives of each attribute over all clients, 1 if there are not both.

    Parameters
    ----------
    positives : np.ndarray
        (attributes,) int64, examples with the attribute.
    num_train : int
        All examples.
    """
    weights = ratio(num_train - positives, positives)
    return np.where(weights > 0, weights, 1.0).tolist()


def group_weights(sizes: np.ndarray, num_train: int) -> list[float]:
    """N / (G N_g) for each of the G groups that has examples, N_g of all N, and 0 for the others.

    So groups count equally in the loss. That tuning the last layer alone is enough for fairness is
    due to Mao et al., "Last-Layer Fairness Fine-tuning is Simple and Effective for Neural
    Networks", 2023, arXiv 2304.03935.

    Parameters
    ----------
    sizes : np.ndarray
        (groups,) int64, examples of each.
    num_train : int
        All examples.
    """
    return np.nan_to_num(ratio(np.array(num_train), sizes * (sizes > 0).sum())).tolist()


def weigh(config: RunConfig, instructions: Instructions) -> Weigh:
    """Make the function from labels to the weights of their groups, 1 each without groups."""
    weights = np.array(instructions.get("group-weights", [1.0]))
    return lambda labels: membership(labels, ATTRIBUTES, config.weighted) @ weights
