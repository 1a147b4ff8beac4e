"""`celeba-fl new` and `celeba-fl keys`."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import tomli

from celeba_fl.cli.apps import TEMPLATE, key_table
from celeba_fl.config import RunConfig
from celeba_fl.launch.experiments import EXPERIMENTS
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.task import load_task

Call = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def mine(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a new app, which is the current one."""
    assert call("new", "mine") == 0
    monkeypatch.chdir(tmp_path / "mine")
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path / "mine"
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def test_a_new_app_has_what_flower_and_people_need(mine: Path) -> None:
    files = {str(path.relative_to(mine)) for path in mine.rglob("*") if path.is_file()}
    assert files == {
        *(".gitignore", "README.md", "pyproject.toml", "tests/test_task.py"),
        *(f"mine/{name}.py" for name in ("__init__", "client_app", "server_app", "task")),
    }
    assert not [path for path in mine.rglob("*.*") if "my_app" in path.read_text()]


def test_a_new_app_runs_with_keys_and_a_table_of_its_own(
    mine: Path, call: Call, tmp_path: Path
) -> None:
    (tmp_path / "two.toml").write_text("num-supernodes = 2\n")
    words = ["inputs=3", "num-server-rounds=2", "--inline", "--federation", "../two.toml"]
    assert call("run", ".", *words) == 0
    (run,) = read_runs(tmp_path / "home" / "runs")
    settings = run.config["inputs"], run.config["noise"]
    assert (run.status, *settings) == ("completed", 3, 0.5)
    assert set(run.own_keys) == {"inputs", "noise"}
    assert run.summary["test_accuracy"] > 0.8
    assert len(read_csv(run.path / "weights.csv")) == 3


def test_its_wrong_keys_are_refused_before_anything_starts(
    mine: Path, call: Call, capsys: Capture
) -> None:
    for word, message in (
        ("inputs=0", "inputs = 0: must be at least 1 (number of measurements"),
        ("inptus=3", "did you mean 'inputs'?"),
        ("dropout=0.5", "dropout = 0.5: not read by the task mine.task:MyTask"),
    ):
        assert call("run", ".", word) == 2
        assert message in capsys.readouterr().err


def test_all_keys_that_a_new_task_reads_can_be_set_with_flwr_run(mine: Path) -> None:
    written = tomli.loads((mine / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    sys.path.insert(0, str(mine))
    task = load_task(RunConfig.load(written))
    read = {
        key
        for key, rules in task.config.keys().items()
        if not rules.of or key in task.reads or key in task.config.own_keys()
    }
    assert set(written) == read
    values = task.config.to_dict()
    changed = {key for key in written if values[key] != task.config.defaults()[key]}
    assert changed == {"task", "learning-rate"}


@pytest.mark.parametrize("name", ["my-app", "1app", "class", "a/b", "", "celeba_fl", "tests"])
def test_a_name_that_python_could_not_import_is_refused(
    call: Call, capsys: Capture, name: str
) -> None:
    assert call("new", name) == 2
    assert f"celeba-fl: NAME = {name!r}: must be a name" in capsys.readouterr().err


def test_a_folder_that_is_there_is_left_alone(call: Call, capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert call("new", "mine") == 2
    assert f"{tmp_path / 'mine'} exists already" in capsys.readouterr().err
    assert not list((tmp_path / "mine").iterdir())


def test_flowers_bundles_carry_the_whole_template() -> None:
    files = [path for path in TEMPLATE.rglob("*.*") if "__pycache__" not in path.parts]
    assert {path.suffix for path in files} == {".py", ".toml", ".md"}
    assert not [path for path in files if path.name.startswith("test_")]


# ---- keys ---------------------------------------------------------------------------------


def test_keys_of_the_app(call: Call, capsys: Capture) -> None:
    assert call("keys") == 0
    printed = capsys.readouterr().out
    assert printed == key_table(RunConfig) + "\n"
    assert (
        "| `feature-maps` | a whole number, at least 1 | `64` | width of both networks; 64 in the "
        "paper | dcgan |\n"
    ) in printed
    assert "| `class-weights` | true or false | `false` |" in printed
    assert "| `seed` | a whole number, at least 0 | `42` |" in printed
    assert call("keys", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["seed"] == {**asdict(RunConfig.keys()["seed"]), "choices": [], "words": []}
    assert told.keys() == RunConfig.keys().keys()


def test_keys_of_an_app_of_ones_own(mine: Path, call: Call, capsys: Capture) -> None:
    capsys.readouterr()
    assert call("keys") == 0
    own = [row for row in capsys.readouterr().out.splitlines() if row.endswith("| this app |")]
    assert [row.split("|")[1].strip() for row in own] == ["`inputs`", "`noise`"]


def test_the_readme_has_all_keys() -> None:
    """After a change: celeba-fl keys, and put its table into the README."""
    assert key_table(RunConfig) in (EXPERIMENTS / "README.md").read_text()
