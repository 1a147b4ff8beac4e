"""What several tests need: small data sets in CelebA's layout, and the real one where it is."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from torchvision.models import mobilenet_v2
from toys import write_celeba, write_run
from xdist.scheduler import LoadScopeScheduling

# Read when Flower is imported; where there is no network it waits for a name server.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

# Several processes test at once, and each of them may start others.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

# A loaded machine is not a failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# CelebA may not be redistributed: it lies beside the checkout, on some machines.
SHARED = Path(__file__).parents[2] / "shared" / "data"


def _group(nodeid: str) -> str:
    """The tests that one process takes: those of a file, or those of real engines, all of them."""
    file = nodeid.partition("::")[0]
    return "engine" if "integration" in Path(file).parts else file


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Deals tests out in the groups of `_group`; the marks of `loadgroup` do not work here.

    Those need test ids to be changed, which pytest 9.2 no longer lets pytest-xdist 3.8 do.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of real engines come first: they take longest, and share a SuperLink and a machine.

    Then files with slow tests; what is short is left for the end.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (_group(item.nodeid) != "engine", item.path not in slow))


@pytest.fixture(scope="session", autouse=True)
def _at_once() -> Iterator[dict[str, Callable[..., None]]]:
    """Runs of this process wait for no more nodes and draw no report; gives what draws one."""
    from celeba_fl import server_app
    from celeba_fl.rounds import roll_call

    drawing = {name: getattr(server_app, name) for name in ("_get_ready_to_draw", "_draw_report")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roll_call, "SETTLE_SECONDS", 0)
        for name in drawing:
            patch.setattr(server_app, name, lambda *_: None)
        yield drawing


@pytest.fixture(scope="session")
def for_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of the suite share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session", autouse=True)
def _exported_once(for_all: Path) -> Iterator[None]:
    """A backbone is exported once for all homes: it takes seconds.

    PyTorch traces an export for whoever listens, as pytest does, which takes many more.
    """
    from celeba_fl.common.files import keep
    from celeba_fl.vision import extractor

    def kept(path: Path, create: Callable[[Path], object]) -> Path:
        exported = for_all / "exported" / path.name
        return keep(path, lambda file: shutil.copy(keep(exported, create), file))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extractor, "keep", kept)
        patch.setattr(logging.getLogger("torch.__trace"), "propagate", False)
        yield


@pytest.fixture
def reports(_at_once: dict[str, Callable[..., None]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a test that asks for this end with their report."""
    for name, function in _at_once.items():
        monkeypatch.setattr(f"celeba_fl.server_app.{name}", function)


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Find a part of ``../shared/data``; the test is skipped where it is not."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"no CelebA here: {SHARED / name} is missing")
        return SHARED / name

    return find


@pytest.fixture(scope="session")
def celeba(shared_data: Callable[[str], Path], for_all: Path) -> dict[str, Any]:
    """Run-config keys of CelebA itself; its features are computed once for all tests."""
    weights = shared_data("../weights/mobilenet_v2_imagenet.pt")
    keys = {"dataset": shared_data("celeba"), "weights": weights, "home": for_all / "celeba"}
    return {key: str(path) for key, path in keys.items()}


@pytest.fixture
def celeba_folder(tmp_path: Path) -> Callable[..., Path]:
    """Make small folders in the official layout under `tmp_path`; see `write_celeba`."""
    return lambda name="celeba", **options: write_celeba(tmp_path / name, **options)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run directory by hand; see `write_run`."""
    return lambda name="run", **options: write_run(tmp_path / name, **options)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run-config keys of the whole job in small: 96 tiny images, random weights, 32 pixels.

    All tests share its home, so the backbone is exported and the features are computed once. These
    hardly differ from image to image, so on their scale they would all be dead.
    """
    folder = tmp_path_factory.mktemp("toy")
    weights = folder / "weights.pt"
    torch.manual_seed(0)
    torch.save(mobilenet_v2().state_dict(), weights)
    return {
        "dataset": str(write_celeba(folder / "celeba", splits="0" * 60 + "1" * 12 + "2" * 24)),
        "weights": str(weights),
        "features": "last",
        "image-size": 32,
        "home": str(folder / "home"),
        "scaling": "none",
        "init": "random",
        "num-server-rounds": 2,
        "local-epochs": 1,
    }


@pytest.fixture(scope="session")
def toy_run(toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the main task with three clients; without its report."""
    from celeba_fl import server_app
    from celeba_fl.client_app import app as client_app
    from celeba_fl.config import RunConfig
    from celeba_fl.launch.inline import run_inline
    from celeba_fl.runs.reading import read_runs

    folder = tmp_path_factory.mktemp("toy-runs")
    run_inline(RunConfig.load({**toy, "results-dir": str(folder)}), 3, server_app.app, client_app)
    (said,) = read_runs(folder)
    # Its test images are of too few people to compare groups: the pages show them as if there were
    # enough, or there would be nothing to look at.
    fairness = said.path / "fairness.csv"
    fairness.write_text(fairness.read_text().replace("too small", "yes"))
    return said.path
