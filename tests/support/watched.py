"""A grid that keeps what a server gets to see, and loses or changes messages of secure sums."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, RecordDict

from celeba_fl.client_app import app as client_app
from celeba_fl.common import flower
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import InlineGrid
from celeba_fl.privacy.packets import SECURE, packed, unpacked
from celeba_fl.runs.reading import read_runs
from celeba_fl.server_app import app as server_app

# Whether to lose what a client is asked for: its partition, the step, and the exchange's number.
Lose = Callable[[int, str, int], bool]
# Changes what a client is asked for.
Change = Callable[[int, dict[str, Any]], None]


class Watched(InlineGrid):
    """An InlineGrid whose server is watched."""

    def __init__(
        self,
        nodes: int | list[dict[str, Any]],
        keys: Mapping[str, Any],
        lose: Lose = lambda *_: False,
        change: Change = lambda *_: None,
    ) -> None:
        super().__init__(client_app, nodes, keys)
        self.partition = {node: i for i, node in enumerate(self.get_node_ids())}
        self.lose, self.change = lose, change
        self.seen: list[tuple[int, str, RecordDict]] = []  # client, step and reply
        self.errors: list[str] = []

    def _answer(self, message: Message) -> Message:
        client, said = self.partition[message.metadata.dst_node_id], unpacked(message.content)
        serial = max([one["serial"] for one in said.get("sums", said.get("share", []))], default=0)
        if self.lose(client, said["step"], serial):
            return Message(flower.failure("lost"), reply_to=message)
        self.change(client, said)
        message.content[SECURE] = packed(said)
        reply = super()._answer(message)
        if reply.has_error():
            self.errors.append(str(reply.error.reason))
        else:
            self.seen.append((client, said["step"], RecordDict({**reply.content})))
        return reply

    def bytes_seen(self) -> bytes:
        """All that the server got, but for masked words, in one piece."""
        parts = []
        for _, _, reply in self.seen:
            for name, record in reply.items():
                if name != "masked":
                    parts.append(f"{name} {dict(record)}".encode())
                for array in record.values():
                    if hasattr(array, "data") and name != "masked":
                        parts.append(array.data)
        return b"\n".join(parts)


def watch(
    keys: Mapping[str, Any],
    nodes: int | list[dict[str, Any]] = 3,
    lose: Lose = lambda *_: False,
    change: Change = lambda *_: None,
) -> tuple[Watched, Path]:
    """A run under `secure-aggregation`, and its directory."""
    config = RunConfig.load({"secure-aggregation": True, **keys})
    grid = Watched(nodes, config.to_dict(), lose, change)
    context = Context(grid.run.run_id, 0, {}, RecordDict(), {**config.to_dict()})
    try:
        server_app(grid, context)
    except Exception as error:  # how it ended stands in the run directory too
        grid.errors.append(str(error))
    return grid, read_runs(Path(str(keys["results-dir"])))[0].path


def info(path: Path) -> dict[str, Any]:
    """The `run.json` of a run."""
    return dict(json.loads((path / "run.json").read_text()))


def lost(partition: int, step: str, serial: int = -1) -> Lose:
    """What one client is asked for in a step, of an exchange or of any, is lost."""
    return lambda *asked: asked[:2] == (partition, step) and serial in (asked[2], -1)


def everything(paths: Iterable[Path]) -> bytes:
    """The contents of files."""
    return b"".join(path.read_bytes() for path in paths)
