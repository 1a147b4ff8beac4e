"""What this package uses of Flower's private modules, in each version that it allows."""

import ast
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from private import NodeInfo, generate_key_pairs, public_key_to_bytes, trigger_exit_handlers

from celeba_fl.common import flower
from celeba_fl.common.bundle import PACKAGE

PUBLIC = ("flwr", "flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy")
OLDEST = "1.41.0"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))


def test_private_modules_are_used_in_one_file_and_in_one_of_tests() -> None:
    users, tests = set(), PACKAGE.parent / "tests"
    for path in (*PACKAGE.rglob("*.py"), *tests.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            if any(name.split(".")[0] == "flwr" and name not in PUBLIC for name in names):
                users.add(path.relative_to(PACKAGE.parent).as_posix())
    assert users == {"celeba_fl/common/flower.py", "tests/support/private.py"}


def test_runs_and_messages() -> None:
    runs = flower.new_run(), flower.new_run()
    assert runs[0].run_id != runs[1].run_id
    message = Message(RecordDict(), 1, "train")
    sent = flower.send(message)
    assert message.metadata.message_id == sent != flower.send(Message(RecordDict(), 1, "train"))
    reply = Message(flower.failure("no power"), reply_to=message)
    assert reply.error.reason == "no power"
    assert reply.metadata.reply_to_message_id == sent


def test_a_simulation_finds_messages_by_their_node() -> None:
    state_class: Any = import_module("flwr.server.superlink.linkstate").InMemoryLinkState

    class State(state_class):  # type: ignore[misc]
        def __init__(self) -> None:
            self.message_ins_store: dict[str, Message] = {}

        def store_message_ins(self, message: Message) -> str:
            self.message_ins_store[flower.send(message)] = message
            return str(message.metadata.message_id)

    flower.new_run()
    state = State()
    flower.look_by_node(SimpleNamespace(state=state))
    sent = [Message(RecordDict(), node, "train") for node in (1, 2, 1, 1)]
    keys = [state.store_message_ins(message) for message in sent]
    del state.message_ins_store[keys[2]]

    assert state.get_message_ins(node_id=3, limit=1) == []
    assert state.get_message_ins(node_id=1, limit=1) == [sent[0]]
    assert sent[0].metadata.delivered_at
    assert not sent[1].metadata.delivered_at
    assert state.get_message_ins(node_id=1, limit=None) == [sent[3]]
    assert state.get_message_ins(node_id=1, limit=1) == []
    assert state.get_message_ins(node_id=2, limit=1) == [sent[1]]


def test_any_other_grid_stays_as_it_is() -> None:
    grid = SimpleNamespace(state=SimpleNamespace(store_message_ins=1))
    flower.look_by_node(grid)
    flower.look_by_node(object())
    assert vars(grid.state) == {"store_message_ins": 1}


def test_what_comes_last_is_done_at_once_but_beside_the_end_of_a_simulation() -> None:
    class InMemoryGrid(Grid):
        pass

    order: list[str] = []
    flower.at_the_end(object(), lambda: order.append("at once"))
    assert order == ["at once"]

    may_go_on = Event()

    def work() -> None:
        may_go_on.wait(60)
        order.append("done")

    with patch.multiple(InMemoryGrid, __abstractmethods__=set()):
        flower.at_the_end(InMemoryGrid(), work)  # type: ignore[abstract]
    order.append("the ServerApp has returned")
    may_go_on.set()
    trigger_exit_handlers(run_before_force_exit=True)
    assert order[1:] == ["the ServerApp has returned", "done"]


def test_connections_of_flowers_commands() -> None:
    flower.write_connection("clinics", "10.0.0.1:8000", insecure=True)
    known = flower.connections()
    assert known["clinics"] == {"address": "10.0.0.1:8000", "insecure": True}
    assert known["default"] in known


def test_public_keys_of_nodes() -> None:
    class Known(Grid):
        def get_nodes(self) -> list[NodeInfo]:
            pems = (public_key_to_bytes(key), b"", b"no key")
            return [NodeInfo(node_id=2**63 + i, public_key=pem) for i, pem in enumerate(pems)]

    key = generate_key_pairs()[1]
    listed = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    with patch.multiple(Known, __abstractmethods__=set()):
        known = flower.public_keys(Known())  # type: ignore[abstract]
    assert known == {2**63: listed, 2**63 + 1: "", 2**63 + 2: ""}


def test_number_of_nodes(tmp_path: Path) -> None:
    path = tmp_path / "nodes.toml"
    assert flower.num_supernodes({}, path) == 2
    settings = {"num-supernodes": 7, "client-resources-num-gpus": 0.125, "backend": "ray"}
    assert flower.num_supernodes(settings, path) == 7


@pytest.mark.slow
def test_the_oldest_version_of_flower_does_too(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    command = [*pip, "--target", str(tmp_path / "old"), f"flwr=={OLDEST}"]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no package index can be reached")
    tests = Path(__file__).parents[1]
    files = [__file__, str(tests / "launch" / "test_inline.py"), str(tests / "rounds")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", *files],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "old")},
        capture_output=True,
        text=True,
        check=False,
    )
    version = [sys.executable, "-c", "import flwr; print(flwr.__file__)"]
    where = subprocess.run(
        version, env={**os.environ, "PYTHONPATH": str(tmp_path / "old")}, capture_output=True
    )
    assert where.stdout.decode().startswith(str(tmp_path / "old"))
    assert done.returncode == 0, done.stdout[-3000:]
