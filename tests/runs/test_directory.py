"""The run directory as a run writes it."""

import errno
import json
import math
import os
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from adding import settings
from directories import ROW, finished, info, interrupted, open_run
from filelock import FileLock, Timeout
from safetensors import safe_open

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.rounds.exchange import PhaseProgress
from celeba_fl.runs import directory
from celeba_fl.runs.directory import RunDirectory
from celeba_fl.runs.tables import read_csv

# ---- run.json -----------------------------------------------------------------------------


def test_a_new_run_says_what_it_is(tmp_path: Path) -> None:
    with open_run(tmp_path / "deep" / "runs", 7, seed=5) as run:
        said = info(run)

    assert run.path.parent == tmp_path / "deep" / "runs"
    started = datetime.fromisoformat(said["started"])
    assert run.path.name == f"{started:%Y-%m-%d_%H-%M-%S}_7"
    assert (said["status"], said["reason"], said["finished"]) == ("running", "", None)
    assert said["config"] == RunConfig.load(settings(tmp_path / "deep" / "runs", seed=5)).to_dict()
    assert (said["seed"], said["flwr_run_ids"]) == (5, [7])
    assert said["packages"]["torch"]
    assert said["code"]["sha256"]


def test_its_path_is_the_first_and_the_last_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "flwr.celeba_fl")
    path = finished(tmp_path)
    lines = [r.getMessage() for r in caplog.records if r.name == "flwr.celeba_fl"]
    assert lines[0] == lines[-1] == f"Run directory: {path}"
    assert path.is_absolute()


@pytest.mark.parametrize(("reason", "status"), [("", "completed"), ("target: ...", "stopped")])
def test_how_a_run_ended(tmp_path: Path, reason: str, status: str) -> None:
    said = info(finished(tmp_path, reason))
    assert (said["status"], said["reason"]) == (status, reason)
    assert said["started"] <= said["finished"] <= said["updated"]
    assert said["seconds"] >= 0


def test_seconds_end_when_the_run_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with the report, during which the heart would write on."""
    monkeypatch.setattr("celeba_fl.runs.directory.HEARTBEAT_SECONDS", 0.01)
    with open_run(tmp_path) as run:
        run.end("")
        at_the_end = info(run)
        time.sleep(0.1)
    assert info(run) == at_the_end


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no power"), "no power"),
        (KeyboardInterrupt(), "it was ended by Ctrl-C"),
        (ValueError("no " + os.fsdecode(b"f\xe4ce.jpg")), "no f\\udce4ce.jpg"),
        (InputError("half of a character: \ud83d"), "half of a character: \\ud83d"),
    ],
)
def test_a_run_that_fails_says_why(tmp_path: Path, error: BaseException, reason: str) -> None:
    with pytest.raises(type(error)), open_run(tmp_path) as run:
        raise error
    said = info(run)
    assert (said["status"], said["reason"]) == ("failed", reason)
    assert said["finished"] is not None


def test_a_run_that_lives_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "HEARTBEAT_SECONDS", 0.01)
    beaten = threading.Event()
    with open_run(tmp_path) as run:
        first, update = info(run)["updated"], run.update

        def noted(**values: Any) -> None:
            update(**values)
            beaten.set()

        monkeypatch.setattr(run, "update", noted)
        assert beaten.wait(240)
        assert info(run)["updated"] >= first
        assert info(run)["seconds"] > 0
    assert "run-heartbeat" not in [thread.name for thread in threading.enumerate()]


def full_disk(path: Path, *args: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_a_run_lives_on_when_the_disk_is_full_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(directory, "HEARTBEAT_SECONDS", 0.01)
    with open_run(tmp_path) as run:
        with monkeypatch.context() as full:
            full.setattr(directory, "write_json", full_disk)
            run.progress(PhaseProgress(1, "train", 3, 1, 0, 0.0))
            while "run.json" not in caplog.text:
                time.sleep(0.01)
        assert "progress.json" in caplog.text
        before = info(run)["updated"]
        deadline = time.monotonic() + 240
        while info(run)["updated"] == before:
            assert time.monotonic() < deadline, "the heart has stopped"
            time.sleep(0.01)
        run.end("")
    assert info(run)["status"] == "completed"


def test_what_comes_last_may_be_put_off_and_the_directory_is_held_until_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_off: list[Callable[[], None]] = []
    drawn: list[str] = []
    config = RunConfig.load({"results-dir": str(tmp_path)})
    with RunDirectory(
        config, 7, lambda of: drawn.append(info(of)["status"]), put_off.append
    ) as run:
        run.end("")
    assert drawn == []
    with pytest.raises(Timeout):
        FileLock(run.path / ".lock", timeout=0).acquire()
    assert caplog.messages.count(f"Run directory: {run.path}") == 1
    (last,) = put_off
    thread = Thread(target=last)
    thread.start()
    thread.join()
    assert drawn == ["completed"]
    FileLock(run.path / ".lock", timeout=0).acquire().lock.release()
    assert caplog.messages.count(f"Run directory: {run.path}") == 2


def test_a_run_that_fails_on_a_full_disk_says_so_and_lets_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="no power"), open_run(tmp_path) as run:  # noqa: PT012
        monkeypatch.setattr(directory, "write_json", full_disk)
        raise ValueError("no power")
    FileLock(run.path / ".lock", timeout=0).acquire().lock.release()


@pytest.mark.parametrize("at_fault", ["a file", "a link to nowhere"])
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, at_fault: str) -> None:
    folder = tmp_path / "runs"
    if at_fault == "a file":
        folder.write_text("no folder")
    else:
        folder.symlink_to(tmp_path / "nowhere" / "else")
    with pytest.raises(InputError, match=r"^results-dir = '.*runs': no run can be .*$"):
        open_run(folder)


def test_what_a_kill_has_half_written_is_removed(tmp_path: Path) -> None:
    path = interrupted(tmp_path)
    for name in (".run.json.ab1_d2xy", "checkpoints/.round-0003.safetensors.abcd1234"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"half")
    with open_run(tmp_path, resume="latest"):
        pass
    assert sorted(file.name for file in path.rglob(".*")) == [".lock"]


# ---- files --------------------------------------------------------------------------------


def test_rows_are_added_below_one_header(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        for number in range(3):
            run.append("rounds.csv", [{**ROW, "round": number}])
    assert (run.path / "rounds.csv").read_text() == "round,loss\n0,0.5\n1,0.5\n2,0.5\n"


def test_a_file_of_an_earlier_version_gets_the_columns_that_it_lacks(tmp_path: Path) -> None:
    """Rows are never written under the names of other columns."""
    with open_run(tmp_path) as run:
        (run.path / "rounds.csv").write_text("round,accuracy,gone\n0,0.5,7\n")
        run.append("rounds.csv", [{"round": 1, "loss": 0.3, "accuracy": 0.6}])
        run.append("rounds.csv", [{"round": 2, "loss": 0.2, "accuracy": 0.7}])
        text = (run.path / "rounds.csv").read_text()
    assert text == "round,loss,accuracy,gone\n0,,0.5,7\n1,0.3,0.6,\n2,0.2,0.7,\n"


def test_no_rows_make_no_header(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.append("clients.csv", [])
        run.append("clients.csv", [ROW])
        run.append("clients.csv", [])
    assert (run.path / "clients.csv").read_text() == "round,loss\n0,0.5\n"


def test_the_summary_has_null_for_what_is_undefined(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write_summary({"auroc": math.nan, "loss": np.float64(0.5), "n": np.int64(3)})
    assert json.loads((run.path / "summary.json").read_text()) == {
        "auroc": None,
        "loss": 0.5,
        "n": 3,
    }


def test_progress(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.progress(PhaseProgress(3, "train", 50, 20, 1, 1e9))
    assert json.loads((run.path / "progress.json").read_text()) == {
        "round": 3, "phase": "train", "asked": 50, "replied": 20, "failed": 1, "since": 1e9
    }  # fmt: skip
    with open_run(tmp_path) as run:
        run.progress(PhaseProgress(3, "train", 5, 2, 1, 1e9, under_way=12))
    assert json.loads((run.path / "progress.json").read_text())["under_way"] == 12


def test_the_model_and_what_it_needs(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write_model("model", {"w": np.float32([1, 2])}, {"image-size": "96"})
    with safe_open(run.path / "model.safetensors", "numpy") as file:
        assert file.get_tensor("w").tolist() == [1, 2]
        assert file.metadata() == {"image-size": "96"}


@pytest.mark.parametrize(("first", "kept"), [(0, None), (1, "0"), (3, "012"), (9, "0123")])
def test_what_rounds_to_be_done_again_have_left_is_cut(
    tmp_path: Path, first: int, kept: str | None
) -> None:
    with open_run(tmp_path) as run:
        for number in range(4):
            run.append("rounds.csv", [{**ROW, "round": number}])
            run.append("clients.csv", [{"round": number, "client": c} for c in "ab"])
            run.write_picture("samples", number, b"PNG")
        with (run.path / "rounds.csv").open("a") as file:
            file.write("4,0.")
        run.cut(first)
        pictures = sorted(path.name for path in (run.path / "samples").iterdir())
        assert pictures == [f"round-000{number}.png" for number in kept or ""]
        if kept is None:
            assert not (run.path / "rounds.csv").exists()
            assert not (run.path / "clients.csv").exists()
        else:
            assert [row["round"] for row in read_csv(run.path / "rounds.csv")] == list(kept)
            rows = [(row["round"], row["client"]) for row in read_csv(run.path / "clients.csv")]
            assert rows == [(number, client) for number in kept for client in "ab"]
        run.append("rounds.csv", [{**ROW, "round": 9}])
    assert read_csv(run.path / "rounds.csv")[-1] == {"round": "9", "loss": "0.5"}
