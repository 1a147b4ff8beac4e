"""Asynchronous rounds: each is made of the first answers that come, so that nobody is waited for.

FedBuff: Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation", AISTATS 2022,
arXiv 2106.06639. As soon as so many answers are there, the server makes the next model of them and
sends it to those who sent them. The others go on with the older model that they have, and what they
make of it counts for less when it comes. An update of a model s rounds older than the newest is
multiplied by `step` / sqrt(1 + s); then the strategy averages as ever.
"""

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from statistics import median_low
from typing import Any, ClassVar

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid

from celeba_fl.common.flower import simulation
from celeba_fl.common.log import LOG
from celeba_fl.rounds.clock import Clock
from celeba_fl.rounds.cohort import CohortGrid
from celeba_fl.rounds.exchange import (
    LOG_EVERY_SECONDS,
    PhaseProgress,
    Replies,
    Take,
    no_answer,
    poll_seconds,
)
from celeba_fl.rounds.loop import Loop, Run
from celeba_fl.rounds.messages import EVALUATE, SUMS, TRAIN
from celeba_fl.rounds.parts import answers
from celeba_fl.rounds.post import UNSENT, Post, by_client, sizes
from celeba_fl.rounds.round import Round

# A client that has failed is not asked for so long, if there are others to make a round of: a node
# that is gone fails at once, again and again.
REST_SECONDS = 10.0
Requests = Mapping[str, Iterable[Message]]  # by part


@dataclass(frozen=True)
class Work:
    """What a client is at work on."""

    server_round: int  # the round whose model it has
    arrays: ArrayRecord  # that model
    since: float  # the moment at which it was sent
    requests: Mapping[str, Message]  # by part


@dataclass
class AsynchronousLoop(Loop):
    """The rounds of a strategy that averages, each made of the first `buffer` answers.

    To the strategy and to whoever records them, they are rounds like those of any `Loop`. Here an
    exchange ends earlier, and who has not answered by then answers in a later one.
    """

    buffer: int = 0  # 0: half of the clients, rounded up
    # The part of an update of the newest model that counts. 0: as large as the buffer's of all
    # clients, so that answers of all of them go as far as a synchronous round. With larger steps
    # a model can swing, since those who have not seen it yet take the same way once more.
    step: float = 0.0
    at_once: ClassVar[Collection[str]] = (SUMS, TRAIN, EVALUATE)
    _works: dict[str, Work] = field(default_factory=dict, init=False)  # by client
    _rests: dict[str, float] = field(default_factory=dict, init=False)  # until when, by client
    # Answers that came together with the last one of a round are of the next.
    _arrived: list[tuple[str, Message | str]] = field(default_factory=list, init=False)
    _post: Post = field(init=False)
    _clock: Clock = field(init=False)

    def __post_init__(self) -> None:
        self._all_answers, self.send = self.send, self._first_answers

    @property
    def _enough(self) -> int:
        """How many answers make a round."""
        return min(self.buffer or (len(self.clients) + 1) // 2, len(self.clients))

    def _wanted(self, server_round: int, cohort: Collection[int]) -> int:
        return self._enough if server_round else len(cohort)

    def _cohort(self, server_round: int, phase: str) -> list[int]:
        """Those of a cohort who are not at work, nor have failed a moment ago."""
        now = self._clock.now()
        free = self.clients.keys() - self._works.keys()
        able = {name for name in free if self._rests.get(name, now) <= now}
        asked = able if len(self._works) + len(able) >= self._enough else free
        nodes = {self.clients[name] for name in asked}
        return [node for node in super()._cohort(server_round, phase) if node in nodes]

    def _begin(self, its: Run, initial_arrays: ArrayRecord) -> Round:
        self._clock = its.clock
        self._post = Post(its.grid, {node: name for name, node in self.clients.items()})
        return super()._begin(its, initial_arrays)

    def _next(self, its: Run, now: Round) -> Round | None:
        if now.at_work and not self._works:
            self._resume(its, now)
        return super()._next(its, now)

    def _save(self, its: Run, now: Round) -> None:
        works = {
            name: [work.server_round, work.since - its.since, [*work.requests]]
            for name, work in self._works.items()
        }
        rests = {name: until - its.since for name, until in self._rests.items()}
        now.at_work = {"works": works, "rests": rests}
        now.older = {work.server_round: work.arrays for work in self._works.values()}
        super()._save(its, now)

    def _resume(self, its: Run, now: Round) -> None:
        """Ask clients anew for what they were at work on when a round was saved."""
        moment = self._clock.now()
        works, rests = now.at_work["works"], now.at_work["rests"]
        self._rests = {name: its.since + until for name, until in rests.items()}
        for name, (number, since, parts) in works.items():
            if name not in self.clients:  # it has gone
                continue
            grid, arrays = CohortGrid(its.grid, [self.clients[name]]), now.older[number]
            configs = [ConfigRecord({**c}) for c in (its.evaluate_config, its.train_config)]
            requests: Requests = {
                EVALUATE: its.strategy.configure_evaluate(number, arrays, configs[0], grid),
                TRAIN: its.strategy.configure_train(number + 1, arrays, configs[1], grid),
            }
            self._clock.set(its.since + since)
            self._ask({part: requests[part] for part in parts}, number, its.timeout)
        self._clock.set(moment)

    def _conclude(self, its: Run, now: Round) -> None:
        """Evaluate the last model on all clients, whatever else they are at work on."""
        self._works, self._rests, self._arrived = {}, {}, []
        super()._conclude(its, now)

    def _ask(self, requests: Requests, number: int, timeout: float) -> dict[str, int]:
        """Send clients a round's model, with what they are to do with it; its bytes by part."""
        asked, now = by_client(requests, self._post.names), self._clock.now()
        for client, of_client in asked.items():
            (arrays,) = next(iter(of_client.values())).content.array_records.values()
            self._works[client] = Work(number, arrays, now, of_client)
        self._arrived += [(client, UNSENT) for client in self._post.send(asked, timeout)]
        return sizes(asked)

    def _first_answers(
        self, grid: Grid, requests: Requests, names: Mapping[int, str], **options: Any
    ) -> dict[str, Replies]:
        """Do an exchange as `send_and_wait` does, but end it once a round can be made."""
        if not options["server_round"] or options["phase"] != TRAIN:
            return self._all_answers(grid, requests, names, **options)
        return self._gather(grid, requests, **options)

    def _gather(
        self,
        grid: Grid,
        requests: Requests,
        *,
        server_round: int,
        phase: str,
        timeout: float,
        on_progress: Callable[[PhaseProgress], None],
        meanwhile: Callable[[], None],
        take: Mapping[str, Take],
    ) -> dict[str, Replies]:
        """Send requests, and wait until there are enough answers to any, or nobody is at work."""
        replies = {part: Replies(simulated=simulation(grid) is not None) for part in requests}
        since, number = time.time(), server_round - 1
        for part, size in self._ask(requests, number, timeout).items():
            replies[part].bytes_down += size
        meanwhile()
        trained, pending = replies[TRAIN].usable, self._post.pending
        last = last_log = self._clock.now()
        reported = None
        while True:
            self._arrived += sorted(self._post.receive(one_by_one=False), key=itemgetter(0))
            now = self._clock.now()
            for key, client in [*pending.items()]:
                if now >= self._works[client].since + timeout:
                    del pending[key]
                    self._arrived.append((client, no_answer(timeout)))
            while self._arrived and len(trained) < self._enough:
                last = now
                self._note(*self._arrived.pop(0), number, replies, take)
            failed = {client for of_part in replies.values() for client in of_part.failures}
            counts = self._enough, len(trained), len(failed), since, len(self._works)
            progress = PhaseProgress(server_round, phase, *counts)
            if progress != reported:
                on_progress(progress)
                reported = progress
            if len(trained) >= self._enough or not self._works:
                break
            if now - last_log >= LOG_EVERY_SECONDS:
                last_log = now
                LOG.info(
                    "round %d: %d of %d answers are here, and %d clients at work",
                    *(server_round, len(trained), self._enough, len(self._works)),
                )
            until = min(self._works[client].since for client in pending.values()) + timeout
            self._clock.wait(poll_seconds(now - last, len(pending)), until)
        for of_part in replies.values():
            of_part.sort()
        if EVALUATE in replies:
            _leave_out_old(replies[EVALUATE])
        return replies

    def _note(
        self,
        client: str,
        reply: Message | str,
        number: int,
        replies: Mapping[str, Replies],
        take: Mapping[str, Take],
    ) -> None:
        """Note an answer, or why there is none, when the newest model is of round `number`."""
        work = self._works.pop(client)
        parts = {} if isinstance(reply, str) else answers(reply, work.requests)
        for part in work.requests.keys() & replies.keys():
            of_part = replies[part]
            if isinstance(reply, str):
                of_part.failures[client] = reply
            else:
                of_part.add(client, parts[part], take.get(part))
            if client in of_part.usable:
                of_part.staleness[client] = number - work.server_round
        trained = replies[TRAIN]
        if client in trained.failures:
            self._rests[client] = self._clock.now() + REST_SECONDS
        else:
            self._rests.pop(client, None)
        if client in trained.usable:
            step = self.step or self._enough / len(self.clients)
            counts = step / math.sqrt(1 + trained.staleness[client])
            if counts != 1:
                trained.parts[client] = work.arrays, counts


def _leave_out_old(counted: Replies) -> None:
    """Leave out what is counted of older models than most: it says little of the newest."""
    usable = {client: counted.staleness[client] for client in counted.usable}
    oldest = median_low(usable.values()) if usable else 0
    for client, staleness in usable.items():
        if staleness > oldest:
            del counted.usable[client]
