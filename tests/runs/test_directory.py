"""The run directory: what is written, what is refused, what is read."""

import contextlib
import json
import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import record, settings
from flwr.serverapp.strategy import FedAvg
from pyarrow import parquet
from safetensors import safe_open

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.rounds.checkpoints import Checkpoints
from celeba_fl.rounds.exchange import PhaseProgress
from celeba_fl.runs import directory, reading
from celeba_fl.runs.directory import RunDirectory
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv

ROW = {"round": 0, "loss": 0.5}


def open_run(folder: Path, number: int = 7, **keys: Any) -> RunDirectory:
    return RunDirectory(RunConfig.load(settings(folder, **keys)), number)


def info(run: RunDirectory | Path) -> dict[str, Any]:
    path = run if isinstance(run, Path) else run.path
    return dict(json.loads((path / "run.json").read_text()))


def finished(folder: Path, reason: str = "", **keys: Any) -> Path:
    with open_run(folder, **keys) as run:
        run.end(reason)
    return run.path


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


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ValueError("no power"), "no power"), (KeyboardInterrupt(), "KeyboardInterrupt()")],
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
        assert beaten.wait(30)
        assert info(run)["updated"] >= first
        assert info(run)["seconds"] > 0
    assert "run-heartbeat" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize(
    ("status", "seconds", "shown"),
    [
        ("running", reading.STALE_SECONDS / 2, "running"),
        ("running", reading.STALE_SECONDS * 2, "interrupted"),
        ("completed", reading.STALE_SECONDS * 2, "completed"),
        ("failed", reading.STALE_SECONDS * 2, "failed"),
    ],
)
def test_a_run_without_signs_of_life_is_interrupted(
    tmp_path: Path, status: str, seconds: float, shown: str
) -> None:
    path = finished(tmp_path)
    updated = datetime.now(UTC) - timedelta(seconds=seconds)
    said = info(path) | {"status": status, "updated": updated.isoformat()}
    (path / "run.json").write_text(json.dumps(said))
    (run,) = read_runs(tmp_path)
    assert run["status"] == shown


# ---- files --------------------------------------------------------------------------------


def test_rows_are_added_below_one_header(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        for number in range(3):
            run.append("rounds.csv", [{**ROW, "round": number}])
    assert (run.path / "rounds.csv").read_text() == "round,loss\n0,0.5\n1,0.5\n2,0.5\n"


def test_no_rows_make_no_header(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.append("clients.csv", [])
        run.append("clients.csv", [ROW])
        run.append("clients.csv", [])
    assert (run.path / "clients.csv").read_text() == "round,loss\n0,0.5\n"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (math.nan, ""),
        (np.float64("nan"), ""),
        (None, ""),
        (0, "0"),
        (0.0, "0.0"),
        (1 / 3, "0.3333333333333333"),
        (np.float64(1e-9), "1e-09"),
        (np.int64(5), "5"),
        ("Male=1,Young=0", '"Male=1,Young=0"'),
    ],
)
def test_cells(tmp_path: Path, value: Any, cell: str) -> None:
    with open_run(tmp_path) as run:
        run.write_csv("a.csv", [{"a": value, "b": 1}])
    assert (run.path / "a.csv").read_text() == f"a,b\n{cell},1\n"


def test_floats_come_back_to_the_last_digit(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=100)
    with open_run(tmp_path) as run:
        run.write_csv("a.csv", [{"a": number} for number in numbers])
    assert [float(row["a"]) for row in read_csv(run.path / "a.csv")] == numbers.tolist()


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


def test_the_model_and_what_it_needs(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write_model("model", {"w": np.float32([1, 2])}, {"image-size": "96"})
    with safe_open(run.path / "model.safetensors", "numpy") as file:
        assert file.get_tensor("w").tolist() == [1, 2]
        assert file.metadata() == {"image-size": "96"}


def test_parquet(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write_parquet("a.parquet", {"image": np.array(["x.jpg"]), "score": np.array([0.5])})
    table = parquet.read_table(run.path / "a.parquet")
    assert table.to_pylist() == [{"image": "x.jpg", "score": 0.5}]


@pytest.mark.parametrize(
    ("text", "rounds"),
    [("", []), ("round,lo", []), ("round,loss\n", []), ("round,loss\n0,0.5\n1,0.", ["0"])],
)
def test_a_row_that_was_cut_off_is_left_out(tmp_path: Path, text: str, rounds: list[str]) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert [row["round"] for row in read_csv(tmp_path / "a.csv")] == rounds
    assert read_csv(tmp_path / "none.csv") == []


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


# ---- resume -------------------------------------------------------------------------------


def interrupted(folder: Path, **keys: Any) -> Path:
    """A run that failed."""
    with contextlib.suppress(RuntimeError), open_run(folder, **keys) as run:
        run.set_provenance({"dataset": {"name": "faces", "fingerprint": "a"}})
        run.set_partitions([{"client": c, "num_examples": 4, "Male=1": 2} for c in "ab"])
        raise RuntimeError("no power")
    return run.path


@pytest.mark.parametrize("resume", ["latest", "path"])
def test_resume_goes_on_in_the_same_directory(tmp_path: Path, resume: str) -> None:
    path = interrupted(tmp_path)
    before = info(path)
    with open_run(tmp_path, 8, resume=str(path) if resume == "path" else resume) as run:
        assert run.path == path
        said = info(run)
        assert (said["status"], said["reason"], said["finished"]) == ("running", "", None)
        assert said["flwr_run_ids"] == [7, 8]
        assert said["started"] == before["started"]
        assert said["num_clients"] == 2
        run.end("")
    assert info(path)["status"] == "completed"
    assert info(path)["seconds"] >= before["seconds"]


def test_seconds_add_up(tmp_path: Path) -> None:
    path = interrupted(tmp_path)
    (path / "run.json").write_text(json.dumps(info(path) | {"seconds": 500.0}))
    with open_run(tmp_path, resume="latest") as run:
        assert run.seconds >= 500


def test_latest_is_the_newest(tmp_path: Path) -> None:
    newer = tmp_path / "2999-01-01_00-00-00_1"
    interrupted(tmp_path).rename(tmp_path / "2000-01-01_00-00-00_9")
    interrupted(tmp_path).rename(newer)
    (tmp_path / "2999-12-31_00-00-00_2").mkdir()  # killed before its first file
    with open_run(tmp_path, resume="latest") as run:
        assert run.path == newer


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="resume = 'latest': there is no run in"):
        open_run(tmp_path, resume="latest")
    with pytest.raises(InputError, match="is no run directory"):
        open_run(tmp_path, resume=str(tmp_path / "other"))


@pytest.mark.parametrize(
    "changed", [{"seed": 1}, {"learning_rate": 0.5}, {"strategy": "fedadam"}, {"watch": "loss"}]
)
def test_a_changed_key_is_refused_by_name(tmp_path: Path, changed: dict[str, Any]) -> None:
    path = interrupted(tmp_path)
    before = info(path)
    ((key, value),) = changed.items()
    with pytest.raises(InputError) as caught:
        open_run(tmp_path, resume="latest", **changed)
    name = key.replace("_", "-")
    assert f"{name} was {before['config'][name]!r} and is {value!r}" in str(caught.value)
    assert "Only num-server-rounds, target, patience, max-seconds may change" in str(caught.value)
    assert info(path) == before


def test_all_changed_keys_are_named(tmp_path: Path) -> None:
    interrupted(tmp_path)
    with pytest.raises(InputError, match=r"seed was 42 and is 1; tau was 0\.001 and is 0\.5"):
        open_run(tmp_path, resume="latest", seed=1, tau=0.5)


def test_a_key_newer_than_the_run_had_its_default(tmp_path: Path) -> None:
    path = interrupted(tmp_path)
    said = info(path)
    del said["config"]["clients"]
    (path / "run.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match="clients was '' and is '0,1'"):
        open_run(tmp_path, resume="latest", clients="0,1")
    with open_run(tmp_path, resume="latest") as run:
        assert info(run)["config"]["clients"] == ""


def test_rounds_and_stop_rules_may_change(tmp_path: Path) -> None:
    path = interrupted(tmp_path)
    new = {"num_server_rounds": 9, "target": 0.5, "patience": 3, "max_seconds": 60.0}
    with open_run(tmp_path, resume="latest", **new) as run:
        assert run.path == path
        assert info(run)["config"]["num-server-rounds"] == 9


def test_a_directory_has_one_writer(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        before = info(run)
        with pytest.raises(InputError, match=f"another run is writing {run.path}"):
            open_run(tmp_path, 8, resume=str(run.path))
        assert info(run)["flwr_run_ids"] == before["flwr_run_ids"] == [7]
        run.end("")
    with open_run(tmp_path, 8, resume=str(run.path), num_server_rounds=9):
        pass


@pytest.mark.parametrize(("rounds", "refused"), [(3, True), (4, True), (5, False)])
def test_a_completed_run_goes_on_only_for_more_rounds(
    tmp_path: Path, rounds: int, refused: bool
) -> None:
    path = finished(tmp_path, num_server_rounds=4)
    before = (path / "run.json").read_bytes()
    if refused:
        with pytest.raises(InputError, match="has done 4 rounds already; num-server-rounds = "):
            open_run(tmp_path, resume="latest", num_server_rounds=rounds, patience=3)
        assert (path / "run.json").read_bytes() == before
    else:
        with open_run(tmp_path, resume="latest", num_server_rounds=rounds) as run:
            assert run.path == path


@pytest.mark.parametrize(("rounds", "refused"), [(2, True), (3, False), (4, False)])
def test_rounds_that_are_done_cannot_be_undone(tmp_path: Path, rounds: int, refused: bool) -> None:
    path = interrupted(tmp_path)
    Checkpoints(path / "checkpoints").save(3, record({"w": 0.0}), FedAvg(), {})
    if refused:
        with pytest.raises(InputError, match="has done 3 rounds already; num-server-rounds = 2"):
            open_run(tmp_path, resume="latest", num_server_rounds=rounds)
    else:
        with open_run(tmp_path, resume="latest", num_server_rounds=rounds) as run:
            assert run.path == path


def test_a_stopped_run_goes_on_only_if_the_rule_has_changed(tmp_path: Path) -> None:
    path = finished(tmp_path, "target: enough", target=0.5)
    before = (path / "run.json").read_bytes()
    with pytest.raises(InputError, match=r"has stopped \(target: enough\); .* change the rule"):
        open_run(tmp_path, resume="latest", target=0.5)
    assert (path / "run.json").read_bytes() == before
    with open_run(tmp_path, resume="latest", target=0.6) as run:
        assert run.path == path


def test_other_data_are_refused(tmp_path: Path) -> None:
    interrupted(tmp_path)
    with open_run(tmp_path, resume="latest") as run:
        run.set_provenance({"dataset": {"name": "faces", "fingerprint": "a"}})
        with pytest.raises(InputError, match=r"resume: dataset was .*'a'.* and is .*'b'.* now"):
            run.set_provenance({"dataset": {"name": "faces", "fingerprint": "b"}})


@pytest.mark.parametrize("column", ["num_examples", "Male=1"])
def test_other_partitions_are_refused(tmp_path: Path, column: str) -> None:
    path = interrupted(tmp_path)
    rows: list[dict[str, Any]] = [{"client": c, "num_examples": 4, "Male=1": 2} for c in "ab"]
    with open_run(tmp_path, resume="latest") as run:
        run.set_partitions(rows)
        rows[1] = {**rows[1], column: 3}
        with pytest.raises(InputError, match=f"resume: {column} of client b was . and is 3 now"):
            run.set_partitions(rows)
    assert read_csv(path / "partitions.csv")[1]["num_examples"] == "4"


def test_an_unreadable_run_is_no_run_to_resume(tmp_path: Path) -> None:
    path = interrupted(tmp_path)
    (path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json cannot be read"):
        open_run(tmp_path, resume="latest")


# ---- reading ------------------------------------------------------------------------------


def test_runs_are_read_newest_first(tmp_path: Path) -> None:
    for year, rows in ((2001, 0), (2003, 1), (2002, 4)):
        with open_run(tmp_path) as run:
            run.append("rounds.csv", [{**ROW, "round": number} for number in range(rows)])
            run.write_summary({"test_auroc": 0.5})
            run.end("")
        run.path.rename(tmp_path / f"{year}-01-01_00-00-00_1")
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").touch()

    found = read_runs(tmp_path)

    assert [(run["path"].name[:4], run["rounds"]) for run in found] == [
        ("2003", 0), ("2002", 3), ("2001", 0)
    ]  # fmt: skip
    assert found[0]["summary"] == {"test_auroc": 0.5}
    assert found[0]["config"]["num-server-rounds"] == 4
    assert read_runs(tmp_path / "none") == []


def edit(name: str, text: str | bytes) -> Callable[[Path], object]:
    content = text if isinstance(text, bytes) else text.encode()
    return lambda path: (path / name).write_bytes(content)


def as_folder(path: Path) -> None:
    (path / "run.json").unlink()
    (path / "run.json").mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        edit("run.json", ""),
        edit("run.json", '{"status": '),
        edit("run.json", "[1]"),
        edit("run.json", "null"),
        edit("run.json", "{}"),
        edit("run.json", '{"status": "running", "updated": ""}'),
        edit("run.json", '{"status": "running", "updated": "2026-01-01"}'),
        edit("run.json", '{"status": "running", "updated": 5}'),
        edit("run.json", b"\xff\xfe"),
        edit("summary.json", "{"),
        edit("summary.json", "[]"),
        edit("rounds.csv", b"round\n\xff\n"),
        edit("rounds.csv", "round\n" + "1" * 200_000 + "\n"),
        as_folder,
    ],
)
def test_an_unreadable_run_is_shown_as_such(tmp_path: Path, damage: Any) -> None:
    path = finished(tmp_path)
    damage(path)
    (run,) = read_runs(tmp_path)
    assert (run["path"], run["status"]) == (path, "unreadable")
    assert run["reason"]


def test_one_unreadable_run_does_not_hide_the_others(tmp_path: Path) -> None:
    finished(tmp_path).rename(tmp_path / "a")
    finished(tmp_path).rename(tmp_path / "b")
    (tmp_path / "a" / "run.json").write_text("")
    assert [run["status"] for run in read_runs(tmp_path)] == ["completed", "unreadable"]
