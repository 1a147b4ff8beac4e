"""A SuperLink of the suite's own, for the whole session."""

import shutil
from collections.abc import Iterator

import pytest
from engine import Flower


@pytest.fixture(scope="session")
def flower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    """Flower's commands; the first one starts the SuperLink."""
    folder = tmp_path_factory.mktemp("flower")
    flower = Flower(folder)
    yield flower
    flower.close()
    shutil.rmtree(folder, ignore_errors=True)
