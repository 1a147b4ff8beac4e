"""What the rounds start from: the scale of features and the base rates, by sums over all clients.

The sums are exact, see `celeba_fl.models.scaling`, and travel in the roll call.
"""

import numpy as np

from celeba_fl.common.arrays import Arrays, Ints, Rows
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.models import scaling
from celeba_fl.models.heads import base_rate_head, initial_head
from celeba_fl.models.scaling import Scaling
from celeba_fl.task import Instructions
from celeba_fl.tasks.examples import Examples
from celeba_fl.tasks.weighting import of_positives

SCALING = "scaling"


def zero_sums(config: RunConfig, dim: int) -> Arrays:
    """Zeros of the sums that a run needs, for features of `dim` numbers.

    Those of `celeba_fl.models.scaling`, and ``labels``, how many are learned from, with
    ``positives``, how many of these are true, (attributes,) int64 each.
    """
    sums = scaling.zero_sums(dim) if config.scaling == "clients" else {}
    if config.init == "base-rates":
        sums |= {key: np.zeros(len(ATTRIBUTES), np.int64) for key in ("labels", "positives")}
    return sums


def sums_of(config: RunConfig, features: Rows, taught: np.ndarray, counted: np.ndarray) -> Arrays:
    """The sums over a client's examples, of its features and of what `targets` gives."""
    sums = scaling.sums_of(features) if config.scaling == "clients" else {}
    if config.init == "base-rates":
        sums |= {"labels": counted.sum(axis=0), "positives": (taught & counted).sum(axis=0)}
    return sums


def check_sums(config: RunConfig, sums: Arrays, n: int, positives: Ints) -> None:
    """Raise InputError unless sums can be those of a client.

    It has `n` train examples, of which so many, (attributes,), are positive as annotated.
    """
    if config.scaling == "clients":
        scaling.check_sums(sums, n)
    if config.init == "base-rates":
        labels, true = sums["labels"], sums["positives"]
        if not ((true >= 0) & (true <= labels) & (labels <= n)).all():
            raise InputError(f"labels and positives: there are more than labels of {n} images")
        if config.labels == "annotations" and not (
            (labels == n).all() and np.array_equal(true, positives)
        ):
            raise InputError("labels and positives: they are not those that it counted")


def scale(config: RunConfig, sums: Arrays, public: Examples | None) -> Scaling | None:
    """The scale that `scaling` asks for: by the sums of clients, or by public images.

    Raises
    ------
    InputError
        If there are no public images.
    """
    if config.scaling == "none":
        return None
    if config.scaling == "public":
        if public is None or not len(public):
            raise InputError(
                f"scaling = 'public': {config.dataset} has no public train image (those of "
                f"public-fraction = {config.public_fraction}); raise it, or set scaling to clients"
            )
        sums = scaling.sums_of(public.features)
    return Scaling.of_sums(sums)


def told(instructions: Instructions) -> Scaling | None:
    """The scale in the instructions of a client."""
    data = instructions.get(SCALING)
    return Scaling.from_bytes(data) if isinstance(data, bytes) else None


def initial(config: RunConfig, dim: int, sums: Arrays) -> Arrays:
    """The head of base rates, or one with random weights by the run's seed.

    Under `class-weights` the rates are those of weighted counts.
    """
    if config.init != "base-rates":
        return initial_head(dim, len(ATTRIBUTES), config.seed)
    positives, negatives = sums["positives"], sums["labels"] - sums["positives"]
    weight = of_positives(positives, negatives) if config.class_weights else 1.0
    return base_rate_head(dim, weight * positives, negatives)
