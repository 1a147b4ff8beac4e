"""The page's node, in node, with a real SuperLink: TLS, node authentication, a Python ServerApp."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flwr
import pytest

from celeba_fl.deployment.local import LocalDeployment

NODE = Path(__file__).parents[1] / "browser" / "js" / "fleet_node.mjs"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("node"), reason="node is not installed"),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc here"),
]
PROJECT = """
[project]
name = "echo"
version = "1.0.0"
license = { file = "LICENSE" }
dependencies = ["flwr>=1.41"]
[tool.flwr.app]
publisher = "tests"
fab-format-version = 1
flwr-version-target = "1.41.0"
fab-include = ["/echo/*.py", "/LICENSE"]
[tool.flwr.app.components]
serverapp = "echo.app:server"
clientapp = "echo.app:client"
[tool.flwr.app.config]
lr = 0.1
out = ""
"""
APP = """
import json
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

client = ClientApp()
server = ServerApp()

def ask(grid, fails, number=3):
    model = ArrayRecord({"model": Array(np.arange(number, dtype=np.float32))})
    content = RecordDict({"arrays": model, "config": ConfigRecord({"fails": fails})})
    kind = "query" if fails == "told" else "train.together"
    nodes = grid.get_node_ids()
    messages = [Message(content, dst_node_id=one, message_type=kind, group_id="4") for one in nodes]
    (reply,) = grid.send_and_receive(messages, timeout=60)
    if reply.has_error():
        return [reply.error.code, reply.error.reason]
    assert (reply.content["arrays"]["model"].numpy() == 2 * np.arange(number)).all()
    return [dict(reply.content["metrics"]), dict(reply.content["about"])]

@server.main()
def main(grid, context):
    said = [ask(grid, "told"), ask(grid, "bug"), ask(grid, "", 3_000_000)]
    Path(context.run_config["out"]).write_text(json.dumps(said))
"""


class TabInNode:
    """A node that tells every state as a line."""

    def __init__(self, deployment: LocalDeployment, log: Path) -> None:
        self.log = log
        ca = str(deployment.credentials / "ca.crt")
        with log.open("w") as stdout:
            self.process = subprocess.Popen(
                ["node", str(NODE), f"https://{deployment.front}", flwr.__version__, "tab"],
                env={**os.environ, "NODE_EXTRA_CA_CERTS": ca},
                stdout=stdout,
            )

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def await_(self, state: str, after: int = 0) -> int:
        """Wait until it tells a state, after so many others; how many it has told then."""
        for _ in range(600):
            for number, told in enumerate(self.said()[after:], after):
                if told.get("state") == state:
                    return number
            time.sleep(0.1)
        raise AssertionError(f"no {state}: {self.said()}")


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalDeployment]:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))
    with LocalDeployment(tmp_path / "here", "page-node", []) as deployed:
        yield deployed


def test_a_node_of_the_page_in_a_federation(deployment: LocalDeployment, tmp_path: Path) -> None:
    tab = TabInNode(deployment, tmp_path / "tab.log")
    try:
        tab.await_("unregistered")
        deployment.admit("tab", tab.said()[0]["openssh"])
        waiting = tab.await_("waiting")
        deployment.kill("superlink")
        offline = tab.await_("offline", waiting)
        deployment.start_superlink()
        again = tab.await_("waiting", offline)
        assert tab.said()[again]["nodeId"] == tab.said()[waiting]["nodeId"]

        code, raised, answered = run(deployment, tmp_path)
        told = "<class 'celeba_fl.client_app.ToldInputError'>:<'{}'>"
        assert code == [2, told.format("client tab: a key is at fault")]
        assert raised[1].startswith(told[:-2].format("TypeError in fleet_node.mjs, line "))
        assert answered[0] == {"n": 3_000_000, "loss": 0.5}
        about = answered[1]
        assert about.pop("fab") > 500
        assert about == {"type": "train.together", "group": "4", "name": "tab", "lr": 0.25}
    finally:
        tab.process.terminate()
        tab.process.wait(60)
    tab.await_("ended")
    assert deployment.online() == 0


def run(deployment: LocalDeployment, folder: Path) -> list[Any]:
    """What a ServerApp heard from the node."""
    app, out = folder / "app", folder / "out.json"
    (app / "echo").mkdir(parents=True)
    (app / "pyproject.toml").write_text(PROJECT)
    (app / "LICENSE").write_text("")
    (app / "echo" / "__init__.py").write_text("")
    (app / "echo" / "app.py").write_text(APP)
    command = ["flwr", "run", str(app), deployment.name, "--stream"]
    command += ["--run-config", f'lr=0.25 out="{out}"']
    environment = LocalDeployment.environment()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert out.exists(), done.stdout + done.stderr
    said: list[Any] = json.loads(out.read_text())
    return said
