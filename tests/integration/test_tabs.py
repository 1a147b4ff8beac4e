"""Tabs of a real Chromium and SuperNodes in one federation, with TLS and node authentication."""

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from pyarrow import parquet

from celeba_fl.browser import serving, tabs
from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.data.drawn import draw
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.deployment.local import LocalDeployment, node_configs, processes_with
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as server_app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("ORT_WEB" not in os.environ, reason="no ONNX Runtime Web (ORT_WEB)"),
    pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed"),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc here"),
]
NODES, TABS = 2, 3
SECONDS = 240
LONG = 100  # epochs, so that a tab is met at work


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDeployment]:
    """Two SuperNodes and three tabs, which hold drawn faces."""
    folder = tmp_path_factory.mktemp("tabs")
    home = folder / "home"
    draw(home / "drawn", identities={"train": 12, "valid": 2, "test": 4}, processes=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLWR_HOME", str(folder / "flwr"))
        patch.setenv("CELEBA_FL_HOME", str(home))
        runtime = Path(os.environ["ORT_WEB"])
        patch.setattr(serving, "runtime_folder", lambda home, package: runtime)
        configs = node_configs(NODES, [], TABS)
        with (
            LocalDeployment(folder / "here", "tabs", configs, rosters=False) as deployed,
            tabs.open_tabs(deployed, home, NODES, TABS, headless=True),
        ):
            yield deployed
    assert processes_with("FLWR_HOME", str(folder / "here" / "flwr")) == []


def settings(folder: Path, **keys: Any) -> dict[str, Any]:
    written = {key.replace("_", "-"): value for key, value in keys.items()}
    own = {"features": "fast", "min-available-clients": NODES + TABS, "num-server-rounds": 3}
    return {**own, "results-dir": str(folder / "runs"), **written}


def start(keys: dict[str, Any]) -> "subprocess.Popen[str]":
    """`celeba-fl run` with these run-config keys."""
    experiment = Path(keys["results-dir"]).with_name("experiment.toml")
    experiment.write_text(tomli_w.dumps(keys))
    return subprocess.Popen(
        ["celeba-fl", "run", str(experiment), "tabs"],
        env=LocalDeployment.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def deployed_run(keys: dict[str, Any]) -> Path:
    """The directory of a run by all of them, which completed."""
    said, _ = start(keys).communicate(timeout=SECONDS)
    (run,) = read_runs(Path(keys["results-dir"]))
    assert run.status == "completed", said
    return Path(run.path)


def python_run(keys: dict[str, Any], folder: Path) -> Path:
    """The directory of the same run by Python clients alone, on the same partitions."""
    config = RunConfig.load({**keys, "results-dir": str(folder / "python")})
    run_inline(config, NODES + TABS, server_app, client_app)
    (run,) = read_runs(folder / "python")
    return Path(run.path)


def scores_of(run: Path) -> np.ndarray:
    """The logit of each attribute of each test image."""
    table = parquet.read_table(run / "test_scores.parquet").to_pydict()
    return np.array([table[f"{name}_score"] for name in ATTRIBUTES], float)


def runtimes(run: Path) -> dict[str, str]:
    """What computed the features of each client."""
    return {row["client"]: row["runtime"] for row in read_csv(run / "nodes.csv")}


@pytest.mark.parametrize("strategy", ["fedavg", "closed-form"])
def test_a_federation_of_both_learns_what_python_clients_learn(
    strategy: str, deployment: LocalDeployment, tmp_path: Path
) -> None:
    keys = settings(tmp_path, strategy=strategy, min_replies=1.0)
    keys |= {"num-server-rounds": 1} if strategy == "closed-form" else {}
    run, python = deployed_run(keys), python_run(keys, tmp_path)
    assert [row["failures"] for row in read_csv(run / "rounds.csv")] == ["0"] * (
        1 + keys["num-server-rounds"]
    )
    found = runtimes(run)
    assert {*found} == {"0", "1", "2", "3", "4"}
    assert all("onnxruntime-web" in found[name] for name in "234")
    ours, theirs = scores_of(run), scores_of(python)
    assert np.abs(theirs).max() > 1
    assert (np.abs(ours - theirs) / np.maximum(1, np.abs(theirs))).max() < 1e-4


def test_a_tab_that_is_killed_at_work_and_reloaded_fails_with_one_message_alone(
    deployment: LocalDeployment, tmp_path: Path
) -> None:
    process = start(settings(tmp_path, clients="2,3,4", num_server_rounds=4, local_epochs=LONG))
    wait_until(lambda: len(rows(tmp_path)) > 1)
    (nodes_file,) = (tmp_path / "runs").glob("*/nodes.csv")
    nodes = {row["client"]: int(row["node_id"]) for row in read_csv(nodes_file)}
    assert [*nodes] == [*"234"]
    wait_until(lambda: is_at_work(deployment, nodes["4"]))
    time.sleep(0.5)  # it has the message now
    deployment.kill("tab-4")
    deployment.start_again("tab-4")
    said, _ = process.communicate(timeout=SECONDS)
    (run,) = read_runs(tmp_path / "runs")
    assert run.status == "completed", said
    failures = read_csv(run.path / "failures.csv")
    assert len(failures) <= 2, said  # a message asks to evaluate one round's model, and train it
    assert all("reloaded" in row["reason"] and row["client"] == "4" for row in failures)
    assert [row["clients"] for row in rows(tmp_path)[1:]] == ["3"] * 4
    assert rows(tmp_path)[-1]["failures"] == "0", said
    assert deployment.online() == NODES + TABS


def is_at_work(deployment: LocalDeployment, node: int) -> bool:
    """Whether a node has been given a message to which there is no reply yet."""
    signed = node - (node >> 63 << 64)
    with sqlite3.connect(f"file:{deployment.folder / 'superlink.db'}?mode=ro", uri=True) as base:
        query = (
            "select count(*) from message_ins where dst_node_id = ? and delivered_at <> '' and "
            "message_id not in (select reply_to_message_id from message_res)"
        )
        return bool(base.execute(query, [signed]).fetchone()[0])


def wait_until(done: Callable[[], bool]) -> None:
    """Wait for something that a run does."""
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def rows(folder: Path) -> list[dict[str, str]]:
    """The rounds of the run in a folder, as far as it is."""
    found = [*(folder / "runs").glob("*/rounds.csv")]
    return read_csv(found[0]) if found else []
