"""A home with runs for the pages to show, and pages without a browser."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from celeba_fl.dashboard import launch

SECONDS = 120  # for a page, on a loaded machine


@pytest.fixture(autouse=True)
def own_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring back ``__main__``: Streamlit puts a page there, and spawned processes start from it."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(autouse=True)
def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked for in all packages that are installed, as Streamlit does for a page."""
    scan = "streamlit.components.v2.manifest_scanner.scan_component_manifests"
    monkeypatch.setattr(scan, list)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty results directory of a home of its own; Flower's home is of its own, too."""
    monkeypatch.setenv("CELEBA_FL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))
    (tmp_path / "home" / "runs").mkdir(parents=True)
    return tmp_path / "home" / "runs"


@pytest.fixture
def run(runs: Path, toy_run: Path) -> Path:
    """A copy of the toy run, to be changed, in the results directory."""
    return Path(shutil.copytree(toy_run, runs / toy_run.name))


@pytest.fixture
def app() -> AppTest:
    """The whole dashboard, on its first page."""
    return AppTest.from_file(str(launch.APP), default_timeout=SECONDS)


@pytest.fixture
def page() -> Callable[..., AppTest]:
    """Open a page by its module's name, with query parameters."""

    def open_page(name: str, **query: str) -> AppTest:
        def script(name: str) -> None:
            from importlib import import_module

            import_module(f"celeba_fl.dashboard.{name}").show_page()

        opened = AppTest.from_function(script, default_timeout=SECONDS, kwargs={"name": name})
        opened.query_params.update(query)
        return opened.run()

    return open_page
