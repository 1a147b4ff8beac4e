"""The rounds of any Flower strategy: cohort, replies checked and sorted, aggregate, evaluate.

Flower's own `Strategy.start` draws cohorts that cannot be repeated, adds floats in the order of
arrival, lets one unusable reply spoil a round, and can neither stop early nor resume. Here the
strategy stays untouched: it sees a Grid of just the cohort's nodes, and only replies that can be
averaged, sorted by client and in double precision.

FedAvg: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from celeba_fl.common.log import LOG
from celeba_fl.rounds.aggregation import (
    RoundFailedError,
    aggregate,
    cast,
    leave_out_strides,
    total_examples,
)
from celeba_fl.rounds.checking import (
    FINAL_EVALUATION,
    LARGEST,
    Check,
    check_reply,
    fault,
    largest_sum,
)
from celeba_fl.rounds.checkpoints import Checkpoints
from celeba_fl.rounds.cohort import CohortGrid, Cohorts, await_nodes
from celeba_fl.rounds.exchange import PhaseProgress, Replies, refuse, send_and_wait
from celeba_fl.rounds.messages import EVALUATE, SUMS, TRAIN, evaluation
from celeba_fl.rounds.stopping import StopRules

# Flower's strategies sample by these. Here the loop does, and strategies take all that they see.
SAMPLING = {
    "fraction_train",
    "fraction_evaluate",
    "min_train_nodes",
    "min_evaluate_nodes",
    "min_available_nodes",
}
EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]


@dataclass(frozen=True)
class Round:
    """A finished round; round 0 is the evaluation before training."""

    server_round: int
    arrays: ArrayRecord  # the global model after it
    train: Replies
    evaluate: Replies
    averages: MetricRecord  # the strategy's, of the clients' evaluation metrics
    central: MetricRecord  # of `evaluate_fn`; empty if there is none
    seconds: float  # wall time


@dataclass(frozen=True)
class Retries:
    """The rule for a round with too few replies.

    A round counts if at least the fraction `min_replies` of its cohort returns a usable model. One
    that does not is tried again, so many `times` before the run fails; first, as many clients of
    its cohort as must reply are awaited, up to `timeout` seconds.
    """

    min_replies: float = 0.0
    times: int = 0


def averaged_metrics(done: Round) -> dict[str, float]:
    """The clients' averaged evaluation metrics as ``valid_<metric>``, for the stop rules."""
    return {f"valid_{k}": v for k, v in done.averages.items() if isinstance(v, int | float)}


@dataclass
class Loop:
    """The rounds of any strategy of Flower's, in the place of its own `start` and sampling.

    A strategy may have three attributes that Flower's do not: `take` adds the content of a reply up
    as it arrives, and may delete it then; `expected` holds arrays of the names, shapes and types
    that it takes; `num_rounds` says after how many rounds it is done.
    """

    clients: Mapping[str, int]  # node id by name
    cohorts: Cohorts = field(default_factory=Cohorts)  # which clients take part in a round
    retries: Retries = field(default_factory=Retries)  # whether a round counts
    stop: StopRules = field(default_factory=StopRules)  # when to end before the last round
    uniform: bool = False  # whether clients count alike in the average, if they have examples
    # Raises an error at the reply of a client, in a phase, that cannot be right.
    check: Check = lambda client, phase, content: None
    # Updates so many times as large as the median of their cohort are left out; 0: none.
    max_update_norm: float = 0.0
    init: Strategy | None = None  # trains once, in round 0, the model that the rounds start from
    # Where every round is kept; where there are some already, the run goes on after them.
    checkpoints: Checkpoints | None = None
    recorded: int | None = None  # the last round of which there are records; None: all rounds are
    # Called with the first round to be done: records of it and of later ones are void.
    on_start: Callable[[int], None] = lambda _: None
    # Called after every round, 0 included; returns the metrics that `stop` judges.
    on_round: Callable[[Round], Mapping[str, float]] = averaged_metrics
    # Called as replies arrive.
    on_progress: Callable[[PhaseProgress], None] = lambda _: None
    reason: str = field(default="", init=False)  # why it stopped before the last round

    def run(
        self,
        strategy: Strategy,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: EvaluateFn | None = None,
    ) -> Result:
        """Run the rounds, with the arguments and the result of `Strategy.start`.

        Raises
        ------
        RoundFailedError
            If a round does not count, however often it is tried; the checkpoints before it stay.
        """
        for each in filter(None, (strategy, self.init)):
            vars(each).update(dict.fromkeys(SAMPLING & vars(each).keys(), 1))
        dtypes = {key: array.dtype for key, array in initial_arrays.items()}
        result, first = Result(arrays=cast(initial_arrays, dtypes)), 0
        restored = self.checkpoints.restore(strategy, self.recorded) if self.checkpoints else None
        if self.checkpoints and restored:
            result.arrays, first = restored.arrays, restored.server_round + 1
            self.stop.restore(restored.state)
            # A run that was killed may not have come to this.
            self.checkpoints.prune(restored.server_round, self.stop.memory.best_round)
        self.on_start(first)
        begin = time.monotonic() - self.stop.memory.seconds
        last = getattr(strategy, "num_rounds", num_rounds)
        for server_round in range(first, last + 1):
            self.reason = self.stop.reason()
            if self.reason:
                LOG.info("Stopped after round %d: %s", server_round - 1, self.reason)
                break
            start = time.monotonic()
            trained = Replies()
            trainer = strategy if server_round else self.init
            if trainer:
                trained, result.arrays, result.train_metrics_clientapp[server_round] = self._train(
                    trainer, grid, server_round, result.arrays, train_config, timeout
                )
            evaluated, averages, central = self._evaluate(
                strategy, grid, server_round, result.arrays, evaluate_config, timeout, evaluate_fn
            )
            result.evaluate_metrics_clientapp[server_round] = averages
            result.evaluate_metrics_serverapp[server_round] = central
            now = time.monotonic()
            done = Round(
                server_round, result.arrays, trained, evaluated, averages, central, now - start
            )
            self.stop.note(server_round, self.on_round(done), now - begin)
            if self.checkpoints:
                state, best = self.stop.state(), self.stop.memory.best_round
                self.checkpoints.save(server_round, result.arrays, strategy, state, best)
        return result

    def evaluate_all(
        self, grid: Grid, arrays: ArrayRecord, config: ConfigRecord, timeout: float
    ) -> Replies:
        """Have every client, in the cohort or not, evaluate a model."""
        server_round = self.stop.memory.round
        content = evaluation(arrays, config, server_round)
        messages = [Message(content, node, EVALUATE) for node in self.clients.values()]
        return self._exchange(grid, messages, server_round, FINAL_EVALUATION, timeout)

    def _train(
        self,
        strategy: Strategy,
        grid: Grid,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord | None,
        timeout: float,
    ) -> tuple[Replies, ArrayRecord, MetricRecord]:
        """Train on a cohort until enough of it has sent a usable model, and aggregate."""
        cohort = self._cohort(server_round, TRAIN)
        for attempt in range(self.retries.times + 1):
            if attempt:
                await_nodes(grid, cohort, self.retries.min_replies, timeout)
            messages = strategy.configure_train(
                server_round, arrays, config or ConfigRecord(), CohortGrid(grid, cohort)
            )
            if take := getattr(strategy, "take", None):
                arguments = getattr(strategy, "expected", None), take
            else:
                arguments = arrays, None
            replies = self._exchange(grid, messages, server_round, TRAIN, timeout, *arguments)
            usable = len(replies.usable)
            if usable and usable / len(cohort) >= self.retries.min_replies:
                return replies, *aggregate(strategy, server_round, replies, arrays, self.uniform)
            failed = (
                f"round {server_round} does not count: {usable} of {len(cohort)} clients sent a "
                f"usable model, at least {self.retries.min_replies:.0%} must (min-replies)"
            )
            LOG.warning("%s", failed)
        raise RoundFailedError(f"{failed}; tried {self.retries.times + 1} times")

    def _evaluate(
        self,
        strategy: Strategy,
        grid: Grid,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord | None,
        timeout: float,
        evaluate_fn: EvaluateFn | None,
    ) -> tuple[Replies, MetricRecord, MetricRecord]:
        """Evaluate on a cohort, and meanwhile centrally."""
        messages: Iterable[Message] = []
        if cohort := self._cohort(server_round, EVALUATE):
            messages = strategy.configure_evaluate(
                server_round, arrays, config or ConfigRecord(), CohortGrid(grid, cohort)
            )
        central = MetricRecord()

        def evaluate_centrally() -> None:
            if evaluate_fn:
                central.update(evaluate_fn(server_round, arrays) or {})

        replies = self._exchange(
            grid, messages, server_round, EVALUATE, timeout, meanwhile=evaluate_centrally
        )
        averages = None
        if total_examples(replies):
            averages = strategy.aggregate_evaluate(server_round, list(replies.usable.values()))
        return replies, averages or MetricRecord(), central

    def _cohort(self, server_round: int, phase: str) -> list[int]:
        return [self.clients[name] for name in self.cohorts.draw(self.clients, server_round, phase)]

    def _exchange(
        self,
        grid: Grid,
        messages: Iterable[Message],
        server_round: int,
        phase: str,
        timeout: float,
        expected: Mapping[str, Any] | None = None,
        take: Callable[[RecordDict], None] | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Replies:
        """Send and wait, and log by name the clients whose replies are left out."""
        largest = largest_sum(len(self.clients)) if take else LARGEST

        def check(client: str, content: RecordDict) -> None:
            check_reply(content, expected, largest)
            self.check(client, SUMS if take else phase, content)
            if take:
                take(content)

        def reason(client: str, content: RecordDict) -> str:
            return fault(check, client, content)

        replies = send_and_wait(
            grid,
            messages,
            {node: name for name, node in self.clients.items()},
            server_round=server_round,
            phase=phase,
            timeout=timeout,
            on_progress=self.on_progress,
            meanwhile=meanwhile,
            take=reason if take else None,
        )
        if not take:
            refuse(replies, reason)
            if phase == TRAIN and expected is not None:
                leave_out_strides(replies, expected, self.max_update_norm)
        for client, why in replies.failures.items():
            LOG.warning("round %d, %s: client %s is left out: %s", server_round, phase, client, why)
        return replies
