"""Rounds become rows: the measurements of a run, as its run directory stores them."""

from collections.abc import Iterable, Iterator, Mapping
from statistics import mean, median
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, MetricRecord

from celeba_fl.common.arrays import Arrays, sum_counts
from celeba_fl.common.log import LOG
from celeba_fl.rounds import messages, outliers, runtimes
from celeba_fl.rounds.checking import FINAL_EVALUATION, Client
from celeba_fl.rounds.exchange import TOTAL, Replies
from celeba_fl.rounds.messages import NAN, to_arrays
from celeba_fl.rounds.outliers import COSINE, LOSS, NORM
from celeba_fl.rounds.round import Round
from celeba_fl.rounds.runtimes import NATIVE
from celeba_fl.runs.directory import RunDirectory
from celeba_fl.runs.resuming import last_losses
from celeba_fl.task import Task


class Recorder:
    """Turns the measurements of all clients, by name, and of the server into rows of a run.

    If only the `total` over all clients is known, its rows take the place of theirs.
    """

    def __init__(
        self,
        task: Task,
        run: RunDirectory,
        clients: Mapping[str, Client],
        total: Client | None = None,
    ) -> None:
        self.task, self.run, self.clients, self.total = task, run, clients, total
        # The train losses of the clients after the round before; None: they are in its rows.
        self._losses: dict[str, float] | None = None
        # The last round that is recorded, and who failed to evaluate its model.
        self._last, self._failed = 0, set[str]()

    def record_partitions(self) -> None:
        """Write `partitions.csv` and `nodes.csv`, and log how examples are spread."""
        names = self.task.count_names
        nodes = [
            {"client": name, "node_id": one.node_id, "runtime": one.runtime or NATIVE}
            for name, one in self.clients.items()
        ]
        self.run.write_csv("nodes.csv", nodes)
        self.run.update(**runtimes.summary(self.clients, self.task.probe))
        if self.task.config.private:
            self.run.update(num_clients=len(self.clients))
            LOG.info("%d clients; what they hold stays with them", len(self.clients))
            return
        self.run.set_partitions(
            [
                {"client": name, "num_examples": client.num_train, "num_valid": client.num_valid}
                | dict(zip(names, client.counts, strict=True))
                for name, client in self._known.items()
            ]
        )
        if self.total:
            self.run.update(num_clients=len(self.clients))
            LOG.info(
                "Secure sums: %d clients with %d train examples together; what each of them holds "
                "stays with it, and max-update-norm, which would have to see it, is not applied",
                *(len(self.clients), self.total.num_train),
            )
            return
        sizes = [client.num_train for client in self.clients.values()]
        LOG.info(
            "%d clients; train examples: smallest %d, median %g, largest %d",
            *(len(sizes), min(sizes), median(sizes), max(sizes)),
        )
        without = (np.array([c.counts for c in self.clients.values()]) == 0).sum(axis=0)
        named = sorted(zip(without, names, strict=True), reverse=True)
        if without.any():
            listed = ", ".join(f"{name} {number}" for number, name in named if number)
            LOG.info("Clients without a single example of: %s", listed)

    @property
    def _known(self) -> Mapping[str, Client]:
        """Those of whom there are numbers."""
        return {TOTAL: self.total} if self.total else self.clients

    def evaluate_centrally(self, server_round: int, arrays: ArrayRecord) -> MetricRecord:
        """Metrics of the server's own parts, e.g. ``test_loss``."""
        parts = self.task.evaluate_centrally(to_arrays(arrays))
        return MetricRecord(
            {f"{part}_{name}": value for part, m in parts.items() for name, value in m.items()}
        )

    def record(self, done: Round) -> dict[str, float]:
        """Add a round to `rounds.csv` and those of the clients, log it, and return its metrics."""
        if not done.server_round:
            self.run.write_model("base", self.task.kept_arrays(to_arrays(done.arrays)), {})
        counts = _counts(done.evaluate)
        total = _total(_each(done.evaluate))
        row: dict[str, Any] = {"round": done.server_round}
        for part in ("train", "valid"):
            metrics = self.task.metrics(total[part]) if part in total else {}
            row |= {f"{part}_{name}": metrics.get(name, NAN) for name in self.task.metric_names}
        for part in self.task.central_parts:
            for name in self.task.metric_names:
                row[f"{part}_{name}"] = done.central.get(f"{part}_{name}", NAN)
        judged = [*done.evaluate.usable, *done.evaluate.failures]
        asked = [*done.train.usable, *done.train.failures, *judged]
        row |= {
            "clients": len(set(asked)),
            "failures": len({*done.train.failures, *done.evaluate.failures}),
            "seconds": round(done.seconds, 3),
            "bytes_up": done.train.bytes_up + done.evaluate.bytes_up,
            "bytes_down": done.train.bytes_down + done.evaluate.bytes_down,
        }
        if done.is_asynchronous:
            row["staleness"] = mean(done.train.staleness.values()) if done.train.staleness else NAN
        self.run.note_failures(done.server_round, messages.TRAIN, done.train.failures)
        self.run.note_failures(done.server_round, messages.EVALUATE, done.evaluate.failures)
        self._last, self._failed = done.server_round, {*done.evaluate.failures}
        rows = self._client_rows(done, counts)
        outliers.tell(done.server_round, rows)
        self.run.append("clients.csv", rows)
        self.run.append("epochs.csv", self._epoch_rows(done))
        self.run.append("rounds.csv", [row])
        for name, png in self.task.illustrate(to_arrays(done.arrays)).items():
            self.run.write_picture(name, done.server_round, png)
        LOG.info("round %d: %s", done.server_round, _headline(row))
        return row

    def _client_rows(
        self, done: Round, counts: Mapping[str, dict[str, Arrays]]
    ) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        private = self.task.config.private
        hidden = self.total or private
        before = last_losses(self.run.path) if self._losses is None else self._losses
        for client in self.clients:
            trained, evaluated = done.train.usable.get(client), done.evaluate.usable.get(client)
            if trained is None and evaluated is None:
                continue
            of_client = counts.get(client, {})
            metrics = {part: self.task.client_metrics(c) for part, c in of_client.items()}
            seconds = [messages.seconds(reply.content) for reply in (trained, evaluated) if reply]
            rows.append(
                {
                    "round": done.server_round,
                    "client": client,
                    "num_examples": NAN if hidden else self.clients[client].num_train,
                    "local_loss": messages.local_loss(trained.content) if trained else NAN,
                    "train_loss": metrics.get("train", {}).get("loss", NAN),
                    "valid_loss": metrics.get("valid", {}).get("loss", NAN),
                    "valid_accuracy": metrics.get("valid", {}).get("accuracy", NAN),
                    "seconds": round(sum(seconds), 4),
                    LOSS: before.get(client, NAN) if trained else NAN,
                    **dict.fromkeys((NORM, COSINE), NAN),
                    **({} if private else done.train.updates.get(client, {})),
                }
            )
            if done.is_asynchronous:
                older = done.evaluate.staleness.get(client, 0)
                rows[-1] |= {
                    "staleness": done.train.staleness.get(client, NAN),
                    "evaluated": done.server_round - older if evaluated else NAN,
                }
        self._losses = {row["client"]: row["train_loss"] for row in rows}
        return [{**row, **found} for row, found in zip(rows, outliers.compare(rows), strict=True)]

    def _epoch_rows(self, done: Round) -> list[dict[str, Any]]:
        """The clients' figures after each local epoch, as means over their examples."""
        rows = []
        for name, message in done.train.summands.items():
            train, valid = done.train.behind
            if not done.train.total:
                train, valid = self.clients[name].num_train, self.clients[name].num_valid
            if not train:
                continue
            numbers = {"train": train, "valid": valid}
            columns = messages.epochs(message.content)
            for epoch, sums in enumerate(zip(*columns.values(), strict=True), start=1):
                n = {column: numbers[column.partition("_")[0]] for column in columns}
                means = {c: v / n[c] if n[c] else NAN for c, v in zip(columns, sums, strict=True)}
                rows.append({"round": done.server_round, "client": name, "epoch": epoch, **means})
        return rows

    def finish(self, model: ArrayRecord, final: Replies) -> None:
        """Write the tables, the summary and the arrays of the final model."""
        others = {c: why for c, why in final.failures.items() if c not in self._failed}
        self.run.note_failures(self._last, FINAL_EVALUATION, others)
        arrays = self.task.kept_arrays(to_arrays(model))
        tables = self.task.finish_by_clients(arrays, _total(_each(final)), _each(final))
        base = self.run.read_model("base")
        changed = self.task.compare(base, arrays) if base else {}
        kept = self.run.read_model("closed_form")
        more = self.task.review(kept) if kept else {}
        for name, rows in {**tables.csv, **changed, **more}.items():
            self.run.write_csv(name, rows)
        for name, columns in tables.parquet.items():
            self.run.write_parquet(name, columns)
        self.run.write_model("model", tables.model or arrays, tables.model_metadata)
        self.run.write_summary(tables.summary)


def _counts(replies: Replies) -> dict[str, dict[str, Arrays]]:
    """The counts of an evaluation, by client and part; none, if only their total is known."""
    return {} if replies.total else dict(zip(replies.usable, _each(replies), strict=True))


def _each(replies: Replies) -> Iterator[dict[str, Arrays]]:
    """The counts of one client after the other: those of thousands would take gigabytes."""
    return (messages.counts(reply.content) for reply in replies.summands.values())


def _total(counts: Iterable[Mapping[str, Arrays]]) -> dict[str, Arrays]:
    """The counts summed over the clients, by part."""
    named = (
        {
            f"{part}/{key}": array
            for part, of_part in of_client.items()
            for key, array in of_part.items()
        }
        for of_client in counts
    )
    total: dict[str, Arrays] = {}
    for name, array in sum_counts(named).items():
        part, _, key = name.partition("/")
        total.setdefault(part, {})[key] = array
    return total


def _headline(row: Mapping[str, Any]) -> str:
    """The metrics of `test`, or else of `valid`, with clients and time, for the log."""
    defined = {key: value for key, value in row.items() if value == value}
    part = "test_" if any(key.startswith("test_") for key in defined) else "valid_"
    figures = [f"{k.removeprefix(part)} {v:.4f}" for k, v in defined.items() if k.startswith(part)]
    left_out = f", {row['failures']} left out" if row["failures"] else ""
    clients = f"{row['clients']} clients{left_out}, {row['seconds']:.1f} s"
    return f"{part.removesuffix('_')}: {', '.join(figures)} ({clients})"
