"""Whole runs of the main task in one process."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import column, outcome, run_in_order

from celeba_fl import server_app
from celeba_fl.attacks.labels import flipped
from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv


@pytest.fixture(scope="module")
def whole(toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the main task."""
    folder = tmp_path_factory.mktemp("whole")
    run_inline(RunConfig.load({**toy, "results-dir": str(folder)}), 5, server_app.app, client_app)
    return Path(read_runs(folder)[0].path)


def test_a_whole_run(whole: Path) -> None:
    (said,) = read_runs(whole.parent)
    assert said.status == "completed"
    assert said.num_clients == 5
    assert said.rounds == 2
    assert [row["round"] for row in read_csv(whole / "rounds.csv")] == ["0", "1", "2"]
    assert [row["failures"] for row in read_csv(whole / "rounds.csv")] == ["0"] * 3
    assert len(read_csv(whole / "clients.csv")) == 15
    assert len(read_csv(whole / "partitions.csv")) == 5


def test_files_and_columns_that_others_read_exist(whole: Path) -> None:
    rounds = (
        "round,train_loss,train_accuracy,valid_loss,valid_accuracy,test_loss,test_accuracy,"
        "test_majority_accuracy,test_balanced_accuracy,test_macro_f1,test_auroc,clients,failures,"
        "seconds,bytes_up,bytes_down"
    )
    clients = "round,client,num_examples,train_loss,valid_loss,valid_accuracy,seconds"
    attributes = (
        "split,attribute,n,positives,majority_accuracy,accuracy,balanced_accuracy,f1,auroc,"
        "average_precision"
    )
    for name, columns in {"rounds": rounds, "clients": clients, "attributes": attributes}.items():
        assert set(columns.split(",")) <= set(read_csv(whole / f"{name}.csv")[0])
    for name in ("run.json", "progress.json", "partitions.csv", "summary.json"):
        assert (whole / name).exists()
    assert {"test_accuracy", "test_auroc"} <= set(json.loads((whole / "summary.json").read_text()))


def test_replies_in_another_order_give_the_same_run_to_the_last_digit(
    whole: Path, toy: dict[str, Any], tmp_path: Path
) -> None:
    chance = random.Random(1)
    keys = {**toy, "results-dir": str(tmp_path)}
    path = run_in_order(keys, 5, lambda replies: chance.sample(replies, len(replies)))
    assert outcome(path) == outcome(whole)


def test_the_seed_matters(whole: Path, toy: dict[str, Any], tmp_path: Path) -> None:
    config = RunConfig.load({**toy, "seed": 1, "results-dir": str(tmp_path)})
    run_inline(config, 5, server_app.app, client_app)
    path = read_runs(tmp_path)[0].path
    assert column(path, "test_loss") != column(whole, "test_loss")


def test_the_main_task_resumes(whole: Path, toy: dict[str, Any], tmp_path: Path) -> None:
    for keys in ({"num-server-rounds": 1}, {"resume": "latest"}):
        config = RunConfig.load({**toy, "results-dir": str(tmp_path), **keys})
        run_inline(config, 5, server_app.app, client_app)
    assert outcome(read_runs(tmp_path)[0].path) == outcome(whole)


def test_attackers_alone_learn_flipped_labels(
    whole: Path, toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def noting(labels: np.ndarray, config: RunConfig, told: dict[str, Any]) -> np.ndarray:
        seen.append((bool(told.get("flip-labels")), labels, flipped(labels, config, told)))
        return seen[-1][2]

    monkeypatch.setattr("celeba_fl.tasks.attributes.flipped", noting)
    keys = {"attack": "label-flip", "attackers": 0.4, "results-dir": str(tmp_path)}
    run_inline(RunConfig.load({**toy, **keys}), 5, server_app.app, client_app)
    path = read_runs(tmp_path)[0].path
    assert column(path, "test_loss")[1:] != column(whole, "test_loss")[1:]
    assert sum(bad for bad, *_ in seen) == 2 * len(read_csv(path / "attackers.csv")) == 4
    assert all((taught == (labels ^ bad)).all() for bad, labels, taught in seen)
