"""Centred clipping: no client pulls further than the median one does."""

import math
from collections.abc import Iterable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower

from celeba_fl.common.arrays import Arrays
from celeba_fl.robust.mixing import model_of
from celeba_fl.rounds.messages import to_arrays

STEPS = 3  # after three, the mean of Karimireddy et al. hardly moves


class Clipping(flower.FedAvg):
    """The mean of the clients' steps, each shortened to a radius around the last round's.

    Karimireddy et al., "Learning from History for Byzantine Robust Optimization", ICML 2021. A step
    is what training adds to the model that was sent. Without a radius it is the median distance,
    which stands liars of less than half and needs no knowledge of how large steps are.
    """

    def __init__(self, radius: float = 0.0) -> None:
        super().__init__()
        self.radius = radius
        self.step: Arrays = {}  # the last round's; kept in checkpoints
        self._sent: ArrayRecord | None = None  # only until it has been used, so it is not kept

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Remember the model that the steps start from."""
        self._sent = arrays
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Take the step that `clipped_mean` makes of all."""
        contents = [reply.content for reply in replies]
        sent, self._sent = to_arrays(self._sent or ArrayRecord()), None
        steps = {
            key: np.stack([model_of(content)[key].numpy() - array for content in contents])
            for key, array in sent.items()
        }
        start = self.step or {key: np.zeros(array.shape) for key, array in sent.items()}
        self.step = clipped_mean(steps, start, self.radius, STEPS)
        model = {key: Array(np.asarray(array + self.step[key])) for key, array in sent.items()}
        return ArrayRecord(model), self.train_metrics_aggr_fn(contents, self.weighted_by_key)


def clipped_mean(vectors: Arrays, start: Arrays, radius: float, steps: int) -> Arrays:
    """Move `start` to the mean of what is around it, so many times.

    Of vectors, (n, ...) by name, that are further away than `radius`, only that length counts; 0 is
    the median of their distances.
    """
    middle = start
    for _ in range(steps):
        apart = {key: array - middle[key] for key, array in vectors.items()}
        squares = (np.square(array).reshape(len(array), -1).sum(axis=1) for array in apart.values())
        lengths = np.sqrt(sum(squares))
        limit = radius or float(np.median(lengths))
        factor = np.minimum(1.0, limit / np.where(lengths > 0, lengths, math.inf))
        factor[lengths <= limit] = 1.0
        middle = {
            key: middle[key] + (array.T * factor).T.mean(axis=0) for key, array in apart.items()
        }
    return middle
