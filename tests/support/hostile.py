"""Clients that are honest up to one reply, and what they make of that."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adding import record
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from celeba_fl.client_app import app as honest
from celeba_fl.common.arrays import Arrays
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.rounds.parts import answer_together
from celeba_fl.runs.reading import read_runs
from celeba_fl.server_app import app as server_app

# Changes the content of a reply in place.
Attack = Callable[[RecordDict], object]
# By client and phase: ``query``, ``train``, ``evaluate``, or ``final`` for the last evaluation.
Attacks = Mapping[int, Mapping[str, Attack]]


def with_attacks(attacks: Attacks) -> ClientApp:
    """A ClientApp with bad clients, by partition.

    They stay away from the phases in which they are not bad, but introduce themselves.
    """
    app = ClientApp()

    def handle(message: Message, context: Context) -> Message:
        client, phase = int(context.node_config["partition-id"]), message.metadata.message_type
        if message.content.config_records["config"].get("final"):
            phase = "final"
        bad = attacks.get(client, {})
        if bad and phase not in (*bad, "query"):
            raise RuntimeError("away")
        reply = honest(message, context)
        if phase in bad:
            bad[phase](reply.content)
        return reply

    for register in (app.query, app.train, app.evaluate):
        register()(handle)
    answer_together(app)
    return app


def run_with(attacks: Attacks, nodes: int, keys: Mapping[str, Any]) -> Path:
    """The directory of a run with bad clients."""
    run_inline(RunConfig.load(dict(keys)), nodes, server_app, with_attacks(attacks))
    return Path(read_runs(Path(keys["results-dir"]))[0].path)


def put(name: str, /, **values: Any) -> Attack:
    """Set keys of a record; None takes one away."""

    def attack(content: RecordDict) -> None:
        for key, value in values.items():
            written = key.replace("_", "-")
            content[name].pop(written, None)
            if value is not None:
                content[name][written] = value

    return attack


def change(name: str, make: Callable[[Arrays], Arrays]) -> Attack:
    """Replace arrays of a record by what is made of them."""

    def attack(content: RecordDict) -> None:
        arrays = {key: array.numpy() for key, array in content[name].items()}  # type: ignore
        content[name] = record({**arrays, **make(arrays)})

    return attack
