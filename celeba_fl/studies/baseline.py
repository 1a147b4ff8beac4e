"""Reference points of a run: the same model trained in one place, and by each client alone.

Both are federations of one client. Central training is the one client that holds all data, and
"alone" is a client whose federation has nobody else: so the task trains and judges them as it does
in the run, with the same examples, seeds and settings, and needs no code for it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

import numpy as np
from rich.table import Table

from celeba_fl.common.arrays import Arrays, sum_counts
from celeba_fl.common.errors import InputError
from celeba_fl.common.files import write_json
from celeba_fl.common.log import LOG, Progress
from celeba_fl.config import RunConfig
from celeba_fl.report.names import name_of
from celeba_fl.rounds.stopping import StopRules
from celeba_fl.runs.reading import RunInfo, check_provenance, config_of
from celeba_fl.runs.tables import defined, read_csv, write_parquet
from celeba_fl.task import (
    Description,
    Instructions,
    NodeConfig,
    Tables,
    Task,
    client_name,
    derived_seed,
    load_task,
    starting_arrays,
)

EVERYTHING = {"partition-id": 0, "num-partitions": 1}
SCORES = "test_scores.parquet"

Metrics = Mapping[str, float | None]


@dataclass(frozen=True)
class SingleClient:
    """A federation with one client; FedAvg of one model is that model. Its task is prepared."""

    task: Task
    node: NodeConfig
    instructions: Instructions

    def rounds(self, numbers: Sequence[int]) -> Iterator[tuple[int, Arrays]]:
        """Train in these rounds, `local-epochs` each, and yield the model after each."""
        told = self._told()
        arrays, name = starting_arrays(self.task), client_name(self.node)
        if self.task.config.init == "closed-form":
            asked = {**told, "sums": list(self.task.zero_sums())}
            arrays = self.task.solve(self.task.summarise(self.node, asked)[0], asked)
        for number in numbers:
            seed = derived_seed(self.task.config.seed, number, name)
            arrays = self.task.train(arrays, self.node, {**told, "server-round": number}, seed)[0]
            yield number, arrays

    @cached_property
    def description(self) -> Description:
        """What the client holds."""
        return self.task.describe(self.node, self.instructions)

    def best(self) -> tuple[Arrays, dict[str, Any]] | None:
        """The best model of its examples, and how it was chosen, if the task knows a way to it."""
        return self.task.best_central(self.node, self._told())

    def _told(self) -> Instructions:
        """All instructions to the client, of which the task is the server from now on."""
        about = self.description
        own = self.task.instruct(about.counts, about.num_train)
        return {**self.instructions, **own, **self.task.instruct_from_sums(about.sums)}

    def evaluate(self, arrays: Arrays) -> dict[str, Arrays]:
        """The client's counts, by part."""
        parts, _ = self.task.evaluate(arrays, self.node, self._told())
        return {part: sum_counts([counts]) for part, counts in parts.items()}

    def finish(self, arrays: Arrays) -> Tables:
        """Judge a final model as the run would."""
        counts = self.evaluate(arrays)
        return self.task.finish(self.task.kept_arrays(arrays), counts)


def make_baseline(run: RunInfo) -> dict[str, Any]:
    """Train and judge the reference points of a run, and write them into its directory.

    - ``central``: the best that the task makes of all clients' train examples in one place, as its
      `best_central` says. Without that they are trained on for as many rounds of `local-epochs` as
      the run had, and the model after the round that is best on validation (by the run's `watch`)
      is taken: with many more steps than a client it can overfit, and a weak reference would
      flatter the run.
    - ``local``: each client that trained in the run, alone, in the rounds in which it did.
      Nothing is chosen. Mean and sample standard deviation over the clients. Under the closed form
      none trained.
    - ``majority``: always answering what is more frequent in the test split.

    This gives the content of `baseline.json`; the scores of the central model are in
    `baseline_scores.parquet`.

    Raises
    ------
    InputError
        If the run has not trained yet, or the data and clients here are not the run's.
    """
    path, config = run.path, config_of(run)
    if config.secure_aggregation:
        raise InputError(
            f"{path.name}: secure-aggregation = True: what each client holds is not known here, "
            f"and a reference of its own cannot be made"
        )
    if config.clients:
        raise InputError(
            f"{path.name}: clients = {config.clients!r} took part alone, and nothing trained on "
            f"the examples of all would be its reference; take a run of all clients"
        )
    trained: dict[str, list[int]] = {}  # the rounds in which each client trained
    for row in read_csv(path / "clients.csv"):
        if row["local_loss"]:  # it had something to train on
            trained.setdefault(row["client"], []).append(int(row["round"]))
    solved = config.strategy == "closed-form" and bool(run.rounds)
    if not (trained or solved) or run.status == "running":
        raise InputError(f"{path} is {run.status}, and nothing can be compared with it yet")
    task = load_task(config)
    prepared = task.prepare()
    check_provenance(run, prepared.provenance)
    held = read_csv(path / "partitions.csv")
    clients = [
        SingleClient(task, {"partition-id": i, "num-partitions": len(held)}, prepared.instructions)
        for i in range(len(held))
    ]
    whole = load_task(replace(config, partition_size=config.partition_size * len(held)))
    whole.prepare()
    everyone = SingleClient(whole, EVERYTHING, prepared.instructions)
    _check_clients(config, held, [client.description for client in clients], everyone.description)

    found = everyone.best()
    if not found and not trained:
        raise InputError(
            f"{path.name}: strategy = {config.strategy!r} solves for the same model however the "
            f"examples are spread, and the task {config.task} knows no other way to the best one "
            f"in one place; take a run of another strategy"
        )
    best, chosen = found or _best_of_rounds(everyone, run.rounds or 0)
    tables = everyone.finish(best)
    central = {name: defined(value) for name, value in tables.summary.items()}
    if all(value is None for value in central.values()):
        raise InputError(f"{config.dataset} has no test examples here to compare anything on")
    local = each_alone(clients, trained)
    majority = central.get("test_majority_accuracy")
    references = {
        "central": central,
        "chosen": chosen,
        "local": local,
        "majority": {} if majority is None else {"test_accuracy": majority},
    }
    if SCORES in tables.parquet:
        write_parquet(path / "baseline_scores.parquet", tables.parquet[SCORES])
    write_json(path / "baseline.json", references)
    return references


def baseline_table(summary: Metrics, references: Mapping[str, Any]) -> Table:
    """Table of the run's `summary.json` beside its reference points, a metric in each row."""
    local = references["local"]
    alone = f"alone ({local['clients']} clients)"
    table = Table("test metric", "this run", "central", "run - central", alone, "majority")
    for name, central in references["central"].items():
        if name == "test_majority_accuracy":  # a column
            continue
        own, mean, std = summary.get(name), local["mean"].get(name), local["std"].get(name)
        gap = None if own is None or central is None else own - central
        alone = _figure(mean) + (f" ± {std:.4f}" if std is not None else "")
        cells = (_figure(own), _figure(central), _figure(gap, "+"), alone)
        title = name_of(name.removeprefix("test_"))
        table.add_row(title, *cells, _figure(references["majority"].get(name)))
    return table


def _best_of_rounds(everyone: SingleClient, rounds: int) -> tuple[Arrays, dict[str, Any]]:
    """The central model after its best round, and how it was chosen."""
    task = everyone.task
    rules = StopRules(task.config.watch, lower_is_better=task.lower_is_better)
    progress = Progress("Training centrally", rounds)
    best: tuple[int, Arrays] = 0, {}
    for number, arrays in everyone.rounds(range(1, rounds + 1)):
        parts = task.evaluate_centrally(arrays)
        if "server_valid" not in parts:
            parts |= {part: task.metrics(c) for part, c in everyone.evaluate(arrays).items()}
        metrics = {f"{part}_{name}": v for part, m in parts.items() for name, v in m.items()}
        rules.note(number, metrics)
        if rules.memory.best_round in (number, None):  # without validation examples the last
            best = number, arrays
        progress.advance()
    memory, epochs = rules.memory, task.config.local_epochs
    LOG.info("Took the central model of epoch %d of %d", best[0] * epochs, rounds * epochs)
    chosen = {
        "epochs": best[0] * epochs,
        "of": rounds * epochs,
        "by": None if memory.best_round is None else memory.name,
        "value": memory.best_value,
    }
    return best[1], chosen


def each_alone(
    clients: Sequence[SingleClient], trained: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """Every client that trained, alone in its rounds: mean and spread of its test metrics."""
    progress = Progress("Training each client alone", len(trained))
    values: dict[str, list[float]] = {}
    for client in clients:
        if client_name(client.node) in trained:
            *_, (_, arrays) = client.rounds(trained[client_name(client.node)])
            for name, value in client.finish(arrays).summary.items():
                values.setdefault(name, []).append(value)
            progress.advance()
    figures = {n: [v for v in all_of if defined(v) is not None] for n, all_of in values.items()}
    return {
        "clients": len(trained),
        "mean": {name: fmean(of) if of else None for name, of in figures.items()},
        "std": {name: stdev(of) if len(of) > 1 else None for name, of in figures.items()},
    }


def _check_clients(
    config: RunConfig,
    held: Sequence[Mapping[str, str]],
    descriptions: Sequence[Description],
    everything: Description,
) -> None:
    """Raise InputError unless the clients' data is here, dealt as in the run, and adds up."""
    was = {row["client"]: int(row["num_examples"]) for row in held}
    now = {str(i): client.num_train for i, client in enumerate(descriptions)}
    if was != now:
        raise InputError(
            f"the run's {len(was)} clients held other train examples than the partitions of "
            f"{config.dataset} here do; a baseline needs the data of all clients in one place"
        )
    total = sum(client.num_train for client in descriptions)
    counts = np.sum([client.counts for client in descriptions], axis=0)
    if total != everything.num_train or (counts != everything.counts).any():
        raise InputError(
            f"task {config.task}: a client that is the only one (num-partitions 1) holds "
            f"{everything.num_train} train examples, the {len(descriptions)} clients {total}; "
            f"a baseline needs a task whose partitions add up"
        )


def _figure(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.4f}"
