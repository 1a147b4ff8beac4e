"""A client whose updates are turned round is named, and honest ones are not."""

from pathlib import Path
from typing import Any

import pytest
from adding import Adding
from adding import run as run_adding

from celeba_fl.client_app import app as client_app
from celeba_fl.common.arrays import Arrays
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.report.html import Table
from celeba_fl.report.reading import Run
from celeba_fl.report.sections.outliers import outliers
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as server_app
from celeba_fl.task import Instructions, NodeConfig, Task, Trained
from celeba_fl.tasks.attributes import Attributes

CLIENTS = 12
COLUMNS = (
    *("update_norm", "update_cosine", "loss_before"),
    *("update_norm_z", "update_cosine_z", "loss_before_z"),
)


def rows(path: Path) -> list[dict[str, str]]:
    """Those of the rounds that train."""
    return [row for row in read_csv(path / "clients.csv") if row["round"] != "0"]


def turn(monkeypatch: pytest.MonkeyPatch, task: type[Task]) -> None:
    """Let client 3 send ten times its update, turned round."""
    train = task.train

    def turned(
        self: Task, arrays: Arrays, node: NodeConfig, instructions: Instructions, seed: int
    ) -> Trained:
        made = Trained(*train(self, arrays, node, instructions, seed))
        if node["partition-id"] != 3:
            return made
        moved = {key: before - 10 * (made.arrays[key] - before) for key, before in arrays.items()}
        return made._replace(arrays={k: v.astype(arrays[k].dtype) for k, v in moved.items()})

    monkeypatch.setattr(task, "train", turned)


def run_toy(toy: dict[str, Any], folder: Path, **keys: Any) -> Path:
    config = RunConfig.load({**toy, "results-dir": str(folder), **keys})
    run_inline(config, CLIENTS, server_app, client_app)
    return read_runs(folder)[0].path


def test_a_turned_update_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    turn(monkeypatch, Adding)
    path = run_adding(tmp_path, CLIENTS, num_server_rounds=2)
    suspected = {(row["round"], row["client"]): row["suspected"] for row in rows(path)}
    assert {one: why for one, why in suspected.items() if why} == {
        (number, "3"): "update_norm update_cosine" for number in "12"
    }
    assert "round 1: client 3 stands out: its update is far longer than those" in caplog.text
    text, table = outliers(Run.read(path))
    assert isinstance(text, str)
    assert "1 of 12 clients do. That proves nothing" in text
    assert isinstance(table, Table)
    (row,) = table.rows
    assert row[:2] == ["3", "2 of 2"]
    assert "far longer than those of clients of its size; its update points against" in row[2]


def test_honest_clients_are_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = run_adding(tmp_path, CLIENTS, num_server_rounds=3)
    assert {row["suspected"] for row in rows(path)} == {""}
    assert all(row[column] for row in rows(path) for column in COLUMNS)
    assert "stands out" not in caplog.text
    (text,) = outliers(Run.read(path))
    assert isinstance(text, str)
    assert text.endswith("it stands out. None does.")
    # The loss before a round is that after the one before.
    every = {(row["round"], row["client"]): row for row in read_csv(path / "clients.csv")}
    for (number, client), row in every.items():
        if number != "0":
            assert row["loss_before"] == every[str(int(number) - 1), client]["train_loss"]


def test_of_few_clients_none_is_said_to_stand_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn(monkeypatch, Adding)
    path = run_adding(tmp_path, 5, num_server_rounds=2)
    assert {row["suspected"] for row in rows(path)} == {""}
    assert all(row["update_norm"] for row in rows(path))
    assert outliers(Run.read(path)) == [
        "No round has 10 clients that train. What is usual among fewer cannot be said, so no "
        "client is said to stand out."
    ]


def test_under_secure_sums_no_update_is_seen(tmp_path: Path) -> None:
    path = run_adding(tmp_path, 3, num_server_rounds=1, secure_aggregation=True)
    assert {row[column] for row in rows(path) for column in (*COLUMNS, "suspected")} == {""}
    assert outliers(Run.read(path)) == []


@pytest.mark.slow
def test_a_turned_update_of_faces_is_named(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn(monkeypatch, Attributes)
    suspected = [row["client"] for row in rows(run_toy(toy, tmp_path)) if row["suspected"]]
    assert suspected == ["3", "3"]


@pytest.mark.slow
def test_the_closed_form_has_no_updates(toy: dict[str, Any], tmp_path: Path) -> None:
    path = run_toy(toy, tmp_path, strategy="closed-form")
    assert {row["update_norm"] + row["update_cosine"] for row in rows(path)} == {""}
    assert outliers(Run.read(path)) == []
