"""Cohorts: the clients that take part in a round, as a function of the seed.

Flower's node ids are random in every run, so a cohort drawn over them cannot be repeated. Here
clients are drawn by name.
"""

import math
import random
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from celeba_fl.common.log import LOG
from celeba_fl.rounds.messages import TRAIN

POLL_SECONDS = 0.5


def draw_cohort(
    names: Iterable[str], fraction: float, minimum: int, *parts: int | str
) -> list[str]:
    """The clients of a round; the same in every run with the same names and parts.

    Parameters
    ----------
    names : Iterable[str]
        All clients, in any order.
    fraction : float
        Fraction of them to draw, rounded down as Flower does; 0 for none.
    minimum : int
        Fewest to draw, as far as there are so many.
    *parts : int | str
        Everything that the draw depends on: seed, round and phase.

    Returns
    -------
    list[str]
        Sorted names.
    """
    names = sorted(names)
    size = min(len(names), max(int(len(names) * fraction), minimum)) if fraction else 0
    return sorted(random.Random(repr(parts)).sample(names, size))


@dataclass(frozen=True)
class Cohorts:
    """The cohort of each round and phase: the same in every run with the same seed and clients.

    Parameters
    ----------
    seed : int (default: 0)
        Seed of the draws.
    fraction_train, fraction_evaluate : float (default: 1.0)
        Fraction of the clients in a cohort; 0 for no evaluation on clients.
    min_train, min_evaluate : int (default: 1)
        Smallest size of a cohort, as far as there are so many clients.
    """

    seed: int = 0
    fraction_train: float = 1.0
    fraction_evaluate: float = 1.0
    min_train: int = 1
    min_evaluate: int = 1

    def draw(self, names: Iterable[str], server_round: int, phase: str) -> list[str]:
        """The clients of a round's ``train`` or ``evaluate``, sorted by name."""
        fraction, minimum = (
            (self.fraction_train, self.min_train)
            if phase == TRAIN
            else (self.fraction_evaluate, self.min_evaluate)
        )
        return draw_cohort(names, fraction, minimum, self.seed, server_round, phase)


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

    Parameters
    ----------
    grid : Grid
        The real one, to which everything else is passed on.
    node_ids : Sequence[int]
        The nodes to show.
    """

    def __init__(self, grid: Grid, node_ids: Sequence[int]) -> None:
        self._grid, self._node_ids = grid, list(node_ids)

    def get_node_ids(self) -> Iterable[int]:
        """The cohort's nodes."""
        return self._node_ids

    def set_run(self, run: Run) -> None:
        """Pass on."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """Pass on."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Pass on."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Pass on."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pass on."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Pass on."""
        return self._grid.send_and_receive(messages, timeout=timeout)
