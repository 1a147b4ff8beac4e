"""Real runs through `flwr run`, on the simulation engine."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine import APP, HANGS_AFTER, Flower
from safetensors.numpy import load_file

from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as server_app

NODES = 6
CLIENTS = 20  # of which some fail


def comparable(path: Path) -> list[dict[str, str]]:
    """The rows of `rounds.csv` without what is not the same twice."""
    return [
        {key: value for key, value in row.items() if key != "seconds"}
        for row in read_csv(path / "rounds.csv")
    ]


def assert_equal_runs(one: Path, other: Path) -> None:
    assert comparable(one) == comparable(other)
    models = [load_file(path / "model.safetensors") for path in (one, other)]
    assert models[0].keys() == models[1].keys()
    for key in models[0]:
        np.testing.assert_array_equal(models[0][key], models[1][key])


def inline(settings: Mapping[str, Any], nodes: int, results: Path) -> Path:
    config = RunConfig.load({**settings, "results-dir": str(results)})
    run_inline(config, nodes, server_app, client_app)
    return read_runs(results)[0].path


@pytest.fixture
def settings(toy: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    summed = {"scaling": "clients", "init": "base-rates"}
    return {**toy, **summed, "num-server-rounds": 3, "results-dir": str(tmp_path / "runs")}


def test_a_run_completes_from_the_bundle_and_equals_the_inline_one(
    flower: Flower, settings: dict[str, Any], tmp_path: Path
) -> None:
    ended = flower.run(settings, NODES)

    assert ended.exit_status == 0, ended.output
    assert ended.status == "finished:completed"
    info = json.loads((ended.path / "run.json").read_text())
    assert (info["status"], info["num_clients"]) == ("completed", NODES)
    assert Path(info["code"]["path"]).is_relative_to(flower.env["FLWR_HOME"])
    lines = [line for line in ended.output.splitlines() if "Run directory" in line]
    assert len(lines) == 2
    assert_equal_runs(ended.path, inline(settings, NODES, tmp_path / "inline"))


@pytest.mark.slow  # without an engine: tests/cli/test_runs.py
def test_a_failing_run_exits_with_1_and_gives_its_reason(
    flower: Flower, settings: dict[str, Any]
) -> None:
    ended = flower.run({**settings, "dataset": "/no/such/faces"}, 2)

    assert ended.exit_status == 1
    assert ended.status == "finished:failed"
    info = json.loads((ended.path / "run.json").read_text())
    assert info["status"] == "failed"
    assert "/no/such/faces" in info["reason"]
    assert "drawn" in info["reason"]


def test_an_unknown_key_is_refused_before_anything_starts(
    flower: Flower, settings: dict[str, Any]
) -> None:
    plain = flower.call("flwr", "run", str(APP), "--run-config", "learning-rat=0.1")
    ours = flower.run({**settings, "learning-rat": 0.1}, 2)

    assert plain.returncode != 0
    assert "Invalid run configuration" in plain.stderr
    assert ours.exit_status == 2
    assert "did you mean 'learning-rate'?" in ours.output
    assert not Path(settings["results-dir"]).exists()


def kill_and_resume(flower: Flower, settings: dict[str, Any], rounds: int, delay: float) -> Path:
    """Kill a run `delay` seconds after round `rounds` was written, and go on with it."""
    runs = Path(settings["results-dir"])
    flower.submit(settings, NODES)
    deadline = time.monotonic() + HANGS_AFTER
    while time.monotonic() < deadline:
        found = list(runs.glob("*/rounds.csv"))
        if found and len(read_csv(found[0])) > rounds:
            break
        time.sleep(0.02)
    time.sleep(delay)
    flower.kill("flwr-simulation")
    flower.kill("ray")
    (run,) = read_runs(runs)
    assert run.status == "running"

    ended = flower.run({**settings, "resume": "latest"}, NODES)
    assert ended.exit_status == 0, ended.output
    assert ended.path == run.path
    info = json.loads((ended.path / "run.json").read_text())
    assert len(info["flwr_run_ids"]) == 2
    return Path(run.path)


@pytest.mark.slow  # in one process, at any write: tests/app/test_killing.py
@pytest.mark.parametrize(
    ("strategy", "rounds", "delay"), [("fedavg", 0, 0.1), ("fedadam", 2, 0.3), ("fedavg", 3, 0.75)]
)
def test_a_killed_run_resumes_and_ends_with_the_same_model(
    flower: Flower,
    settings: dict[str, Any],
    tmp_path: Path,
    strategy: str,
    rounds: int,
    delay: float,
) -> None:
    settings |= {"num-server-rounds": 30, "strategy": strategy}
    path = kill_and_resume(flower, settings, rounds, delay)
    assert_equal_runs(path, inline(settings, NODES, tmp_path / "inline"))


@pytest.mark.slow  # inline: tests/app/test_failures.py
def test_failing_clients_cost_the_others_nothing(
    flower: Flower, settings: dict[str, Any], tmp_path: Path
) -> None:
    settings |= {"task": "faulty:Faulty", "num-server-rounds": 2, "round-timeout": 50.0}
    ended = flower.run(settings, CLIENTS)

    assert ended.exit_status == 0, ended.output
    rows = read_csv(ended.path / "rounds.csv")
    # Client 7 says nothing of the model of round 1 either: it was asked for both at once.
    assert [row["failures"] for row in rows] == ["0", "1", "8"]
    for reason in ("4 is left out: RuntimeError: client ... has no power", "NaN or infinite"):
        assert reason in ended.output
    assert "client 7 is left out: no answer within 50 s" in ended.output
    trained = {
        int(row["client"])
        for row in read_csv(ended.path / "clients.csv")
        if row["round"] == "2" and row["local_loss"]
    }
    holding = {
        int(row["client"])
        for row in read_csv(ended.path / "partitions.csv")
        if int(row["num_examples"])
    }
    assert trained == holding - set(range(8))
    settings |= {"task": "faulty:Impatient"}
    assert_equal_runs(ended.path, inline(settings, CLIENTS, tmp_path / "inline"))


@pytest.mark.slow  # inline: tests/app/test_failures.py
def test_too_many_failing_clients_fail_the_run_and_a_healthy_resume_completes_it(
    flower: Flower, settings: dict[str, Any], toy: dict[str, Any]
) -> None:
    healed = Path(toy["home"]) / "healed"
    healed.unlink(missing_ok=True)
    settings |= {"task": "faulty:Broken", "round-retries": 1}
    ended = flower.run(settings, CLIENTS)

    assert ended.exit_status == 1
    info = json.loads((ended.path / "run.json").read_text())
    assert info["status"] == "failed"
    assert "8 of 20" in info["reason"]
    assert [row["round"] for row in read_csv(ended.path / "rounds.csv")] == ["0", "1"]

    healed.touch()
    again = flower.run({**settings, "resume": str(ended.path)}, CLIENTS)
    assert again.exit_status == 0, again.output
    rows = read_csv(again.path / "rounds.csv")
    assert [row["round"] for row in rows] == ["0", "1", "2", "3"]
