"""Someone else's task, from outside the package, through the same apps."""

from pathlib import Path

import pytest

from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as server_app


def test_a_task_from_outside_runs_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"task": "own_task:Cancer", "learning-rate": 0.3, "results-dir": str(tmp_path)}

    run_inline(RunConfig.load(settings), 4, server_app, client_app)

    (run,) = read_runs(tmp_path)
    rounds = read_csv(run.path / "rounds.csv")
    assert run.status == "completed"
    assert run.dataset == {"name": "breast cancer"}
    assert run.summary["test_accuracy"] == float(rounds[-1]["test_accuracy"]) > 0.93
    assert float(rounds[-1]["valid_loss"]) < float(rounds[0]["valid_loss"]) / 3
    partitions = read_csv(run.path / "partitions.csv")
    assert sum(int(row["num_examples"]) + int(row["num_valid"]) for row in partitions) == 455
    assert (run.path / "model.safetensors").exists()
