"""Mixing before a strategy: models become means of models, in which a liar weighs less."""

from collections.abc import Sequence

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict

from celeba_fl.common.arrays import Floats


class Model(ArrayRecord):
    """A model that a strategy reads without taking it apart.

    Flower's Bulyan deletes what it has read, and collects the garbage of the whole process for each
    array of each client: seconds a round.
    """

    def to_numpy_ndarrays(self, *, keep_input: bool = True) -> list[np.ndarray]:
        """Its arrays, all of which it keeps."""
        return super().to_numpy_ndarrays()


# Numbers of the models that one of those to come is the mean of.
Members = list[list[int]]


def nearest(models: Sequence[ArrayRecord], attackers: int) -> Members:
    """Each model and those next to it, all but as many as there are attackers.

    Nearest-neighbour mixing, Allouah et al., "Fixing by Mixing: A Recipe for Optimal Byzantine ML
    under Heterogeneity", AISTATS 2023.
    """
    kept = len(models) - attackers
    order = np.argsort(squared_distances(models), axis=1, kind="stable")[:, :kept]
    return [sorted(row) for row in order.tolist()]


def buckets(number: int, size: int, seed: int) -> Members:
    """Groups of so many models, drawn by the seed; the last one may be smaller.

    Bucketing, Karimireddy et al., "Byzantine-Robust Learning on Heterogeneous Datasets via
    Bucketing", ICLR 2022.
    """
    order = np.random.default_rng(seed).permutation(number).tolist()
    return [sorted(order[start : start + size]) for start in range(0, number, size)]


def squared_distances(models: Sequence[ArrayRecord]) -> Floats:
    """The squared distance of each model to each, (n, n).

    Made of differences: by way of lengths, as ``x.x + y.y - 2 x.y``, models that are close to each
    other and far from zero lose their distance, and the last digits depend on the number of cores.
    """
    total = np.zeros((len(models), len(models)))
    for key in models[0]:
        stack = np.stack([model[key].numpy().ravel() for model in models])
        for i, one in enumerate(stack):
            apart = stack[i + 1 :] - one
            total[i, i + 1 :] += np.einsum("jk,jk->j", apart, apart)
    return total + total.T


def means(contents: Sequence[RecordDict], members: Members) -> list[RecordDict]:
    """Contents of replies whose models, and whose metrics, are the means of these."""
    models = [model_of(content) for content in contents]
    metrics = [next(iter(content.metric_records.values())) for content in contents]
    (name,), (other,) = contents[0].array_records, contents[0].metric_records
    mixed = [RecordDict({name: Model(), other: MetricRecord()}) for _ in members]
    for key in models[0]:
        stack = np.stack([model[key].numpy() for model in models])
        for content, of in zip(mixed, members, strict=True):
            content.array_records[name][key] = Array(np.asarray(stack[of].mean(axis=0)))
    for content, of in zip(mixed, members, strict=True):
        for key in metrics[0]:
            mean = np.mean([metrics[i][key] for i in of], axis=0)
            content.metric_records[other][key] = mean.tolist()
    return mixed


def model_of(content: RecordDict) -> ArrayRecord:
    """The one model in the content of a reply."""
    (model,) = content.array_records.values()
    return model
