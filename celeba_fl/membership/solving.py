"""The head of the clients whose sums a run has kept, and all that follows from it.

It is that of a run of these clients alone: the sums are exact, and whatever else depends on who
takes part (the scale of features, the base rates, the base model, the penalty, the calibration) is
made anew of what each of them said in the roll call.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid

from celeba_fl.common.arrays import Arrays, add_exactly
from celeba_fl.common.errors import InputError
from celeba_fl.common.log import quiet_flower
from celeba_fl.config import RunConfig
from celeba_fl.rounds.checking import Client, Judge, total_client
from celeba_fl.rounds.cohort import Cohorts
from celeba_fl.rounds.loop import Loop
from celeba_fl.rounds.messages import RUN, SUMS, to_record
from celeba_fl.rounds.roll_call import natural_order
from celeba_fl.runs.directory import PARTITIONS
from celeba_fl.runs.kept_sums import KeptSums
from celeba_fl.runs.recorder import Recorder
from celeba_fl.runs.reopened import HEADS, ReopenedRun
from celeba_fl.runs.tables import read_csv, write_csv
from celeba_fl.strategy import ClosedForm, Keep
from celeba_fl.task import Prepared, Task, starting_arrays


def why_not(config: RunConfig) -> str:
    """Why nobody can be taken out of the model of such a run, nor put into it; empty if it can."""
    if config.secure_aggregation:
        return "under secure-aggregation the server has seen the sums of no client"
    if config.to_dict().get("privacy-epsilon"):
        return "with privacy-epsilon its sums have noise in them, which is drawn once for them all"
    if config.strategy != "closed-form":
        return (
            f"its model is an average over rounds (strategy = {config.strategy!r}), and in each "
            f"round everyone trained on what all had made before"
        )
    if config.to_dict().get("robust", "none") != "none":
        return "with robust, who is left out of its sums follows from all whose sums are there"
    if config.to_dict().get("attack", "none") != "none":
        return "with attack, who attacks is drawn from all who are there"
    if config.fraction_train < 1:
        return (
            f"fraction-train = {config.fraction_train}: who is in its sums was drawn from those "
            f"who were there"
        )
    return "" if config.keep_sums else "it has kept no client's sums (keep-sums = true keeps them)"


class Members:
    """The clients whose sums are in a run directory: what they said of themselves, and their sums.

    Someone who is in `partitions.csv` alone failed in the round, and is in no model. Of one who is
    `leaving` nothing is read, since that may be damaged.
    """

    def __init__(self, run: Path, task: Task, leaving: str = "") -> None:
        self._path, self._task = run, task
        self.kept = KeptSums(run)
        nodes = {row["client"]: row["node_id"] for row in read_csv(run / "nodes.csv")}
        here, zeros = {*self.kept.clients()} - {leaving}, task.description_sums()
        self.clients = {
            row["client"]: Client(
                int(nodes.get(row["client"], 0)),
                int(row["num_examples"]),
                int(row["num_valid"]),
                np.array([int(row[name]) for name in task.count_names], np.int64),
                self.kept.read_roll_call(row["client"], zeros),
            )
            for row in read_csv(run / PARTITIONS)
            if row["client"] in here
        }

    @cached_property
    def total(self) -> Arrays:
        """The sums of all of them."""
        total = self._task.zero_sums()
        for name in self.clients:
            add_exactly(total, self.kept.read(name, total))
        return total

    def keep(self, name: str, client: Client, sums: Arrays) -> None:
        """Take a client in whose sums are in the total already."""
        self.clients = by_name({**self.clients, name: client})
        self._write_rows()
        KeptSums(self._path, {name: client.sums}).add(name, sums)

    def remove(self, name: str) -> None:
        """Delete what there is of the one who is leaving; again, if that was cut off."""
        self.kept.remove(name)
        self._write_rows()

    def _write_rows(self) -> None:
        names = self._task.count_names
        rows = [
            {"client": name, "num_examples": one.num_train, "num_valid": one.num_valid}
            | dict(zip(names, one.counts.tolist(), strict=True))
            for name, one in self.clients.items()
        ]
        write_csv(self._path / PARTITIONS, rows)


def by_name(clients: Mapping[str, Client]) -> dict[str, Client]:
    """Clients in the order of the roll call."""
    return {name: clients[name] for name in sorted(clients, key=natural_order)}


class OfKeptSums(ClosedForm):
    """The closed form of sums that are there already: nobody is asked."""

    def __init__(self, task: Task, total: Arrays, keep: Keep) -> None:
        super().__init__(task, keep)
        self._kept = total

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask nobody."""
        self._total = {key: array.copy() for key, array in self._kept.items()}
        self._instructions = {**config, SUMS: list(self._total)}
        return ()


def make_head(
    task: Task,
    prepared: Prepared,
    run: ReopenedRun,
    members: Members,
    grid: Grid,
    here: Mapping[str, int],
) -> None:
    """Write the model of all members, and every table, as a run of theirs would.

    Those that are `here`, by their node ids, evaluate it; figures of clients are theirs alone.
    """
    config, clients, before = task.config, members.clients, _tables(run.path)
    for name in ("failures.csv", "ro-crate-metadata.json"):  # of what was before
        (run.path / name).unlink(missing_ok=True)
    total = total_client(clients.values(), task.description_sums())
    if not total.num_train:
        raise InputError(f"{run.path.name}: nobody with a train image is left, so there is no head")
    totals = task.instruct(total.counts, total.num_train)
    totals = {**totals, **task.instruct_from_sums(run.keep_sums(total.sums))}
    instructions = {**prepared.instructions, **totals, RUN: run.path.name}
    recorder = Recorder(task, run, clients)
    recorder.record_partitions()
    strategy = OfKeptSums(task, members.total, run.keep_closed_form)
    fractions = 0.0, config.fraction_evaluate
    sizes = 0, config.min_evaluate_clients
    loop = Loop(
        here,
        Cohorts(config.seed, *fractions, *sizes),
        check=Judge(task, clients, instructions),
        init=strategy if config.init == "closed-form" else None,
        on_start=run.cut,
        on_round=recorder.record,
        on_progress=run.progress,
        ask_everyone=True,
    )
    with quiet_flower():
        result = loop.run(
            strategy,
            grid,
            to_record(starting_arrays(task)),
            timeout=config.round_timeout,
            train_config=ConfigRecord({**instructions}),
            evaluate_config=ConfigRecord({**instructions}),
            evaluate_fn=recorder.evaluate_centrally,
        )
    recorder.finish(result.arrays, loop.final)
    for path, *_ in before & _tables(run.path):  # of the model before, such as a baseline
        path.unlink()
    for picture in (run.path / "plots").glob("*"):  # the report draws those that there are now
        picture.unlink()


def _tables(folder: Path) -> set[tuple[Path, int, int]]:
    """The files of figures in a run directory, each with what changes when it is written anew."""
    found = (path for path in folder.iterdir() if path.suffix in (".csv", ".parquet"))
    files = (path for path in (*found, folder / "baseline.json") if path.exists())
    return {
        (path, status.st_ino, status.st_mtime_ns)
        for path in files
        for status in [path.stat()]
        if path.name != HEADS
    }
