"""The task by itself, and a whole run in this process."""

from pathlib import Path

import numpy as np
import pytest
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.task import load_task
from my_app.client_app import app as client_app
from my_app.server_app import app as server_app
from my_app.task import Keys, MyTask

NODE = {"partition-id": 0, "num-partitions": 2}


def test_a_client_learns() -> None:
    task = MyTask(Keys(learning_rate=0.5))
    start = task.initial_arrays()
    trained, number, loss = task.train(start, NODE, {}, seed=0)
    assert number == 160
    assert loss < np.log(2)
    assert not np.array_equal(trained["weight"], start["weight"])


def test_a_key_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match="inputs = 0: must be at least 1"):
        load_task(RunConfig.load({"task": "my_app.task:MyTask", "inputs": 0}))


def test_a_run(tmp_path: Path) -> None:
    settings = {"task": "my_app.task:MyTask", "inputs": 3, "learning-rate": 0.5}
    config = RunConfig.load({**settings, "results-dir": str(tmp_path)})

    run_inline(config, 2, server_app, client_app)

    (run,) = read_runs(tmp_path)
    assert run.status == "completed"
    assert run.summary["test_accuracy"] > 0.8
    weights = read_csv(run.path / "weights.csv")
    assert [row["feature"] for row in weights] == ["0", "1", "2"]
    assert all(float(row["weight"]) * float(row["true_weight"]) > 0 for row in weights)
