"""The rounds of any Flower strategy: cohort, replies checked and sorted, aggregate, evaluate.

Flower's own `Strategy.start` draws cohorts that cannot be repeated, adds floats in the order of
arrival, lets one unusable reply spoil a round, and can neither stop early nor resume. Here the
strategy stays untouched: it sees a Grid of just the cohort's nodes, and only replies that can be
averaged, sorted by client and in double precision.

FedAvg: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from celeba_fl.common.arrays import FULL
from celeba_fl.common.log import LOG
from celeba_fl.rounds.aggregation import (
    RoundFailedError,
    aggregate,
    cast,
    discount,
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
from celeba_fl.rounds.clock import Clock, clock_of
from celeba_fl.rounds.cohort import CohortGrid, Cohorts, await_nodes, select_all
from celeba_fl.rounds.exchange import TOTAL, PhaseProgress, Replies, refuse, send_and_wait
from celeba_fl.rounds.messages import EVALUATE, FINAL, SUMS, TRAIN, evaluation
from celeba_fl.rounds.round import Round, averaged_metrics
from celeba_fl.rounds.stopping import StopRules

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]


@dataclass(frozen=True)
class Retries:
    """The rule for a round with too few replies.

    A round counts if at least the fraction `min_replies` of its cohort returns a usable model. One
    that does not is tried again, so many `times` before the run fails; first, as many clients of
    its cohort as must reply are awaited, up to `timeout` seconds.
    """

    min_replies: float = 0.0
    times: int = 0


@dataclass
class Loop:
    """The rounds of any strategy of Flower's, in the place of its own `start` and sampling.

    A strategy may have three attributes that Flower's do not: `take` gets the name of a client and
    the content of its reply as it arrives, adds that up, and may delete it; `expected` holds arrays
    of the names, shapes and types that it takes; `num_rounds` says after how many rounds it is
    done.
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
    measure: bool = True  # whether updates are compared, each by itself
    init: Strategy | None = None  # trains once, in round 0, the model that the rounds start from
    # Where every round is kept; where there are some already, the run goes on after them.
    checkpoints: Checkpoints | None = None
    recorded: int | None = None  # the last round of which there are records; None: all rounds are
    # Called with the first round that `on_round` gets: records of it and of later ones are void.
    on_start: Callable[[int], None] = lambda _: None
    # Called with every round, 0 included, once it is evaluated; returns what `stop` judges.
    on_round: Callable[[Round], Mapping[str, float]] = averaged_metrics
    # Called with a round that does not count, its phase, and why which clients failed.
    on_failures: Callable[[int, str, Mapping[str, str]], None] = lambda *_: None
    # How an exchange is done; it may return totals in the place of what each client says.
    send: Callable[..., dict[str, Replies]] = send_and_wait
    # Parts of whose replies each is checked as it arrives, and used by a strategy's `take`.
    at_once: ClassVar[Collection[str]] = (SUMS,)
    # Called as replies arrive.
    on_progress: Callable[[PhaseProgress], None] = lambda _: None
    # Whether all clients evaluate the last model, told so by the key ``final``, or just a cohort.
    ask_everyone: bool = False
    final: Replies = field(default_factory=Replies, init=False)  # of that evaluation
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

        A model is evaluated in the exchange that trains the next one, the last by itself.

        Raises
        ------
        RoundFailedError
            If a round does not count, however often it is tried; the checkpoints before it stay.
        """
        for each in filter(None, (strategy, self.init)):
            select_all(each)
        configs = train_config or ConfigRecord(), evaluate_config or ConfigRecord()
        its = Run(strategy, grid, timeout, *configs, evaluate_fn, clock_of(grid))
        last = getattr(strategy, "num_rounds", num_rounds)
        now = self._begin(its, initial_arrays)
        while now.server_round < last and not self._ends(its, now):
            trained = self._next(its, now)
            if not trained:
                break
            now = trained
        self._conclude(its, now)
        its.result.arrays = now.arrays
        return its.result

    def _begin(self, its: "Run", initial_arrays: ArrayRecord) -> Round:
        """The round to go on from: the last that is there, or the one before all others."""
        kept = self.checkpoints
        restored = kept.restore(its.strategy, self.recorded) if kept else None
        if kept and restored:
            self.stop.restore(restored.state)
            its.clock.set(self.stop.memory.seconds)
            its.since = its.clock.now() - self.stop.memory.seconds
            # A run that was killed may not have come to this.
            kept.prune(restored.server_round, self.stop.memory.best_round)
            now = Round.restored(restored)
            now.train = now.train.of(self.clients)  # some may have gone
            return now
        dtypes = {key: array.dtype for key, array in initial_arrays.items()}
        arrays = cast(initial_arrays, dtypes)
        if self.init:
            return Round(-1, arrays, evaluated=True)
        now = Round(0, arrays)
        self._save(its, now)
        return now

    def _ends(self, its: "Run", now: Round) -> bool:
        """Whether a rule ends the run after a round, by all that is known of it."""
        if self.stop.by_metric and not now.evaluated:
            self._judge(its, now)
            if self.stop.decided_by(now.central):
                self.stop.note(now.server_round, now.central)
        number = now.server_round
        self.reason = self.stop.reason(number) if number >= 0 else ""
        if self.reason:
            LOG.info("Stopped after round %d: %s", number, self.reason)
        return bool(self.reason)

    def _next(self, its: "Run", now: Round) -> Round | None:
        """Train until enough of a cohort has sent a usable model, and aggregate: the next round.

        None if the evaluation of this one, which is asked for along with it, ends the run.
        """
        start, number = its.clock.now(), now.server_round + 1
        strategy = its.strategy if number else self.init or its.strategy
        part = SUMS if hasattr(strategy, "take") else TRAIN
        for attempt in range(self.retries.times + 1):
            cohort = self._cohort(number, TRAIN)
            wanted = self._wanted(number, cohort)
            if attempt:
                await_nodes(its.grid, cohort, self.retries.min_replies, its.timeout)
            requests: dict[str, Iterable[Message]] = {}
            if not now.evaluated:
                requests[EVALUATE] = self._evaluation(its, now)
            its.train_config = ConfigRecord({**its.train_config})
            requests[part] = strategy.configure_train(
                number, now.arrays, its.train_config, CohortGrid(its.grid, cohort)
            )
            replies = self._exchange(its, now, requests, strategy)
            trained = replies[part]
            usable = len(trained.usable)
            counts = not cohort or (usable and usable / wanted >= self.retries.min_replies)
            again = not counts and attempt < self.retries.times and not trained.opened
            if EVALUATE in requests and (replies[EVALUATE].usable or not again):
                self._complete(its, now, replies[EVALUATE])
                if self._ends(its, now):
                    return None
            if counts:
                arrays, metrics = aggregate(
                    strategy, number, trained, now.arrays, self.uniform, self.measure
                )
                trained.drop_arrays()
                its.result.train_metrics_clientapp[number] = metrics
                after = Round(number, arrays, trained, its.clock.now() - start)
                self._save(its, after)
                return after
            failed = (
                f"round {number} does not count: {usable} of {wanted} clients sent a "
                f"usable model, at least {self.retries.min_replies:.0%} must (min-replies)"
            )
            LOG.warning("%s", failed)
            self.on_failures(number, TRAIN, trained.failures)
            if not again:
                break
        why = "; its total was asked for, so it is not tried again" if trained.opened else ""
        raise RoundFailedError(f"{failed}; tried {attempt + 1} times{why}")

    def _conclude(self, its: "Run", now: Round) -> None:
        """Evaluate the last model: on its cohort, unless that is done, or on everyone."""
        phase = EVALUATE
        if self.ask_everyone:
            phase = FINAL_EVALUATION
            its.evaluate_config = ConfigRecord({**its.evaluate_config, FINAL: True})
        requests = [] if now.evaluated else self._evaluation(its, now)
        asked = {message.metadata.dst_node_id for message in requests}
        if self.ask_everyone:
            content = evaluation(now.arrays, its.evaluate_config, now.server_round)
            others = {*self.clients.values()} - asked
            requests += [Message(content, node, EVALUATE) for node in others]
        self.final = self._exchange(its, now, {phase: requests})[phase]
        if not now.evaluated:
            cohort = {name for name, node in self.clients.items() if node in asked}
            self._complete(its, now, self.final.of(cohort))
        if self.checkpoints:
            self.checkpoints.prune(now.server_round, self.stop.memory.best_round)

    def _evaluation(self, its: "Run", now: Round) -> list[Message]:
        """The strategy's messages to the cohort that evaluates a round's model."""
        if not (cohort := self._cohort(now.server_round, EVALUATE)):
            return []
        its.evaluate_config = config = ConfigRecord({**its.evaluate_config})
        grid = CohortGrid(its.grid, cohort)
        return [*its.strategy.configure_evaluate(now.server_round, now.arrays, config, grid)]

    def _judge(self, its: "Run", now: Round) -> None:
        """Evaluate a round's model centrally, unless that is done."""
        if its.evaluate_fn and not (now.evaluated or now.central):
            now.central = its.evaluate_fn(now.server_round, now.arrays) or MetricRecord()

    def _complete(self, its: "Run", now: Round, evaluate: Replies) -> None:
        """Have a round recorded, now that it has been evaluated."""
        now.evaluate, now.evaluated = evaluate, True
        if total_examples(evaluate):
            replies = list(evaluate.summands.values())
            averages = its.strategy.aggregate_evaluate(now.server_round, replies)
            now.averages = averages or MetricRecord()
        its.result.evaluate_metrics_clientapp[now.server_round] = now.averages
        its.result.evaluate_metrics_serverapp[now.server_round] = now.central
        if not its.records:
            self.on_start(now.server_round)
            its.records = True
        metrics = self.on_round(now)
        if self.stop.memory.round < now.server_round:
            self.stop.note(now.server_round, metrics)

    def _save(self, its: "Run", now: Round) -> None:
        """Write the checkpoint of a round whose model is there."""
        self.stop.memory.seconds = its.clock.now() - its.since
        if self.checkpoints:
            state, best = self.stop.state(), self.stop.memory.best_round
            number, arrays = now.server_round, now.arrays
            kept = now.trained(), now.older
            self.checkpoints.save(number, arrays, its.strategy, state, best, *kept)

    def _wanted(self, server_round: int, cohort: Collection[int]) -> int:
        """How many of those that are asked to train make a round."""
        return len(cohort)

    def _cohort(self, server_round: int, phase: str) -> list[int]:
        return [self.clients[name] for name in self.cohorts.draw(self.clients, server_round, phase)]

    def _exchange(
        self,
        its: "Run",
        now: Round,
        requests: Mapping[str, Iterable[Message]],
        trainer: Strategy | None = None,
    ) -> dict[str, Replies]:
        """Ask for parts, wait, and log by name the clients whose replies are left out."""
        most = largest_sum(len(self.clients))
        expected = getattr(trainer, "expected", None)
        forms = {TRAIN: (now.arrays, LARGEST), SUMS: (expected, most)}

        def check(part: str, client: str, content: RecordDict) -> None:
            if client == TOTAL:
                wide = cast(now.arrays, dict.fromkeys(now.arrays, "float64"))
                forms.update({TRAIN: (wide, LARGEST), SUMS: (expected, FULL)})
            check_reply(content, *forms.get(part, ()))
            self.check(client, part, content)
            if part == SUMS:
                trainer.take(client, content)  # type: ignore[union-attr]

        reasons = {part: partial(fault, check, part) for part in requests}
        replies = self.send(
            its.grid,
            requests,
            {node: name for name, node in self.clients.items()},
            server_round=now.server_round + (trainer is not None),
            phase=TRAIN if trainer else next(iter(requests)),
            timeout=its.timeout,
            on_progress=self.on_progress,
            meanwhile=partial(self._judge, its, now),
            take={part: reason for part, reason in reasons.items() if part in self.at_once},
        )
        for part, of_part in replies.items():
            if part != SUMS:
                refuse(of_part, reasons[part])
            if part == TRAIN:
                discount(of_part, now.arrays)
                leave_out_strides(of_part, now.arrays, self.max_update_norm)
            number = now.server_round + (part in (TRAIN, SUMS))
            for client, why in of_part.failures.items():
                LOG.warning("round %d, %s: client %s is left out: %s", number, part, client, why)
        return replies


@dataclass
class Run:
    """The arguments of `Loop.run`, its result, and how far it is."""

    strategy: Strategy
    grid: Grid
    timeout: float
    # New ones for each exchange: strategies write the round into them, and Flower (1.42) takes a
    # record that has changed for the one it was, if that is sent as well.
    train_config: ConfigRecord
    evaluate_config: ConfigRecord
    evaluate_fn: EvaluateFn | None
    clock: Clock
    result: Result = field(default_factory=Result)
    since: float = field(init=False)  # the moment it began, as if it had never been interrupted
    records: bool = False  # whether a round has been recorded

    def __post_init__(self) -> None:
        self.since = self.clock.now()
