"""Runs from Python: `run` and `load_run`, and the notebook of the room."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import tomli_w
from adding import settings
from nbclient import NotebookClient

import celeba_fl
from celeba_fl import load_run, run
from celeba_fl.common.bundle import PACKAGE
from celeba_fl.common.errors import InputError
from celeba_fl.inference.predict import load_model, predict_files

NOTEBOOK = PACKAGE / "notebook" / "first_run.ipynb"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELEBA_FL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def own(tmp_path: Path) -> str:
    """An experiment of sums in a file."""
    (tmp_path / "sums.toml").write_text(tomli_w.dumps(settings(tmp_path / "home" / "runs")))
    return "sums.toml"


def test_a_run_is_that_of_the_command_and_is_found_again(own: str, tmp_path: Path) -> None:
    made = run(own, nodes=3, num_server_rounds=2, note="by hand")
    assert (made.name, made.info.status, made.info.num_clients) == (
        "sums num-server-rounds=2", "completed", 3
    )  # fmt: skip
    assert (made.settings["num-server-rounds"], made.info.note) == (2, "by hand")
    assert repr(made) == "<sums num-server-rounds=2: completed>"
    assert list(made.rounds["round"]) == [0, 1, 2]
    assert made.rounds["valid_score"].dtype == float
    assert list(made.table("nodes")["client"]) == ["0", "1", "2"]  # names, not numbers
    assert {key: array.dtype for key, array in made.model().items()}
    for found in (
        load_run(),
        load_run("sums"),
        load_run(made.path),
        load_run("s", made.path.parent),
    ):
        assert found.path == made.path
    with pytest.raises(InputError, match=r"'nothing': .* has no such table, but .*'rounds'"):
        made.table("nothing")
    with pytest.raises(InputError, match="is neither a run directory nor"):
        load_run("other")


def test_a_run_is_resumed_by_its_name(own: str) -> None:
    first = run(own, nodes=2, num_server_rounds=1)
    more = run(own, nodes=2, num_server_rounds=2, resume="sums")
    assert (more.path, more.name, more.info.rounds) == (first.path, first.name, 2)


def test_what_is_refused_is_refused_before_anything_runs(own: str, tmp_path: Path) -> None:
    for keys, message in (
        ({"sede": 1}, "did you mean 'seed'"),
        ({"resume": "no"}, "resume = 'no': 'no' is neither"),
        ({"name": "a/b"}, "name = 'a/b': a run's name has"),
    ):
        with pytest.raises(InputError, match=message):
            run(own, nodes=2, **keys)
    assert not (tmp_path / "home" / "runs").exists()


def test_the_package_has_nothing_else() -> None:
    assert not hasattr(celeba_fl, "jump")


def test_importing_the_package_imports_nothing_of_it() -> None:
    """A client is a new process for every message."""
    code = "import sys, celeba_fl; print([m for m in sys.modules if m.startswith('celeba_fl.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_the_notebook(toy: dict[str, Any], tmp_path: Path) -> None:
    """With tiny images in the place of the drawn faces; what it predicts is what `predict` says."""
    keys = {key: value for key, value in toy.items() if key != "num-server-rounds"}
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(keys))
    text = NOTEBOOK.read_text(encoding="utf-8")
    for drawn, tiny in (
        ("drawn-iid", "tiny.toml"),
        ("Path(again.info.home)", "Path(again.settings['dataset'])"),
        ("drawn/img_align_celeba", "img_align_celeba"),
    ):
        assert drawn in text
        text = text.replace(drawn, tiny)
    notebook = nbformat.reads(text, 4)
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    shown = [
        one.data for cell in notebook.cells for one in cell.get("outputs", []) if "data" in one
    ]
    assert shown[0]["text/plain"] == "<a first look: completed>"
    assert "test_balanced_accuracy" in shown[1]["text/html"]
    assert "vega" in str(shown[2])
    assert "'tiny strategy=closed-form'" in shown[4]["text/plain"]
    again = load_run("a first")
    faces = sorted(Path(toy["dataset"], "img_align_celeba").glob("*.jpg"))[:3]
    said = again.predict(*faces)
    assert said.round(6).loc[:, ["Male", "Young", "Smiling"]].shape == (3, 3)
    for path, answer in predict_files(load_model(again.info), faces):
        assert not isinstance(answer, str)
        assert said.loc[str(path), "Male"] == answer["Male"].probability
    assert f"{said['Male'].iloc[0]:.6f}" in shown[-1]["text/plain"]
    with pytest.raises(InputError, match=r"nothing.jpg: No such file"):
        again.predict("nothing.jpg")
