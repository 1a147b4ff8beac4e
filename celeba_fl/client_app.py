"""The ClientApp: reads a message, asks the task, replies."""

import time
from functools import lru_cache
from typing import Any

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    MetricRecordValues,
    RecordDict,
)
from flwr.clientapp import ClientApp

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.bundle import PACKAGE, code_hash
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.task import (
    EPOCH,
    SITS_OUT,
    Instructions,
    Task,
    Trained,
    client_name,
    derived_seed,
    load_task,
)

app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    """Tell the server who this client is and what it has to learn from."""
    config, name = _config(context), client_name(context.node_config)
    if config.chosen and name not in config.chosen:  # it has nothing to load or to compute
        return Message(RecordDict({SITS_OUT: ConfigRecord({"name": name})}), reply_to=message)
    try:
        task = load_task(config)
        for sha256, file in message.content.array_records["files"].items():
            task.receive(sha256, file.numpy().tobytes())
        said = task.describe(context.node_config, _instructions(message))
    except (InputError, OSError) as error:  # the server does not know yet who answers
        raise InputError(f"client {name}: {error}") from error
    content = RecordDict(
        {
            "client": ConfigRecord(
                {
                    "name": name,
                    "missing": said.missing,
                    "code": code_hash(),
                    "path": str(PACKAGE),
                }
            ),
            "counts": ArrayRecord({"counts": Array(said.counts)}),
            "metrics": MetricRecord({"num-examples": said.num_train, "num-valid": said.num_valid}),
        }
    )
    return Message(content, reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the global model on this client's examples, or sum them up for the closed form."""
    start = time.perf_counter()
    task = _task(context)
    config = _instructions(message)
    name = client_name(context.node_config)
    metrics: dict[str, MetricRecordValues] = {}
    if "sums" in config:
        arrays, number = task.summarise(context.node_config, config)
    else:
        seed = derived_seed(context.run_config["seed"], config["server-round"], name)
        trained = Trained(*task.train(_arrays(message), context.node_config, config, seed))
        arrays, number = trained.arrays, trained.num_examples
        metrics["local-loss"] = trained.loss if number else 0.0
        metrics |= {f"{EPOCH}{name}": list(values) for name, values in trained.epochs.items()}
    metrics |= {"num-examples": number, "seconds": time.perf_counter() - start}
    content = RecordDict({"arrays": _record(arrays), "metrics": MetricRecord(metrics)})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Count what the global model gets right on this client's train and validation examples."""
    start = time.perf_counter()
    task = _task(context)
    config = _instructions(message)
    parts, number = task.evaluate(_arrays(message), context.node_config, config)
    content = RecordDict({part: _record(counts) for part, counts in parts.items()})
    seconds = time.perf_counter() - start
    content["metrics"] = MetricRecord({"num-examples": number, "seconds": seconds})
    return Message(content, reply_to=message)


def _task(context: Context) -> Task:
    return load_task(_config(context))


def _config(context: Context) -> RunConfig:
    return _checked(tuple(context.run_config.items()))


@lru_cache(maxsize=4)
def _checked(items: tuple[tuple[str, Any], ...]) -> RunConfig:
    """The run config, which comes with every message and is the same in all of a run."""
    return RunConfig.load(dict(items))


def _instructions(message: Message) -> Instructions:
    return dict(message.content.config_records["config"])


def _arrays(message: Message) -> Arrays:
    return {key: array.numpy() for key, array in message.content.array_records["arrays"].items()}


def _record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({key: Array(array) for key, array in arrays.items()})
