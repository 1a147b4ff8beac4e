"""The audit of a run: every message as it arrived at the server, for whoever asks what it sees.

`audit/0001/<client>.json` has the records of the client's reply in the first exchange, or why there
is none; beside it, `<client>.safetensors` has the arrays. An exchange is what the server sends in
one go, such as the roll call or a round. None but the owner can read any of it.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from flwr.app import Array, Message
from flwr.serverapp import Grid

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.files import pack_arrays, private
from celeba_fl.common.log import LOG
from celeba_fl.rounds.messages import CLIENT, SITS_OUT

FOLDER = "audit"
NAME_LENGTH = 100  # names of files have 255 bytes at most


class Audit:
    """Writes down what a Grid delivers; a run that resumes adds to what is there."""

    def __init__(self, run: Path) -> None:
        self.folder = run / FOLDER
        self.folder.mkdir(mode=0o700, exist_ok=True)
        before = (int(path.name) for path in self.folder.glob("[0-9]*"))
        self._exchanges = max(before, default=0)
        self._names: dict[int, str] = {}  # of nodes that have introduced themselves
        self._asked: dict[str, int] = {}  # the node that each message is for
        LOG.info("audit = true: every reply is kept in %s, which shows what it says", self.folder)

    def listen(self, grid: Grid) -> None:
        """Keep whatever a grid delivers from now on; whoever uses it notices nothing."""
        push, pull = grid.push_messages, grid.pull_messages

        def push_messages(messages: Iterable[Message]) -> Iterable[str]:
            self._exchanges += 1
            sent = list(messages)
            ids = list(push(sent))
            self._asked |= {one.metadata.message_id: one.metadata.dst_node_id for one in sent}
            return ids

        def pull_messages(message_ids: Iterable[str]) -> Iterator[Message]:
            for message in pull(message_ids):
                self.keep(message)
                yield message

        vars(grid).update(push_messages=push_messages, pull_messages=pull_messages)

    def keep(self, message: Message) -> None:
        """Write down a reply."""
        about: dict[str, Any] = {
            "client": self._name(message),
            "node": message.metadata.src_node_id,  # the SuperLink's own, where it speaks for one
            "type": message.metadata.message_type,
        }
        arrays: Arrays = {}
        if message.has_content():
            content = message.content
            said: Iterable[tuple[str, Any]]
            said = chain(content.metric_records.items(), content.config_records.items())
            about["records"] = {name: _as_json(dict(record)) for name, record in said}
            for name, record in content.array_records.items():
                arrays |= {f"{name}/{key}": _as_numbers(array) for key, array in record.items()}
        if message.has_error():
            about["error"] = {"code": message.error.code, "reason": message.error.reason}
        path = self.folder / f"{self._exchanges:04d}" / f"{about['client']}.json"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _write(path, f"{json.dumps(about, indent=1)}\n".encode())
        if arrays:
            _write(path.with_suffix(".safetensors"), pack_arrays(arrays, {}))

    def _name(self, message: Message) -> str:
        """The client that a reply is from, as the name of a file; no two nodes have one."""
        node = self._asked.get(message.metadata.reply_to_message_id, message.metadata.src_node_id)
        records = message.content.config_records if message.has_content() else {}
        for record in {CLIENT, SITS_OUT} & records.keys():
            said = _quoted(str(records[record].get("name")))
            name = said[:NAME_LENGTH]
            taken = name != said or name in ("", *self._names.values())
            self._names.setdefault(node, f"{name}-{node}" if taken else name)
        return self._names.get(node, f"node-{node}")


def files_of(run: Path, client: str) -> list[Path]:
    """What is kept of a client in a run directory, under its name or that with its node id."""
    own = re.compile(rf"{re.escape(_quoted(client)[:NAME_LENGTH])}(-\d{{15,20}})?")
    return sorted(path for path in (run / FOLDER).glob("*/*.*") if own.fullmatch(path.stem))


def _quoted(client: str) -> str:
    return quote(client, safe=" ").replace(".", "%2E")


def _as_numbers(array: Array) -> np.ndarray:
    """The numbers of an array, or, if a safetensors file cannot hold them, the bytes that came."""
    try:
        values = array.numpy()
        if values.dtype.kind in "biuf" and values.dtype.itemsize <= 8 and values.dtype.isnative:
            return values
    except Exception:  # a client may send anything
        pass
    return np.frombuffer(array.data, np.uint8)


def _as_json(value: Any) -> Any:
    """A record's value as JSON has it: bytes in hexadecimal, NaN and infinity as words."""
    if isinstance(value, dict):
        return {key: _as_json(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_as_json(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb", opener=private) as file:
        file.write(data)
