"""Run directories by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest
from toys import write_run


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run directory; see `write_run`."""
    return lambda name="run", **options: write_run(tmp_path / name, **options)
