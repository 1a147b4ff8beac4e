"""The ServerApp: run config -> task -> clients -> strategy -> run directory."""

from collections.abc import Mapping, Sequence
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from celeba_fl.checkpoints import Checkpoints
from celeba_fl.config import RunConfig
from celeba_fl.exchange import Answers
from celeba_fl.loop import Loop, Round
from celeba_fl.progress import LOG, InputError
from celeba_fl.rollcall import Client, roll_call
from celeba_fl.runs import RunDirectory
from celeba_fl.stopping import StopRules
from celeba_fl.strategy import make_strategy
from celeba_fl.task import Arrays, Task, load_task, sum_counts

NAN = float("nan")
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the experiment that the run config describes."""
    config = RunConfig.from_dict(context.run_config)
    with RunDirectory(config, context.run_id) as run:
        task = load_task(config)
        if config.watch not in task.metric_names:
            raise InputError(
                f"watch = {config.watch!r}: must be one of {', '.join(task.metric_names)}, which "
                f"the task {config.task} measures"
            )
        prepared = task.prepare()
        run.set_provenance(prepared.provenance)
        clients = roll_call(
            grid,
            prepared.instructions,
            task.deliver,
            minimum=config.min_available_clients,
            timeout=config.round_timeout,
            on_waiting=run.progress,
        )
        run.set_partitions(_partition_rows(task, clients))
        counts = sum_counts([{"counts": client.counts} for client in clients.values()])["counts"]
        num_train = sum(client.num_train for client in clients.values())
        instructions = {**prepared.instructions, **task.instruct(counts, num_train)}

        recorder = _Recorder(task, run, clients)
        loop = Loop(
            {name: client.node_id for name, client in clients.items()},
            seed=config.seed,
            fraction_train=config.fraction_train,
            fraction_evaluate=config.fraction_evaluate,
            min_train=config.min_train_clients,
            min_evaluate=config.min_evaluate_clients,
            min_replies=config.min_replies,
            retries=config.round_retries,
            stop=StopRules(config.watch, config.target, config.patience, config.max_seconds),
            checkpoints=Checkpoints(run.path / "checkpoints", config.keep_checkpoints),
            on_start=run.cut,
            on_round=recorder.record,
            on_waiting=run.progress,
        )
        result = make_strategy(config, loop).start(
            grid,
            ArrayRecord({key: Array(array) for key, array in task.initial_arrays().items()}),
            num_rounds=config.num_server_rounds,
            timeout=config.round_timeout,
            train_config=ConfigRecord({**instructions}),
            evaluate_config=ConfigRecord({**instructions}),
            evaluate_fn=recorder.evaluate_centrally,
        )
        final = loop.evaluate_all(
            grid, result.arrays, ConfigRecord({**instructions}), config.round_timeout
        )
        recorder.finish(_arrays(result.arrays), final)
        run.end(loop.reason)


class _Recorder:
    """Turns rounds into the rows of a run directory."""

    def __init__(self, task: Task, run: RunDirectory, clients: Mapping[str, Client]) -> None:
        self.task, self.run, self.clients = task, run, clients

    def evaluate_centrally(self, number: int, arrays: ArrayRecord) -> MetricRecord:
        """Metrics of the server's own parts, e.g. ``test_loss``."""
        parts = self.task.evaluate_centrally(_arrays(arrays))
        return MetricRecord(
            {f"{part}_{name}": value for part, m in parts.items() for name, value in m.items()}
        )

    def record(self, done: Round) -> dict[str, float]:
        """Add a round to `rounds.csv` and `clients.csv`, log it, and return its metrics."""
        said = _counts(done.evaluate)
        total = _total(said)
        row: dict[str, Any] = {"round": done.number}
        for part in ("train", "valid"):
            metrics = self.task.metrics(total[part]) if part in total else {}
            row |= {f"{part}_{name}": metrics.get(name, NAN) for name in self.task.metric_names}
        for part in self.task.central_parts:
            for name in self.task.metric_names:
                row[f"{part}_{name}"] = done.central.get(f"{part}_{name}", NAN)
        asked = [*done.train.usable, *done.train.failures, *said, *done.evaluate.failures]
        row |= {
            "clients": len(set(asked)),
            "failures": len({*done.train.failures, *done.evaluate.failures}),
            "seconds": round(done.seconds, 3),
            "bytes_up": done.train.bytes_up + done.evaluate.bytes_up,
            "bytes_down": done.train.bytes_down + done.evaluate.bytes_down,
        }
        self.run.append("clients.csv", self._client_rows(done, said))
        self.run.append("rounds.csv", [row])
        LOG.info("round %d: %s", done.number, _headline(row))
        return row

    def _client_rows(
        self, done: Round, said: Mapping[str, dict[str, Arrays]]
    ) -> list[dict[str, Any]]:
        rows = []
        for client in self.clients:
            trained, evaluated = done.train.usable.get(client), done.evaluate.usable.get(client)
            if trained is None and evaluated is None:
                continue
            metrics = {part: self.task.metrics(c) for part, c in said.get(client, {}).items()}
            replies = [m.content.metric_records["metrics"] for m in (trained, evaluated) if m]
            local = trained.content.metric_records["metrics"] if trained else MetricRecord()
            rows.append(
                {
                    "round": done.number,
                    "client": client,
                    "num_examples": self.clients[client].num_train,
                    "local_loss": local["local-loss"] if local.get("num-examples") else NAN,
                    "train_loss": metrics.get("train", {}).get("loss", NAN),
                    "valid_loss": metrics.get("valid", {}).get("loss", NAN),
                    "valid_accuracy": metrics.get("valid", {}).get("accuracy", NAN),
                    "seconds": round(sum(map(_seconds, replies)), 4),
                }
            )
        return rows

    def finish(self, arrays: Arrays, final: Answers) -> None:
        """Write what there is to say of the final model."""
        tables = self.task.finish(arrays, _total(_counts(final)))
        for name, rows in tables.csv.items():
            self.run.write_csv(name, rows)
        for name, columns in tables.parquet.items():
            self.run.write_parquet(name, columns)
        self.run.write_model(arrays, tables.model_metadata)
        self.run.write_summary(tables.summary)


def _counts(answers: Answers) -> dict[str, dict[str, Arrays]]:
    """What clients counted, by client and part."""
    return {
        client: {part: _arrays(record) for part, record in message.content.array_records.items()}
        for client, message in answers.usable.items()
    }


def _total(said: Mapping[str, Mapping[str, Arrays]]) -> dict[str, Arrays]:
    """Summed over the clients, by part."""
    parts = next(iter(said.values()), {})
    return {part: sum_counts([counts[part] for counts in said.values()]) for part in parts}


def _partition_rows(task: Task, clients: Mapping[str, Client]) -> Sequence[dict[str, Any]]:
    return [
        {
            "client": name,
            "num_examples": client.num_train,
            "num_valid": client.num_valid,
            **dict(zip(task.count_names, client.counts, strict=True)),
        }
        for name, client in clients.items()
    ]


def _headline(row: Mapping[str, Any]) -> str:
    """What people watch: `valid` and `test` metrics, clients and time."""
    names = [key for key in row if key.startswith(("valid_", "test_")) and row[key] == row[key]]
    figures = ", ".join(f"{name} {row[name]:.4f}" for name in names)
    left_out = f", {row['failures']} left out" if row["failures"] else ""
    return f"{figures} ({row['clients']} clients{left_out}, {row['seconds']:.1f} s)"


def _seconds(metrics: MetricRecord) -> float:
    seconds = metrics["seconds"]
    return seconds if isinstance(seconds, float) else NAN


def _arrays(record: ArrayRecord) -> Arrays:
    return {key: array.numpy() for key, array in record.items()}
