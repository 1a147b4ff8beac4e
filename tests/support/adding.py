"""A task and ClientApps whose "training" adds a known number, so that averages are known too.

The client of partition i holds i + 1 train examples and one of validation.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from safetensors import safe_open

from celeba_fl.client_app import app as client_app
from celeba_fl.common.arrays import Arrays
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import InlineGrid, run_inline
from celeba_fl.rounds.parts import answer_together
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as server_app
from celeba_fl.task import Description, Instructions, NodeConfig, Prepared, Tables, Task


class Adding(Task):
    """Client i adds i + 1 to `weight`, and chance to `noise`."""

    reads: ClassVar[tuple[str, ...]] = ("partition-by",)

    # Changed by tests.
    fingerprint = "sums"
    fault: Callable[[int, int], None] = staticmethod(lambda client, number: None)

    @property
    def count_names(self) -> tuple[str, ...]:
        return ("odd",)

    @property
    def metric_names(self) -> tuple[str, ...]:
        return ("loss", "score")

    @property
    def central_parts(self) -> tuple[str, ...]:
        return ("server_valid", "test")

    def prepare(self) -> Prepared:
        return Prepared({}, {"dataset": {"name": "sums", "fingerprint": self.fingerprint}})

    def initial_arrays(self) -> Arrays:
        # Neither in the order of the alphabet nor of the types.
        return {
            "weight": np.zeros(2, np.float32),
            "noise": np.zeros(3, np.float32),
            "bias": np.zeros((1, 2), np.float64),
        }

    def describe(self, node: NodeConfig, instructions: Instructions) -> Description:
        client = int(node["partition-id"])
        self.fault(client, 0)
        return Description(client + 1, 1, np.array([client % 2]))

    def train(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions, seed: int
    ) -> tuple[Arrays, int, float]:
        client = int(node["partition-id"])
        self.fault(client, int(instructions["server-round"]))
        chance = np.random.default_rng(seed).normal(size=3).astype(np.float32)
        added = {"weight": client + 1, "noise": chance, "bias": 0.1 * client}
        trained = {key: (array + added[key]).astype(array.dtype) for key, array in arrays.items()}
        return trained, client + 1, 0.5

    def evaluate(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions
    ) -> tuple[dict[str, Arrays], int]:
        counts = {"n": np.array(1), "sum": arrays["weight"][0].astype(np.float64)[None]}
        return {"train": counts, "valid": counts}, 1

    def metrics(self, counts: Arrays) -> dict[str, float]:
        score = float(counts["sum"][0] / counts["n"])
        return {"loss": 100 - score, "score": score}

    def evaluate_centrally(self, arrays: Arrays) -> dict[str, dict[str, float]]:
        score = float(arrays["weight"][0])
        return {
            "server_valid": {"loss": 100 - score, "score": score},
            "test": {"loss": 1000 - score, "score": 1000 + score},
        }

    def finish(self, arrays: Arrays, counts: Mapping[str, Arrays]) -> Tables:
        rows = [{"split": part, **self.metrics(c)} for part, c in counts.items()]
        return Tables({"test_score": float("nan")}, csv={"attributes.csv": rows})


class Contrary(Adding):
    """What validation finds good, test finds bad; a seed is luck."""

    def evaluate_centrally(self, arrays: Arrays) -> dict[str, dict[str, float]]:
        score = float(arrays["weight"][0])
        lucky = score + self.config.seed
        return {
            "server_valid": {"loss": 100 - lucky, "score": lucky},
            "test": {"loss": score, "score": -score},
        }

    def finish(self, arrays: Arrays, counts: Mapping[str, Arrays]) -> Tables:
        return Tables({"test_score": -float(arrays["weight"][0])})


def settings(folder: Path, **keys: Any) -> dict[str, Any]:
    """Run-config keys of a run of `Adding` in `folder`."""
    written = {key.replace("_", "-"): value for key, value in keys.items()}
    own = {"task": "adding:Adding", "watch": "score", "results-dir": str(folder)}
    return {**own, "num-server-rounds": 4, **written}


def run(folder: Path, nodes: int = 3, **keys: Any) -> Path:
    """Run it inline; the run's directory."""
    config = RunConfig.load(settings(folder, **keys))
    run_inline(config, nodes, server_app, client_app)
    return read_runs(folder)[0].path


def run_in_order(
    keys: dict[str, Any], nodes: int, order: Callable[[list[Message]], list[Message]]
) -> Path:
    """A run whose replies come in as `order` says."""
    config = RunConfig.load(keys)
    grid = Nodes(client_app, nodes, order, keys=config.to_dict())
    server_app(grid, Context(grid.run.run_id, 0, {}, RecordDict(), {**config.to_dict()}))
    return Path(read_runs(Path(keys["results-dir"]))[0].path)


def info(path: Path) -> dict[str, Any]:
    """The `run.json` of a run."""
    return dict(json.loads((path / "run.json").read_text()))


def column(path: Path, name: str) -> list[float]:
    """A column of `rounds.csv`."""
    return [float(row[name]) for row in read_csv(path / "rounds.csv")]


def outcome(path: Path) -> dict[str, Any]:
    """All that a run recorded, times aside."""
    tables = {
        name: [
            {key: value for key, value in row.items() if key != "seconds"}
            for row in read_csv(path / name)
        ]
        for name in ("rounds.csv", "clients.csv", "partitions.csv", "attributes.csv")
    }
    with safe_open(path / "model.safetensors", "numpy") as file:
        names = file.keys()
        tables["model"] = [{name: file.get_tensor(name).tobytes() for name in names}]
        tables["metadata"] = [file.metadata() or {}]
    return tables


def reply(
    message: Message, arrays: Mapping[str, np.ndarray] | None = None, **metrics: Any
) -> Message:
    """An answer with arrays and metrics; ``num_examples`` stands for ``num-examples``."""
    content = RecordDict()
    if arrays is not None:
        content["arrays"] = record(arrays)
    written = {key.replace("_", "-"): value for key, value in metrics.items()}
    content["metrics"] = MetricRecord(written)
    return Message(content, reply_to=message)


def record(arrays: Mapping[str, Any]) -> ArrayRecord:
    """An ArrayRecord of what NumPy can make arrays of."""
    return ArrayRecord({key: Array(np.asarray(array)) for key, array in arrays.items()})


def values(arrays: ArrayRecord) -> dict[str, Any]:
    """The numbers in an ArrayRecord, as lists."""
    return {key: array.numpy().tolist() for key, array in arrays.items()}


def adding_app(step: Callable[[int, int], Any] = lambda client, number: client + 1.0) -> ClientApp:
    """A ClientApp that adds ``step(client, round)`` to all arrays, or replies with it."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])
        made = step(client, int(message.content["config"]["server-round"]))
        if callable(made):
            return made(message)
        arrays = message.content["arrays"]
        moved = {key: array.numpy() + np.asarray(made) for key, array in arrays.items()}
        types = {key: moved[key].astype(array.dtype) for key, array in arrays.items()}
        return reply(message, types, num_examples=client + 1)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])
        first = next(iter(message.content["arrays"].values())).numpy().ravel()[0]
        return reply(message, num_examples=client + 1, score=float(first) + client)

    answer_together(app)
    return app


class Nodes(InlineGrid):
    """An InlineGrid that notes who is asked for what, and can lose or delay replies.

    Parameters
    ----------
    app : ClientApp
        What every node runs.
    number : int
        Number of nodes.
    order : Callable[[list[Message]], list[Message]]
        What becomes of the replies of a pull.
    silent : Iterable[int]
        Partitions that never answer.
    keys : Mapping[str, Any]
        The run config.
    """

    def __init__(
        self,
        app: ClientApp,
        number: int,
        order: Callable[[list[Message]], list[Message]] = lambda replies: replies,
        silent: Iterable[int] = (),
        keys: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(app, number, keys or {})
        self.order = order
        self.by_name = {str(i): node for i, node in enumerate(self.get_node_ids())}
        self.silent = {self.by_name[str(i)] for i in silent}
        self.asked: list[tuple[str, list[str]]] = []
        self.exchanges = 0

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        asked: dict[str, list[str]] = {}
        names = {node: name for name, node in self.by_name.items()}
        for message in messages:
            together: Any = message.content.config_records.get("parts", {})
            for part in together.get("names", [message.metadata.message_type]):
                asked.setdefault(part, []).append(names[message.metadata.dst_node_id])
        self.asked += [(part, sorted(asked[part])) for part in sorted(asked)]
        self.exchanges += bool(messages)
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = self.order(list(super().pull_messages(message_ids)))
        return [answer for answer in replies if answer.metadata.src_node_id not in self.silent]
