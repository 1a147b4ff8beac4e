"""Run directories as a run of sums leaves them."""

import contextlib
import json
from pathlib import Path
from typing import Any

from adding import settings

from celeba_fl.config import RunConfig
from celeba_fl.runs.directory import RunDirectory

ROW = {"round": 0, "loss": 0.5}


def open_run(folder: Path, number: int = 7, **keys: Any) -> RunDirectory:
    return RunDirectory(RunConfig.load(settings(folder, **keys)), number)


def info(run: RunDirectory | Path) -> dict[str, Any]:
    path = run if isinstance(run, Path) else run.path
    return dict(json.loads((path / "run.json").read_text()))


def finished(folder: Path, reason: str = "", **keys: Any) -> Path:
    with open_run(folder, **keys) as run:
        run.end(reason)
    return run.path


def interrupted(folder: Path, **keys: Any) -> Path:
    """A run that failed."""
    with contextlib.suppress(RuntimeError), open_run(folder, **keys) as run:
        run.set_provenance({"dataset": {"name": "faces", "fingerprint": "a"}})
        run.set_partitions([{"client": c, "num_examples": 4, "Male=1": 2} for c in "ab"])
        raise RuntimeError("no power")
    return run.path
