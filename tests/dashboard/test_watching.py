"""Reading a run directory only when there is something new in it."""

import json
import os
import time
from collections import Counter
from datetime import UTC, datetime, tzinfo
from pathlib import Path

import pytest
from toys import write_run

from celeba_fl.dashboard import watching
from celeba_fl.report.reading import Run
from celeba_fl.runs import reading
from celeba_fl.runs.reading import STALE_SECONDS, RunInfo

ROUNDS = "round,valid_loss\n0,0.7\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    info = {"status": "running", "config": {"num-server-rounds": 9}}
    return write_run(tmp_path / "run", info=info, csv={"rounds": ROUNDS})


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often directories are read: as a whole, or `run.json` and what belongs to it."""
    counted: Counter[str] = Counter()
    read_run, read = reading.read_run, Run.read

    def count_run(path: Path) -> RunInfo:
        counted["run"] += 1
        return read_run(path)

    def count_all(path: Path, whole: bool = True) -> Run:
        counted["whole" if whole else "course"] += 1
        return read(path, whole)

    monkeypatch.setattr(watching, "read_run", count_run)
    monkeypatch.setattr(Run, "read", count_all)
    return counted


def beat(path: Path) -> None:
    """What the heartbeat of a run does."""
    info = json.loads((path / "run.json").read_text())
    info["updated"] = datetime.now(UTC).isoformat()
    (path / "new.json").write_text(json.dumps(info))
    os.replace(path / "new.json", path / "run.json")


def test_what_has_not_changed_is_not_read_again(path: Path, reads: Counter[str]) -> None:
    for _ in range(3):
        assert watching.watch(path).last_round == 0
        assert watching.watch(path, whole=False).last_round == 0
        assert watching.look(path).status == "running"
    assert reads == {"run": 1, "whole": 1, "course": 1}


def test_a_heartbeat_costs_no_more_than_its_file(path: Path, reads: Counter[str]) -> None:
    before = watching.version(path)
    watching.watch(path)
    beat(path)
    assert watching.version(path) == before
    watching.watch(path)
    assert reads == {"run": 2, "whole": 1}


@pytest.mark.parametrize("whole", [True, False])
def test_a_new_round_is_there_at_once(path: Path, whole: bool) -> None:
    before = watching.version(path)
    assert watching.watch(path, whole).last_round == 0
    with (path / "rounds.csv").open("a") as file:
        file.write("1,0.6\n")
    assert watching.version(path) != before
    assert watching.watch(path, whole).last_round == 1
    assert watching.look(path).rounds == 1


def test_what_is_old_is_not_kept_and_any_number_of_runs_is(
    tmp_path: Path, reads: Counter[str]
) -> None:
    paths = [write_run(tmp_path / str(number), csv={"rounds": ROUNDS}) for number in range(1100)]
    for _ in range(2):
        for path in paths:
            watching.watch(path, whole=False)
    assert reads == {"run": 1100, "course": 1100}


def test_a_new_grid_of_images_is_new(path: Path) -> None:
    (path / "samples").mkdir()
    before = watching.version(path)
    (path / "samples" / "round-0001.png").touch()
    assert watching.version(path) != before


def test_silence_shows_though_no_file_changes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = watching.version(path)
    info = json.loads((path / "run.json").read_text())
    long_ago = time.time() - STALE_SECONDS + 30
    info["updated"] = datetime.fromtimestamp(long_ago, UTC).isoformat()
    (path / "run.json").write_text(json.dumps(info))
    os.utime(path / "run.json", (long_ago, long_ago))
    assert watching.look(path).status == "running"

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Later":
            return cls.fromtimestamp(later, UTC)

    later = time.time() + 40
    monkeypatch.setattr(time, "time", lambda: later)
    monkeypatch.setattr("celeba_fl.runs.reading.datetime", Later)
    assert watching.look(path).status == "interrupted"
    assert watching.version(path) != before


@pytest.mark.parametrize("info", [{"config": 3, "summary": [1]}, {"dataset": "x", "status": 5}])
def test_objects_are_objects(tmp_path: Path, info: dict[str, object]) -> None:
    said = watching.look(write_run(tmp_path / "run", info=info))
    assert (said.config, said.summary, said.dataset) == ({}, {}, {})
    assert isinstance(said.status, str)


def test_directories_are_listed_whatever_is_in_them(tmp_path: Path) -> None:
    assert watching.directories(tmp_path / "none") == []
    for name in ("b", "a", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "c").touch()
    assert [path.name for path in watching.directories(tmp_path)] == ["b", "a"]
