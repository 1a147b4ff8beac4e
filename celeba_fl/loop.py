"""The rounds of any Flower strategy: cohort, replies checked and sorted, aggregate, evaluate.

Flower's own `Strategy.start` draws cohorts that cannot be repeated, adds floats in the order of
arrival, and lets one unusable reply spoil a round. Here the strategy stays untouched: it is shown
a Grid of just the cohort's nodes, and only replies that can be averaged, sorted by client and in
double precision.

FedAvg: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from celeba_fl.cohort import CohortGrid, draw_cohort
from celeba_fl.exchange import Answers, Waiting, ask, reject_unusable
from celeba_fl.progress import LOG

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]


class RoundFailedError(RuntimeError):
    """A round without a usable result; what was computed before it stays."""


@dataclass(frozen=True)
class Round:
    """What happened in a round; round 0 is the evaluation before training.

    Parameters
    ----------
    number : int
        The round.
    arrays : ArrayRecord
        The global model after it.
    train, evaluate : Answers
        Of the clients.
    central : MetricRecord
        What `evaluate_fn` returned; empty if there is none.
    seconds : float
        Wall time.
    """

    number: int
    arrays: ArrayRecord
    train: Answers
    evaluate: Answers
    central: MetricRecord
    seconds: float


@dataclass
class Loop:
    """Runs the rounds of a strategy, whose own fractions are to be left at 1.

    Parameters
    ----------
    clients : Mapping[str, int]
        Node id by client name.
    seed : int (default: 0)
        Of the cohorts.
    fraction_train, fraction_evaluate : float (default: 1.0)
        Part of the clients that is drawn for a round; 0 for no evaluation on clients.
    min_train, min_evaluate : int (default: 1)
        Fewest clients that are drawn.
    on_round : Callable[[Round], None]
        Called after every round, 0 included.
    on_waiting : Callable[[Waiting], None]
        Called as replies arrive.
    """

    clients: Mapping[str, int]
    seed: int = 0
    fraction_train: float = 1.0
    fraction_evaluate: float = 1.0
    min_train: int = 1
    min_evaluate: int = 1
    on_round: Callable[[Round], None] = lambda _: None
    on_waiting: Callable[[Waiting], None] = lambda _: None

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
        """Do what `Strategy.start` does; the arguments and the result are its own."""
        result = Result(arrays=initial_arrays)
        for number in range(num_rounds + 1):
            start = time.monotonic()
            trained = Answers()
            if number > 0:
                cohort = self._cohort(grid, number, "train", self.fraction_train, self.min_train)
                messages = strategy.configure_train(
                    number, result.arrays, train_config or ConfigRecord(), cohort
                )
                trained = self._ask(grid, messages, number, "train", timeout)
                reject_unusable(trained, expected=result.arrays)
                _log_failures(trained, number, "train")
                result.arrays, metrics = _aggregate(strategy, number, trained, result.arrays)
                result.train_metrics_clientapp[number] = metrics

            messages = []
            if self.fraction_evaluate > 0:
                cohort = self._cohort(
                    grid, number, "evaluate", self.fraction_evaluate, self.min_evaluate
                )
                messages = strategy.configure_evaluate(
                    number, result.arrays, evaluate_config or ConfigRecord(), cohort
                )

            def evaluate_centrally(number: int = number) -> None:
                central = evaluate_fn(number, result.arrays) if evaluate_fn else None
                result.evaluate_metrics_serverapp[number] = central or MetricRecord()

            evaluated = self._ask(
                grid, messages, number, "evaluate", timeout, meanwhile=evaluate_centrally
            )
            reject_unusable(evaluated)
            _log_failures(evaluated, number, "evaluate")
            if _num_examples(evaluated):
                averages = strategy.aggregate_evaluate(number, list(evaluated.usable.values()))
                result.evaluate_metrics_clientapp[number] = averages or MetricRecord()
            self.on_round(
                Round(
                    number,
                    result.arrays,
                    trained,
                    evaluated,
                    result.evaluate_metrics_serverapp[number],
                    time.monotonic() - start,
                )
            )
        return result

    def _cohort(
        self, grid: Grid, number: int, phase: str, fraction: float, minimum: int
    ) -> CohortGrid:
        names = draw_cohort(self.clients, fraction, minimum, self.seed, number, phase)
        return CohortGrid(grid, [self.clients[name] for name in names])

    def _ask(
        self,
        grid: Grid,
        messages: Iterable[Message],
        number: int,
        phase: str,
        timeout: float,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Answers:
        return ask(
            grid,
            messages,
            {node: name for name, node in self.clients.items()},
            number=number,
            phase=phase,
            timeout=timeout,
            on_waiting=self.on_waiting,
            meanwhile=meanwhile,
        )


def _aggregate(
    strategy: Strategy, number: int, answers: Answers, before: ArrayRecord
) -> tuple[ArrayRecord, MetricRecord]:
    """Let the strategy average in double precision; the result has the model's own types."""
    if not _num_examples(answers):
        raise RoundFailedError(f"round {number}: no client sent a model trained on any example")
    for message in answers.usable.values():
        for name, arrays in list(message.content.array_records.items()):
            message.content[name] = _cast(arrays, dict.fromkeys(arrays, "float64"))
    arrays, metrics = strategy.aggregate_train(number, list(answers.usable.values()))
    if arrays is None:
        raise RoundFailedError(f"round {number}: the strategy made no model of the replies")
    return _cast(arrays, {key: a.dtype for key, a in before.items()}), metrics or MetricRecord()


def _num_examples(answers: Answers) -> int:
    records = (m.content.metric_records.values() for m in answers.usable.values())
    return sum(int(metrics["num-examples"]) for record in records for metrics in record)


def _cast(arrays: ArrayRecord, dtypes: Mapping[str, str]) -> ArrayRecord:
    """Change types; whole numbers (as batch norm's counters) are rounded, not cut."""
    cast = {}
    for key, array in arrays.items():
        dtype = np.dtype(dtypes[key])
        values = array.numpy()
        cast[key] = Array((np.rint(values) if dtype.kind in "iu" else values).astype(dtype))
    return ArrayRecord(cast)


def _log_failures(answers: Answers, number: int, phase: str) -> None:
    for client, reason in answers.failures.items():
        LOG.warning("round %d, %s: client %s is left out: %s", number, phase, client, reason)
