"""Weights of classes and groups in the loss, from what is counted over all clients."""

from collections.abc import Callable, Mapping

import numpy as np

from celeba_fl.common.arrays import Floats, Ints
from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES, group_names, membership
from celeba_fl.evaluation.metrics import ratio
from celeba_fl.task import Instructions

# From labels (n, attributes) to the weight of each example, (n,).
Weigh = Callable[[np.ndarray], np.ndarray]


def instruct(config: RunConfig, counts: Mapping[str, int], num_train: int) -> Instructions:
    """The weights that `class-weights` and `group-weighting` ask for.

    By counts of all clients' train examples: a positive of an attribute weighs negatives /
    positives, 1 if there are not both; an example of a group N / (G N_g), where G groups have
    examples, N_g of all N, and 0 in the others. So groups count equally in the loss. That tuning
    the last layer alone is enough for fairness is due to Mao et al., "Last-Layer Fairness
    Fine-tuning is Simple and Effective for Neural Networks", 2023, arXiv 2304.03935.
    """
    weights: Instructions = {}
    if config.class_weights:
        positives = np.array([counts[name] for name in ATTRIBUTES])
        weights["positive-weight"] = of_positives(positives, num_train - positives).tolist()
    if config.weighted:
        sizes = np.array([counts[name] for name in group_names(config.weighted)])
        by_group = ratio(np.array(num_train), sizes * (sizes > 0).sum())
        weights["group-weights"] = np.nan_to_num(by_group).tolist()
    return weights


def of_positives(positives: Ints, negatives: Ints) -> Floats:
    """The weight of positives of each attribute under `class-weights`, as `instruct` says."""
    by_attribute = ratio(negatives, positives)
    return np.where(by_attribute > 0, by_attribute, 1.0)


def weigh(config: RunConfig, instructions: Instructions) -> Weigh:
    """Make the function from labels to the weights of their groups, 1 each without groups."""
    weights = np.array(instructions.get("group-weights", [1.0]))
    return lambda labels: membership(labels, ATTRIBUTES, config.weighted) @ weights
