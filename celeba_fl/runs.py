"""The run directory: the one place that writes it and reads it.

Its files and their columns are an interface: add freely, rename never.
"""

import csv
import io
import json
import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from safetensors.numpy import save

from celeba_fl.config import RunConfig, app_version
from celeba_fl.exchange import Waiting
from celeba_fl.files import write_bytes, write_json
from celeba_fl.progress import LOG

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
PACKAGES = ("flwr", "flwr-datasets", "torch", "torchvision", "onnxruntime", "numpy")


class RunDirectory:
    """A run's files; a context manager that writes how the run ended.

    Parameters
    ----------
    config : RunConfig
        The run config.
    flwr_run_id : int
        Flower's id of the run.
    """

    def __init__(self, config: RunConfig, flwr_run_id: int) -> None:
        started = datetime.now(UTC)
        self._clock = time.monotonic()
        self.path = config.runs_dir / f"{started:%Y-%m-%d_%H-%M-%S}_{flwr_run_id}"
        self.path.mkdir(parents=True)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._info: dict[str, Any] = {
            "status": "running",
            "reason": "",
            "updated": "",
            "started": _iso(started),
            "finished": None,
            "seconds": None,
            "seed": config.seed,
            "config": config.to_dict(),
            "home": str(config.home_dir),
            "flwr_run_ids": [flwr_run_id],
            "packages": {"celeba_fl": app_version(), **{name: version(name) for name in PACKAGES}},
        }
        self.update()
        self._heart = threading.Thread(target=self._beat, name="run-heartbeat", daemon=True)
        self._heart.start()

    def __enter__(self) -> "RunDirectory":
        LOG.info("Run directory: %s", self.path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._heart.join()
        status, reason = ("failed", f"{error}" or repr(error)) if error else ("completed", "")
        finished = _iso(datetime.now(UTC))
        seconds = round(time.monotonic() - self._clock, 3)
        self.update(status=status, reason=reason, finished=finished, seconds=seconds)
        if error:
            LOG.error("The run failed: %s", reason)
        LOG.info("Run directory: %s", self.path)

    def update(self, **values: Any) -> None:
        """Set keys of `run.json`; every write is a sign of life too."""
        with self._lock:
            self._info.update(values, updated=_iso(datetime.now(UTC)))
            write_json(self.path / "run.json", self._info)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            self.update()

    def progress(self, waiting: Waiting) -> None:
        """Write `progress.json`."""
        write_json(self.path / "progress.json", asdict(waiting))

    def append(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows to a CSV file; the first ones make its header."""
        path = self.path / name
        text = _csv(rows, header=not path.exists())
        with path.open("a", newline="", encoding="utf-8") as file:
            file.write(text)

    def write_csv(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a whole CSV file."""
        write_bytes(self.path / name, _csv(rows, header=True).encode())

    def write_parquet(self, name: str, columns: Mapping[str, np.ndarray]) -> None:
        """Write a parquet file."""
        import pyarrow as pa
        from pyarrow import parquet

        sink = pa.BufferOutputStream()
        parquet.write_table(pa.table({key: pa.array(col) for key, col in columns.items()}), sink)
        write_bytes(self.path / name, sink.getvalue().to_pybytes())

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`; what is undefined is null."""
        write_json(self.path / "summary.json", {k: _defined(v) for k, v in summary.items()})

    def write_model(self, arrays: Mapping[str, np.ndarray], metadata: dict[str, str]) -> None:
        """Write `model.safetensors`."""
        write_bytes(self.path / "model.safetensors", save(dict(arrays), metadata))


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """What there is to know of every run in `folder`, the newest first.

    Each is its `run.json` with the path of the directory as `path`, the number of finished rounds
    as `rounds`, and the content of `summary.json` as `summary`. A run that is no longer alive has
    the status ``interrupted``; one whose `run.json` cannot be read has ``unreadable``.
    """
    found = sorted(folder.glob("*/run.json"), reverse=True) if folder.is_dir() else []
    return [_read_run(path.parent) for path in found]


def _read_run(path: Path) -> dict[str, Any]:
    try:
        info: dict[str, Any] = json.loads((path / "run.json").read_text(encoding="utf-8"))
        updated = datetime.fromisoformat(info["updated"])
        age = (datetime.now(UTC) - updated).total_seconds()
        if info["status"] == "running" and age > STALE_SECONDS:
            info["status"] = "interrupted"
        rounds = _lines(path / "rounds.csv") - 2  # the header and round 0 are no rounds
        summary = path / "summary.json"
        info["summary"] = json.loads(summary.read_text()) if summary.exists() else {}
    except (ValueError, KeyError, TypeError, OSError) as error:
        return {"path": path, "status": "unreadable", "reason": str(error)}
    return {**info, "path": path, "rounds": max(rounds, 0)}


def _lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n") if path.exists() else 0


def _csv(rows: Iterable[Mapping[str, Any]], header: bool) -> str:
    rows = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Undefined is an empty cell; floats keep all their digits."""
    defined = _defined(value)
    return "" if defined is None else defined


def _defined(value: Any) -> Any:
    """A plain Python value, None for NaN."""
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and math.isnan(plain) else plain


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
