"""Run directories: of a whole toy run, and hand-written ones."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from celeba_fl import rollcall, server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.inline import run_inline
from celeba_fl.runs import read_runs
from celeba_fl.server_app import app as app_of_server

Files = Mapping[str, Any]


@pytest.fixture(scope="session")
def toy_run(toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the main task with three clients; without its report."""
    folder = tmp_path_factory.mktemp("toy-runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollcall, "SETTLE_SECONDS", 0)
        patch.setattr(server_app, "_draw_report", lambda run: None)
        config = RunConfig.load({**toy, "results-dir": str(folder)})
        run_inline(config, 3, app_of_server, client_app)
    (said,) = read_runs(folder)
    return Path(said["path"])


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run directory; see `write_run`."""
    return lambda name="run", **options: write_run(tmp_path / name, **options)


def write_run(
    path: Path,
    *,
    info: Mapping[str, Any] | None = None,
    csv: Mapping[str, str] | None = None,
    summary: Mapping[str, float] | None = None,
    scores: Mapping[str, Sequence[Any]] | None = None,
) -> Path:
    """A run directory by hand; `scores` are the columns of `test_scores.parquet`."""
    path.mkdir()
    now = datetime.now(UTC).isoformat()
    known = {"status": "completed", "reason": "", "updated": now, **(info or {})}
    (path / "run.json").write_text(json.dumps(known))
    for name, text in (csv or {}).items():
        (path / f"{name}.csv").write_text(text)
    if summary is not None:
        (path / "summary.json").write_text(json.dumps(summary))
    if scores is not None:
        columns = {name: pa.array(np.asarray(column)) for name, column in scores.items()}
        parquet.write_table(pa.table(columns), path / "test_scores.parquet")
    return path
