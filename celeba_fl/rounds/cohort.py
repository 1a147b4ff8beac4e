"""Cohorts: the clients that take part in a round, as a function of the seed.

Flower's node ids are random in every run, so a cohort drawn over them cannot be repeated. Here
clients are drawn by name.
"""

import math
import random
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flwr.app import Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from celeba_fl.common.log import LOG
from celeba_fl.rounds.messages import TRAIN

if TYPE_CHECKING:
    from celeba_fl.common.flower import Run

POLL_SECONDS = 0.5
# Flower's strategies sample by these. Here the loop does, and strategies take all that they see.
SAMPLING = {
    "fraction_train",
    "fraction_evaluate",
    "min_train_nodes",
    "min_evaluate_nodes",
    "min_available_nodes",
}


def draw_cohort(
    names: Iterable[str], fraction: float, minimum: int, *parts: int | str
) -> list[str]:
    """The clients of a round, sorted; the same in every run with the same names and parts.

    Of `names`, in any order, a `fraction` is drawn, rounded down as Flower does, but not fewer than
    `minimum` if there are so many; none at fraction 0. The parts are seed, round and phase.
    """
    names = sorted(names)
    size = min(len(names), max(int(len(names) * fraction), minimum)) if fraction else 0
    return sorted(random.Random(repr(parts)).sample(names, size))


@dataclass(frozen=True)
class Cohorts:
    """The cohort of each round and phase: the same in every run with the same seed and clients."""

    seed: int = 0
    fraction_train: float = 1.0  # of the clients that are in a cohort
    fraction_evaluate: float = 1.0  # 0 for no evaluation on clients
    min_train: int = 1  # smallest size of a cohort, as far as there are so many clients
    min_evaluate: int = 1

    def draw(self, names: Iterable[str], server_round: int, phase: str) -> list[str]:
        """The clients of a round's ``train`` or ``evaluate``, sorted by name."""
        size = self.fraction_evaluate, self.min_evaluate
        if phase == TRAIN:
            size = self.fraction_train, self.min_train
        return draw_cohort(names, *size, self.seed, server_round, phase)


def select_all(strategy: Strategy) -> None:
    """Have a strategy take all nodes that it sees."""
    vars(strategy).update(dict.fromkeys(SAMPLING & vars(strategy).keys(), 1))


def await_nodes(grid: Grid, nodes: Collection[int], fraction: float, timeout: float) -> None:
    """Wait until this fraction of `nodes`, rounded up, is online, or `timeout` seconds are over.

    A killed node counts as online for up to 60 s after its last sign of life, and cannot come back
    earlier; every message to it would fail at once.
    """
    start, minimum = time.monotonic(), math.ceil(fraction * len(nodes))
    online = len({*nodes} & {*grid.get_node_ids()})
    if online < minimum:
        LOG.info("Waiting for clients to come back: %d online, %d are needed", online, minimum)
    while online < minimum and time.monotonic() - start < timeout:
        time.sleep(POLL_SECONDS)
        online = len({*nodes} & {*grid.get_node_ids()})


class CohortGrid(Grid):
    """A Grid on which only a cohort's nodes exist; a strategy at fraction 1 selects all of them.

    Everything else is passed on to the real one.
    """

    def __init__(self, grid: Grid, node_ids: Sequence[int]) -> None:
        self._grid, self._node_ids = grid, list(node_ids)

    def get_node_ids(self) -> Iterable[int]:
        return self._node_ids

    def set_run(self, run: "Run") -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> "Run":
        return self._grid.run

    def create_message(self, *args: Any, **options: Any) -> Message:
        return self._grid.create_message(*args, **options)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self._grid.pull_messages(message_ids)

    def send_and_receive(self, *args: Any, **options: Any) -> Iterable[Message]:
        return self._grid.send_and_receive(*args, **options)
