"""A SuperLink of the suite's own, for the whole session."""

import shutil
from collections.abc import Iterator

import pytest
from engine import Flower


@pytest.fixture(scope="session")
def flower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    """Flower's commands, whose SuperLink has started."""
    folder = tmp_path_factory.mktemp("flower")
    flower = Flower(folder)
    # Any command starts it, and waits 15 s at most: too short on a loaded machine.
    said = [flower.call("flwr", "ls")]
    while said[-1].returncode and len(said) < 20:
        said.append(flower.call("flwr", "ls"))
    assert said[-1].returncode == 0, said[-1].stderr
    yield flower
    flower.close()
    shutil.rmtree(folder, ignore_errors=True)
