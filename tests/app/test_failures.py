"""Clients that fail, and what becomes of the others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import Adding, column, info, outcome, run, run_in_order, settings
from flwr.app import Message

from celeba_fl.common.errors import InputError
from celeba_fl.report.html import Table
from celeba_fl.report.reading import Run
from celeba_fl.report.sections.failures import failures
from celeba_fl.rounds.aggregation import RoundFailedError
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let clients raise in a round."""

    def set_fault(number: int, *clients: int) -> None:
        def raise_(client: int, at: int) -> None:
            if client in clients and at == number:
                raise RuntimeError(f"client {client} has no power")

        monkeypatch.setattr(Adding, "fault", staticmethod(raise_))

    return set_fault


def test_failing_clients_are_counted(tmp_path: Path, fault: Callable[..., None]) -> None:
    fault(2, 0, 3)
    path = run(tmp_path, 4, num_server_rounds=3)

    assert column(path, "failures") == [0, 0, 2, 0]
    assert column(path, "clients") == [4, 4, 4, 4]
    # Rounds of all four add (1 + 4 + 9 + 16) / 10, that of 1 and 2 adds (4 + 9) / 5.
    assert column(path, "valid_score") == pytest.approx([0, 3, 5.6, 8.6])
    trained = [row["client"] for row in read_csv(path / "clients.csv") if row["round"] == "2"]
    losses = [row["local_loss"] for row in read_csv(path / "clients.csv") if row["round"] == "2"]
    assert trained == ["0", "1", "2", "3"]
    assert losses == ["", "0.5", "0.5", ""]
    assert info(path)["status"] == "completed"
    # Why, once for each; and where, once for both of them.
    assert read_csv(path / "failures.csv") == [
        {
            "round": "2",
            "phase": "train",
            "client": c,
            "reason": "RuntimeError: client ... has no power",
        }
        for c in "03"
    ]
    log = (path / "log.txt").read_text()
    assert log.count("Traceback") == log.count("RuntimeError: client 0 has no power") == 1
    assert 'test_failures.py", line' in log
    assert "round 2, train: client 3 is left out: RuntimeError: client ... has no power" in log
    assert "WARNING round 2" in log
    text, table = failures(Run.read(path))
    assert isinstance(text, str)
    assert text.startswith("2 replies of 2 clients were left out")
    assert isinstance(table, Table)
    assert table.rows == [("RuntimeError: client ... has no power", "training", "2", "2", "0, 3")]


def test_late_clients_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lose(replies: list[Message]) -> list[Message]:
        said = [(a, a.content.metric_records.values()) for a in replies]
        return [a for a, ms in said if all(m.get("local-loss") != 0.75 for m in ms)]

    train = Adding.train

    def marked(self: Adding, arrays: Any, node: Any, instructions: Any, seed: int) -> Any:
        made = train(self, arrays, node, instructions, seed)
        return *made[:2], 0.75 if node["partition-id"] == 2 else 0.5

    monkeypatch.setattr(Adding, "train", marked)
    keys = settings(tmp_path, num_server_rounds=2, round_timeout=0.05)
    path = run_in_order(keys, 3, lose)

    # What it says of the model before is in the same reply.
    assert column(path, "failures") == [1, 1, 1]
    assert column(path, "valid_score") == pytest.approx([0, 5 / 3, 10 / 3])
    assert "client 2 is left out: no answer within 0 s" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "number"),
    [
        (lambda array: array * np.nan, 3),
        (lambda array: array + np.inf, 3),
        (lambda array: array[:1], 3),
        (lambda array: array.astype(np.float16), 3),
        (lambda array: array, -3),
        (lambda array: array, 3.5),
    ],
)
def test_unusable_models_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any, number: Any
) -> None:
    train = Adding.train

    def spoiled(self: Adding, arrays: Any, node: Any, instructions: Any, seed: int) -> Any:
        made = train(self, arrays, node, instructions, seed)
        if node["partition-id"] != 2:
            return made
        return {**made[0], "weight": spoil(made[0]["weight"])}, number, made[2]

    monkeypatch.setattr(Adding, "train", spoiled)
    path = run(tmp_path, num_server_rounds=2)
    assert column(path, "failures") == [0, 1, 1]
    assert column(path, "valid_score") == pytest.approx([0, 5 / 3, 10 / 3])


def test_too_many_failures_fail_the_run_and_a_healthy_resume_completes_it(
    tmp_path: Path, fault: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    draw = "celeba_fl.server_app._draw_report"
    monkeypatch.setattr(draw, lambda run: drawn.append(info(run.path)["status"]))
    whole = run(tmp_path / "whole", 4)
    fault(3, 0, 1, 2)
    with pytest.raises(RoundFailedError) as caught:
        run(tmp_path / "failed", 4, round_retries=1)

    (said,) = read_runs(tmp_path / "failed")
    assert caught.value.__notes__ == [f"{said.path / 'log.txt'} has all that is known of it"]
    assert [row["client"] for row in read_csv(said.path / "failures.csv")] == [*"012012"]
    assert drawn == ["completed", "failed"]
    assert said.status == "failed"
    assert "round 3 does not count: 1 of 4 clients sent a usable model" in said.reason
    assert "tried 2 times" in said.reason
    assert column(said.path, "round") == [0, 1, 2]
    assert not (said.path / "model.safetensors").exists()

    fault(0)
    path = run(tmp_path / "failed", 4, round_retries=1, resume="latest")
    assert outcome(path) == outcome(whole)
    assert info(path)["status"] == "completed"
    assert info(path)["reason"] == ""
    assert not (path / "failures.csv").exists()  # what was done again did not fail
    assert "The run failed: round 3 does not count" in (path / "log.txt").read_text()


@pytest.mark.slow
def test_the_report_of_a_failed_run_has_the_reasons_first(
    tmp_path: Path, fault: Callable[..., None], reports: None
) -> None:
    fault(3, 0, 1, 2)
    with pytest.raises(RoundFailedError):
        run(tmp_path, 4)
    (said,) = read_runs(tmp_path)
    page = (said.path / "report.html").read_text()
    places = ["round 3 does not count", ">Failures</h2>", "Why replies were left out"]
    found = [page.index(words) for words in (*places, ">Results</h2>")]
    assert found == sorted(found)
    assert page.count(">Failures</h2>") == 1


def test_a_server_that_breaks_leaves_where_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_(self: Adding, arrays: Any) -> dict[str, dict[str, float]]:
        raise RuntimeError("no such metric")

    monkeypatch.setattr(Adding, "evaluate_centrally", break_)
    with pytest.raises(RuntimeError, match="no such metric"):
        run(tmp_path)
    (said,) = read_runs(tmp_path)
    assert (said.status, said.reason) == ("failed", "no such metric")
    log = (said.path / "log.txt").read_text()
    assert log.count("Traceback") == 1
    assert ", in break_\n" in log


def test_a_client_that_refuses_the_roll_call_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(client: int, number: int) -> None:
        if client == 1 and number == 0:
            raise InputError("other weights")

    monkeypatch.setattr(Adding, "fault", staticmethod(refuse))
    path = run(tmp_path, 3, num_server_rounds=1)
    assert [row["client"] for row in read_csv(path / "partitions.csv")] == ["0", "2"]
    assert info(path)["num_clients"] == 2
    assert "client 1: other weights" in caplog.text
    (row,) = read_csv(path / "failures.csv")
    assert row["client"].startswith("node ")
    assert (row["round"], row["phase"], row["reason"]) == ("0", "query", "client 1: other weights")
