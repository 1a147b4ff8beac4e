"""Tabs in secure sums: byte for byte what Python clients say, and in one total with them."""

import base64
import hashlib
import json
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from adding import Adding, settings
from Crypto.Protocol import SecretSharing
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from celeba_fl import server_app
from celeba_fl.client_app import app
from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.common.flower import altered
from celeba_fl.common.names import client_name
from celeba_fl.config import RunConfig
from celeba_fl.deployment.credentials import write_credentials
from celeba_fl.launch.inline import run_inline
from celeba_fl.privacy import client, keys
from celeba_fl.privacy.encoding import EXACT, MEAN, SMALL, STEP, WHOLE, Summand, encode
from celeba_fl.privacy.graph import plan
from celeba_fl.privacy.packets import MASK, SECURE, SHARE, UNMASK, unpacked
from celeba_fl.runs.reading import read_runs
from celeba_fl.task import Instructions, NodeConfig

PEER = Path(__file__).parent / "js" / "secure_peer.mjs"
pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
Says = Callable[[], RecordDict]
# Python sorts them by code points, JavaScript by halves of these.
NAMES = ("", 'Klinik "Nord" 北京', "\U0001f3e5", "\uff21", "\u00e9\\")
KINDS = {"arrays": ArrayRecord, "metrics": MetricRecord, "config": ConfigRecord}


def shown(value: Any) -> Any:
    """A value of a record as the peer reads it."""
    if isinstance(value, Array):
        array = value.numpy()
        data = base64.b64encode(array.tobytes()).decode()
        return {"dtype": str(array.dtype), "shape": [*array.shape], "data": data}
    if isinstance(value, list):
        return [shown(one) for one in value]
    return {"int": str(value)} if isinstance(value, int) and type(value) is not bool else value


def written(content: RecordDict) -> list[Any]:
    """The records of a content as the peer reads them."""
    return [
        [name, {"kind": kind, "items": [[key, shown(one)] for key, one in record.items()]}]
        for name, record in content.items()
        for kind, of_kind in KINDS.items()
        if isinstance(record, of_kind)
    ]


def read(content: list[Any]) -> RecordDict:
    """The content that the peer has said."""

    def value(one: Any) -> Any:
        if isinstance(one, list):
            return [value(each) for each in one]
        if isinstance(one, dict) and "dtype" in one:
            data = np.frombuffer(base64.b64decode(one["data"]), one["dtype"])
            return Array(data.reshape(one["shape"]))
        if isinstance(one, dict):
            return int(one["int"])
        return one if isinstance(one, str | bool) else float(one)  # JSON has 0 for 0.0

    return RecordDict(
        {
            name: KINDS[record["kind"]]({key: value(one) for key, one in record["items"]})
            for name, record in content
        }
    )


class Peer:
    """The clients of a page in a process of node."""

    roster = ""  # of all tabs; at most one then has its key

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            ["node", str(PEER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def say(self, said: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(said) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def answer(self, message: Message, context: Context, says: Says, seed: str = "") -> RecordDict:
        """What a tab of a node's name replies, whose app `says` something; InputError if none."""
        said = {
            "name": client_name(context.node_config),
            "run": str(context.run_id),
            "config": dict(context.run_config),
            "content": written(message.content),
            "seed": seed,
            "roster": self.roster,
        }
        reply = self.say(said)
        if "ask" in reply:
            try:
                reply = self.say({"content": written(says())})
            except InputError as error:
                reply = self.say({"error": str(error)})
        if "error" in reply:
            raise InputError(reply["error"], open_to_all=True)
        return read(reply["content"])


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    one = Peer()
    with one.process:  # closes its pipes, and waits
        yield one
    assert one.process.returncode == 0


class Stream:
    """Random bytes that the peer draws as well: SHA-256 of a seed and a counter, in a row."""

    def __init__(self, seed: str) -> None:
        self.seed, self.number, self.rest = seed, 0, b""

    def __call__(self, size: int) -> bytes:
        while len(self.rest) < size:
            self.rest += hashlib.sha256(f"{self.seed} {self.number}".encode()).digest()
            self.number += 1
        drawn, self.rest = self.rest[:size], self.rest[size:]
        return drawn


class Sites:
    """A ClientApp of which some clients are tabs; once, the second does not answer a step."""

    def __init__(self, peer: Peer, is_tab: Callable[[int], bool], lost: str = "") -> None:
        self.peer, self.is_tab, self.lost = peer, is_tab, lost

    def __call__(self, message: Message, context: Context) -> Message:
        number = int(str(context.node_config["partition-id"]))
        said = unpacked(message.content)
        if (
            number == 1
            and said["step"] == self.lost
            and any(one["serial"] > 1 for one in said.get("sums", said.get(SHARE)))
        ):
            self.lost = ""
            raise InputError("gone", open_to_all=True)
        content = self.answer if self.is_tab(number) else lambda *of: app(*of).content
        return Message(content(message, context), reply_to=message)

    def answer(self, message: Message, context: Context) -> RecordDict:
        """What a tab replies whose app says what the Python app does."""
        records = {name: one for name, one in message.content.items() if name != SECURE}
        inner = altered(message, RecordDict(records), message.metadata.message_type)
        return self.peer.answer(message, context, lambda: client._call(app, inner, context))


class Twins(Sites):
    """Sites each of which is a Python client and a tab with the same dice; keeps what both say."""

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self.said: list[tuple[list[Any], list[Any]]] = []

    def answer(self, message: Message, context: Context) -> RecordDict:
        said: list[RecordDict] = []
        seed, call = secrets.token_hex(8), client._call
        stream = Stream(seed)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keys, "secrets", SimpleNamespace(token_bytes=stream))
            patch.setattr(SecretSharing, "rng", stream)
            patch.setattr(client, "_call", lambda *of: said.append(call(*of)) or said[0])
            expected = app(message, context).content
        reply = self.peer.answer(message, context, lambda: said[0], seed)
        self.said.append((written(reply), written(expected)))
        return reply


class Counting(Adding):
    """Numbers of every kind that there is."""

    def zero_sums(self) -> Arrays:
        return {"s": np.zeros(2, np.int64)}

    def summarise(self, node: NodeConfig, instructions: Instructions) -> tuple[Arrays, int]:
        client = int(node["partition-id"])
        return {"s": np.array([client + 1, -(2**40) * client])}, client + 1

    def solve(self, sums: Arrays, instructions: Instructions) -> Arrays:
        return {key: array + sums["s"][0] for key, array in self.initial_arrays().items()}

    def evaluate(self, *given: Any) -> Any:
        parts, number = super().evaluate(*given)
        few = np.arange(3, dtype=np.uint16) * number
        return {part: {**counts, "few": few} for part, counts in parts.items()}, number


def nodes(number: int) -> list[dict[str, Any]]:
    """Node configs of sites whose names are hard to sort and to write."""
    return [
        {"site": f"{name} {i}".strip(), "partition-id": i, "num-partitions": number}
        for i, name in zip(range(number), cycle(NAMES), strict=False)
    ]


def model(folder: Path, sites: Sites, configs: list[dict[str, Any]], **run: Any) -> bytes:
    """The model of a run of these sites."""
    own = settings(folder, task=f"{__name__}:Counting", secure_aggregation=True, **run)
    config = RunConfig.load({**own, "num-server-rounds": 2})
    run_inline(config, configs, server_app.app, sites)
    (one,) = read_runs(folder)
    return (one.path / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("strategy", "number"),
    [("closed-form", 5), pytest.param("fedavg", 22, marks=pytest.mark.slow)],
)
def test_a_tab_says_byte_for_byte_what_a_python_client_says(
    peer: Peer, tmp_path: Path, strategy: str, number: int
) -> None:
    twins = Twins(peer, range(number).__contains__, UNMASK)
    model(tmp_path, twins, nodes(number), strategy=strategy)
    assert len(twins.said) >= number * 4
    for tab, python in twins.said:
        assert tab == python


@pytest.mark.parametrize(
    "step",
    [*(pytest.param(step, marks=pytest.mark.slow) for step in (SHARE, UNMASK)), MASK],
)
def test_tabs_and_python_clients_are_in_one_total(peer: Peer, tmp_path: Path, step: str) -> None:
    totals = {
        model(tmp_path / str(tabs), Sites(peer, tabs.__contains__, step), nodes(5))
        for tabs in ((), (0, 1, 3))
    }
    assert len(totals) == 1


def test_tabs_and_python_clients_know_each_other_by_a_roster(peer: Peer, tmp_path: Path) -> None:
    configs, credentials = nodes(4), tmp_path / "credentials"
    write_credentials(credentials, [one["site"] for one in configs[1:]], ["localhost"], 1)
    roster = credentials / "roster.toml"
    line = f'{json.dumps(configs[0]["site"])} = "{peer.say({"signing": True})}"'
    roster.write_text(f"{roster.read_text()}{line}\n")
    for i, one in enumerate(configs[1:]):
        key = credentials / f"node-{i}-signing.key"
        one |= {"roster": str(roster), "signing-key": str(key)}
    sites = Sites(peer, (0,).__contains__)
    peer.roster = roster.read_text()
    signed = model(tmp_path / "signed", sites, configs)
    peer.roster = ""
    assert signed == model(tmp_path / "unsigned", sites, nodes(4))


def test_a_tab_makes_the_same_plan_of_an_exchange(peer: Peer) -> None:
    numbers = [*range(1, 130), 1000, 10_000]
    plans = [asdict(plan(number)) for number in numbers]
    assert peer.say({"plans": numbers}) == plans


RNG = np.random.default_rng(3)
HARD = np.array([0.5, -0.5, 1.5, -1.5, 2.5, 2**51 + 0.5, -(2**51) - 0.5, 0.0, -0.0]) * STEP
FRACTIONS = RNG.normal(size=50) * 10.0 ** RNG.integers(-50, 12, 50)


@pytest.mark.parametrize(
    "summand",
    [
        Summand(WHOLE, RNG.integers(-(2**58), 2**58, (3, 4))),
        Summand(WHOLE, np.array(-1)),
        Summand(WHOLE, np.array([True, False])),
        *(Summand(WHOLE, np.array([2**61, sign * 2**61])) for sign in (-1, 1)),
        Summand(WHOLE, np.array([2**60 - 1, 1 - 2**60])),
        Summand(WHOLE, np.array([2**60, 0])),  # a quarter of what the words of four hold
        Summand(SMALL, np.arange(5, dtype=np.uint8)),
        Summand(SMALL, np.array([[2**30 - 1]], np.uint32)),
        Summand(SMALL, np.array([2**30], np.uint32)),
        Summand(SMALL, np.array([1, 2**30], np.uint64)),
        Summand(EXACT, np.array(-0.1)),
        Summand(EXACT, np.zeros((0, 3))),
        Summand(EXACT, FRACTIONS),
        Summand(EXACT, np.array([2.0**-80, -(2.0**-128), 1e-300, -1e-320, 999999999999999.9])),
        Summand(EXACT, np.array([1e15])),
        Summand(EXACT, np.array([np.nan])),
        Summand(MEAN, RNG.normal(size=500).astype(np.float32), 31),
        Summand(MEAN, HARD),
        Summand(MEAN, FRACTIONS[abs(FRACTIONS) < 2**27], 3),
        Summand(MEAN, np.array([2.0**28])),
        Summand(MEAN, np.array([-np.inf])),
    ],
)
def test_a_tab_writes_the_same_words_of_numbers_and_refuses_the_same(
    peer: Peer, summand: Summand
) -> None:
    summands = {"b": summand, 'a/"\U0001f3e5': summand}
    tensors = {
        name: {"kind": one.kind, "tensor": shown(Array(one.values)), "weight": one.weight}
        for name, one in summands.items()
    }
    said = peer.say({"summands": [*tensors.items()], "number": 4})
    try:
        layout, words = encode(summands, 4)
        expected = {"layout": layout, "words": base64.b64encode(words.tobytes()).decode()}
    except InputError as error:
        expected = {"error": str(error)}
    assert said == expected
