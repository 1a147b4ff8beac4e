"""The `celeba-fl` command in a folder and a home of its own."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from adding import settings
from fake_flwr import Flwr

from celeba_fl.cli import app
from celeba_fl.runs.reading import read_runs


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CELEBA_FL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The exit status of a command line."""

    def status(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["celeba-fl", *words])
        with pytest.raises(SystemExit) as ended:
            app.main()
        return int(ended.value.code or 0)

    return status


@pytest.fixture
def experiment(tmp_path: Path) -> str:
    """A file with an experiment of 2 rounds."""
    path = tmp_path / "adding.toml"
    path.write_text(tomli_w.dumps({**settings(tmp_path / "runs"), "num-server-rounds": 2}))
    return str(path)


@pytest.fixture
def flwr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flwr:
    (tmp_path / "bin").mkdir()
    fake = Flwr(tmp_path / "bin")
    # Flower's commands are those beside this Python, whatever the PATH is.
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.delenv("PATH")
    fake.says()
    return fake


@pytest.fixture
def run_here(call: Callable[..., int], toy: dict[str, Any], tmp_path: Path) -> Path:
    """A run of the main task with 2 clients, in the results directory."""
    keys = {key: value for key, value in toy.items() if key != "num-server-rounds"}
    (tmp_path / "toy.toml").write_text(tomli_w.dumps({**keys, "num-server-rounds": 1}))
    (tmp_path / "two.toml").write_text("num-supernodes = 2\n")
    assert call("run", "toy.toml", "--inline", "--federation", "two.toml") == 0
    return Path(read_runs(tmp_path / "home" / "runs")[0].path)
