"""The app that `celeba-fl new` starts, as a new user runs it: from its own bundle."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from engine import Flower

from celeba_fl.deployment.local import LocalDeployment, node_configs
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv


@pytest.fixture
def mine(flower: Flower, tmp_path: Path) -> Path:
    """The folder of a new app."""
    done = call(flower, tmp_path, "celeba-fl", "new", "mine")
    assert done.returncode == 0, done.stderr
    return tmp_path / "mine"


def call(flower: Flower, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=flower.env, cwd=folder, capture_output=True, text=True, check=False
    )


def check(results: Path, clients: int) -> None:
    """Check the run directory that a run with 3 inputs left."""
    (run,) = read_runs(results)
    assert (run.status, run.num_clients, run.rounds) == ("completed", clients, 2)
    assert run.config["inputs"] == 3
    assert len(read_csv(run.path / "weights.csv")) == 3
    page = (run.path / "report.html").read_text()
    assert "number of measurements of an example" in page


@pytest.mark.slow  # the same in one process is in tests/cli/test_apps.py
def test_a_new_app_under_flwr_run_and_its_own_tests(
    flower: Flower, mine: Path, tmp_path: Path
) -> None:
    results = tmp_path / "runs"
    keys = f'inputs=3 num-server-rounds=2 results-dir="{results}"'
    command = ["flwr", "run", ".", "--stream", "--run-config", keys]
    done = call(flower, mine, *command)
    check(results, clients=2)

    words = ["inputs=3", "num-server-rounds=2", f"results-dir={tmp_path / 'more'}"]
    federation = str(flower.federation(3))
    done = call(flower, mine, "celeba-fl", "run", ".", *words, "--federation", federation)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FutureWarning" not in done.stdout
    check(tmp_path / "more", clients=3)

    done = call(flower, mine, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow  # a process a message
def test_a_new_app_on_sites(
    flower: Flower, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLWR_HOME", flower.env["FLWR_HOME"])
    with LocalDeployment(tmp_path / "here", "new-sites", node_configs(2, [])):
        words = ["inputs=3", "num-server-rounds=2", f"results-dir={tmp_path / 'runs'}"]
        done = call(flower, mine, "celeba-fl", "run", ".", "new-sites", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    check(tmp_path / "runs", clients=2)
    (run,) = read_runs(tmp_path / "runs")
    assert json.loads((run.path / "run.json").read_text())["own_keys"]["noise"]["default"] == 0.5
