"""Runs that are killed at any write, and go on."""

import os
import random
from pathlib import Path
from typing import Any

import pytest
from adding import info, outcome, run
from filelock import FileLock

from celeba_fl.runs import directory
from celeba_fl.runs.directory import RunDirectory
from celeba_fl.runs.reading import read_runs


class Killed(BaseException):
    """The process is gone: no `except Exception` hears of it, and nothing is written after it."""


class Killer:
    """Lets this process write some files and then none; the last one is left half written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 10**9
        self.locks: list[FileLock] = []
        replace, unlink, append = os.replace, Path.unlink, RunDirectory.append

        def lock(*args: Any, **options: Any) -> FileLock:
            self.locks.append(FileLock(*args, **options))
            return self.locks[-1]

        def killed_replace(source: Any, target: Any) -> None:
            if self.dies():
                if self.left == -1:
                    os.truncate(source, os.path.getsize(source) // 2)
                raise Killed
            replace(source, target)

        def killed_unlink(path: Path, missing_ok: bool = False) -> None:
            if self.dies():
                raise Killed
            unlink(path, missing_ok)

        def killed_append(self_: RunDirectory, name: str, rows: Any) -> None:
            path = self_.path / name
            before = path.stat().st_size if path.exists() else 0
            dies = self.dies()
            if not dies or self.left == -1:
                append(self_, name, rows)
            if dies and self.left == -1:
                os.truncate(path, (before + path.stat().st_size) // 2)
            if dies:
                raise Killed

        monkeypatch.setattr(directory, "FileLock", lock)
        monkeypatch.setattr(os, "replace", killed_replace)
        monkeypatch.setattr(Path, "unlink", killed_unlink)
        monkeypatch.setattr(RunDirectory, "append", killed_append)

    def dies(self) -> bool:
        self.left -= 1
        return self.left < 0

    def run(self, writes: int, *args: Any, **keys: Any) -> bool:
        """Run with so many writes; whether it was killed."""
        self.left = writes
        try:
            run(*args, **keys)
            return False
        except Killed:
            return True
        finally:
            self.left = 10**9
            for lock in self.locks:  # as the system does
                lock.release(force=True)


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    return Killer(monkeypatch)


def has_run(folder: Path) -> bool:
    return bool(list(folder.glob("*/run.json")))


ASYNCHRONOUS = {"scheduler": "asynchronous", "client_seconds": "1, 1=1.5, 2=4"}


def test_a_run_killed_at_any_write_resumes(tmp_path: Path, killer: Killer) -> None:
    keys = {"num_server_rounds": 2, "strategy": "fedavgm", "keep_checkpoints": 1}
    expected = outcome(run(tmp_path / "whole", **keys))
    writes = 0
    while killer.run(writes, folder := tmp_path / str(writes), **keys):
        writes += 1
        if has_run(folder):
            path = run(folder, resume="latest", **keys)
            assert outcome(path) == expected, f"killed at write {writes}"
            assert info(path)["status"] == "completed"
        if writes == 500:
            pytest.fail("does not end")
    assert writes > 20


@pytest.mark.parametrize("own", [{"strategy": "fedadam"}, ASYNCHRONOUS])
def test_a_run_killed_again_and_again_completes(
    tmp_path: Path, killer: Killer, own: dict[str, Any]
) -> None:
    keys = {"num_server_rounds": 6, **own}
    expected = outcome(run(tmp_path / "whole", **keys))
    chance = random.Random(0)
    kills = 0
    while killer.run(
        chance.randint(10, 28),
        tmp_path / "killed",
        resume="latest" if has_run(tmp_path / "killed") else "",
        **keys,
    ):
        kills += 1
        if kills == 100:
            pytest.fail("does not end")
    (said,) = read_runs(tmp_path / "killed")
    assert kills > 3
    assert outcome(said.path) == expected
