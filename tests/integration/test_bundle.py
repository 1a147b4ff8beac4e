"""The bundle that `flwr build` makes is all that a run needs, and Flower's hub would take it."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from engine import APP, BIN
from private import (
    FAB_MAX_SIZE,
    MAX_FILE_BYTES,
    MAX_FILE_COUNT,
    MAX_TOTAL_BYTES,
    collect_file_paths,
    validate_files,
)

from celeba_fl.runs.reading import read_runs

# Flower's, of how it reads .gitignore.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")

# The checkout is on the path of an editable installation; here it is taken off.
RUN = """
import sys
bundle, checkout, experiment = sys.argv[1:]
sys.path = [bundle, *(path for path in sys.path if path not in ("", checkout))]
import celeba_fl
assert celeba_fl.__file__.startswith(bundle), celeba_fl.__file__
from celeba_fl.cli.app import app
app(["run", experiment, "--inline"])
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle as `flwr build` makes it."""
    folder = tmp_path_factory.mktemp("bundle")
    subprocess.run([BIN / "flwr", "build", "--app", APP], cwd=folder, check=True)
    (built,) = folder.glob("*.fab")
    return built


@pytest.mark.slow
def test_a_run_from_the_bundle_alone(built: Path, toy: dict[str, Any], tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    zipfile.ZipFile(built).extractall(bundle)
    experiment = tmp_path / "experiment.toml"
    experiment.write_text(tomli_w.dumps({**toy, "results-dir": str(tmp_path / "runs")}))

    command = [sys.executable, "-c", RUN, str(bundle), str(APP), str(experiment)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = read_runs(tmp_path / "runs")
    assert run.status == "completed"
    assert run.code["path"] == str(bundle / "celeba_fl")
    assert (run.path / "report.html").exists()


def test_the_bundle_has_every_room(built: Path) -> None:
    """A pattern such as `runs/` or `data/` in .gitignore would leave a room out."""
    with zipfile.ZipFile(built) as bundle:
        names = set(bundle.namelist())
    for suffix in ("py", "toml", "md", "json"):
        for file in (APP / "celeba_fl").rglob(f"*.{suffix}"):
            # Flower leaves these out: the app's own, which it writes anew, and that of a template.
            if file.name != "pyproject.toml":
                assert file.relative_to(APP).as_posix() in names
    assert {"celeba_fl/runs/__init__.py", "celeba_fl/data/__init__.py"} <= names
    assert built.stat().st_size <= FAB_MAX_SIZE


def test_the_hub_would_take_the_app() -> None:
    """By Flower's own check, and by the limits that the README names."""
    files = collect_file_paths(APP)
    validate_files(files)

    names = {file.relative_to(APP).as_posix() for file in files}
    assert {"LICENSE", "README.md", "pyproject.toml", "celeba_fl/server_app.py"} <= names
    sizes = [file.stat().st_size for file in files]
    assert len(files) <= 1000 == MAX_FILE_COUNT
    assert max(sizes) <= 1024**2 == MAX_FILE_BYTES
    assert sum(sizes) <= 10 * 1024**2 == MAX_TOTAL_BYTES


def test_the_readme_says_what_the_hub_would_lack() -> None:
    """Whatever git knows and the hub does not take is named in the README, by its kind."""
    taken = {file.relative_to(APP).as_posix() for file in collect_file_paths(APP)}
    listed = subprocess.run(
        ["git", "ls-files"], cwd=APP, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("no git here: which files belong to the app is not known")
    app = [name for name in listed.stdout.split() if not name.startswith("tests/")]
    kinds = {Path(name).suffix or name for name in app if name not in taken}
    text = (APP / "celeba_fl" / "README.md").read_text(encoding="utf-8")
    assert {kind for kind in kinds if kind.lstrip(".").casefold() not in text.casefold()} == set()


def test_nothing_else_of_the_checkout_travels(built: Path, tmp_path: Path) -> None:
    """Labels, runs, and helpers of tests that lie in the folder of the app."""
    folder = tmp_path / "checkout"
    shutil.copytree(APP / "celeba_fl", folder / "celeba_fl")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(APP / name, folder)
    for name in ("data/x/metadata.jsonl", "runs/1/run.json", "tests/support/toys.py", "notes.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    subprocess.run([BIN / "flwr", "build", "--app", folder], cwd=tmp_path, check=True)
    (again,) = tmp_path.glob("*.fab")
    for file in (built, again):
        with zipfile.ZipFile(file) as bundle:
            names = bundle.namelist()
        others = {name for name in names if not name.startswith("celeba_fl/")}
        assert others - {".info/CONTENT"} == {"pyproject.toml", "README.md", "LICENSE"}
