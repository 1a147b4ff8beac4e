"""The app that commands are about, and keys that a task from outside brings."""

import json
import re
import sys
from pathlib import Path

import pytest
from adding import run as run_adding
from adding import settings

from celeba_fl.common.bundle import PYPROJECT
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.launch.app import FlowerApp, app_here
from celeba_fl.launch.experiments import absolute_paths
from celeba_fl.report.comparison import name_runs, write_comparison
from celeba_fl.report.page import write_report
from celeba_fl.runs.reading import config_of, find_run
from celeba_fl.studies.sweep import run_sweep
from celeba_fl.task import load_task

OWN = """
[project]
name = "mine"
version = "1.0.0"
dependencies = ["celeba_fl>=1", "numpy"]

[tool.flwr.app.config]
task = "own_keys:Scaled"
scale = 2.0
seed = 5
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an app of someone's own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "pyproject.toml").write_text(OWN)
    return tmp_path


def test_an_app_of_ones_own_is_used_in_its_folder(own: Path) -> None:
    app = app_here()
    assert app.folder == own
    assert sys.path[0] == str(own)
    config = app.load({"table-file": "rows.csv"}).to_dict()
    assert {key: config[key] for key in ("scale", "seed", "table-file", "num-server-rounds")} == {
        "scale": 2.0,
        "seed": 5,
        "table-file": "rows.csv",
        "num-server-rounds": 10,
    }


@pytest.mark.parametrize("text", ["", "[tool.flwr.app]\n", OWN.replace("a_fl", "a-fl-more")])
def test_elsewhere_it_is_ours(own: Path, text: str) -> None:
    (own / "pyproject.toml").write_text(text)
    app = app_here()
    assert app.folder == PYPROJECT.parent
    assert dict(app.config) == RunConfig.defaults()


def test_a_pyproject_that_is_not_toml_is_named(own: Path) -> None:
    (own / "pyproject.toml").write_text("[tool")
    with pytest.raises(InputError, match=r"pyproject\.toml: "):
        app_here()


def test_flower_is_told_of_keys_that_it_knows_alone(own: Path) -> None:
    app = app_here()
    told = app.submittable({"scale": 3.0, "seed": 42, "tau": 0.001, "init": "base-rates"})
    assert told == {"scale": 3.0, "seed": 42}
    with pytest.raises(InputError, match=r"^num-server-rounds, tau: .*pyproject\.toml; add it"):
        app.submittable({"scale": 3.0, "tau": 0.1, "num-server-rounds": 3})


def test_without_a_pyproject_there_is_nothing_to_submit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pyproject\.toml is not there, .*--inline"):
        FlowerApp(tmp_path, {}).submittable({})


def test_a_strategy_that_does_not_exist_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"strategy = 'fedavgg': .*fedavgm"):
        app_here().load({"strategy": "fedavgg"})
    with pytest.raises(InputError, match="strategy = 'fedavgg'"):
        run_sweep({"task": "adding:Adding"}, {"strategy": ["fedavg", "fedavgg"]}, 2, tmp_path)
    assert not list(tmp_path.iterdir())


def test_places_are_those_of_the_app(own: Path) -> None:
    (own / "pyproject.toml").write_text(OWN + "results-dir = '/srv/runs'\n")
    assert app_here().places().runs_dir == Path("/srv/runs")


# ---- keys of a task's own -----------------------------------------------------------------


def test_keys_of_ones_own_are_checked_by_their_task() -> None:
    own = {"task": "own_keys:Scaled"}
    assert load_task(RunConfig.load({**own, "scale": 3})).config.to_dict()["scale"] == 3.0
    with pytest.raises(InputError, match=r"^scale = 0\.0: must be above 0 \(factor of what"):
        RunConfig.load({**own, "scale": 0})
    with pytest.raises(InputError, match=r"unknown run-config key 'scales'.*did you mean 'scale'"):
        RunConfig.load({**own, "scales": 3})
    with pytest.raises(InputError, match="unknown run-config key 'scale'"):
        RunConfig.load({"scale": 3.0})


def test_keys_of_a_task_that_cannot_be_imported() -> None:
    with pytest.raises(InputError, match="'scale' = 3: task = 'nowhere:Task' cannot be imported"):
        RunConfig.load({"task": "nowhere:Task", "scale": 3})


def test_a_path_of_ones_own_is_made_absolute(own: Path) -> None:
    (own / "rows.csv").touch()
    keys = RunConfig.load({"task": "own_keys:Scaled"}).keys()
    assert absolute_paths({"table-file": "rows.csv"}, keys) == {"table-file": str(own / "rows.csv")}
    assert absolute_paths({"table-file": "none"}, keys) == {}


def test_keys_of_ones_own_are_recorded_explained_and_resumed(tmp_path: Path) -> None:
    path = run_adding(tmp_path, task="own_keys:Scaled", scale=3.0, num_server_rounds=1)
    info = json.loads((path / "run.json").read_text())
    assert info["config"]["scale"] == 3.0
    assert info["own_keys"]["scale"] == {"default": 1.0, "meaning": "factor of what a client adds"}
    assert config_of(find_run(str(path), tmp_path)).to_dict()["scale"] == 3.0
    page = write_report(path).read_text()
    assert "factor of what a client adds" in page
    assert "file of rows to add" in page

    keys = {"task": "own_keys:Scaled", "resume": str(path), "num_server_rounds": 2}
    with pytest.raises(InputError, match=r"scale was 3\.0 and is 1\.0"):
        run_adding(tmp_path, **keys)
    assert run_adding(tmp_path, **keys, scale=3.0) == path


def test_keys_of_ones_own_are_swept(tmp_path: Path) -> None:
    fixed = settings(tmp_path, task="own_keys:Scaled", num_server_rounds=1)
    done = run_sweep(fixed, {"scale": [1.0, 2.0]}, 2, tmp_path / "sweep", "valid_score")
    assert [setting.values for setting in done.settings] == [{"scale": 2.0}, {"scale": 1.0}]


def test_keys_of_ones_own_are_compared(tmp_path: Path) -> None:
    keys = {"task": "own_keys:Scaled", "num_server_rounds": 1}
    paths = [run_adding(tmp_path / str(scale), **keys, scale=scale) for scale in (1.0, 2.0)]
    page = write_comparison(name_runs(paths), tmp_path / "comparison.html").read_text()
    assert re.search(r">scale<.{0,200}>1\.0<.{0,200}>2\.0<", page, re.DOTALL)
