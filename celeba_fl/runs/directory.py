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
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load

from celeba_fl.common.bundle import PACKAGE, app_version, code_hash
from celeba_fl.common.errors import InputError
from celeba_fl.common.files import pack_arrays, write_bytes, write_json
from celeba_fl.common.log import LOG
from celeba_fl.config import RESUMABLE, RunConfig, default_values
from celeba_fl.rounds.checkpoints import Checkpoints
from celeba_fl.rounds.exchange import PhaseProgress

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
PARTITIONS = "partitions.csv"
PACKAGES = ("flwr", "flwr-datasets", "torch", "torchvision", "onnxruntime", "numpy")


class RunDirectory:
    """A run's files; a context manager that writes how the run ended.

    Parameters
    ----------
    config : RunConfig
        The run config. With its `resume`, an existing directory is opened.
    flwr_run_id : int
        Flower's id of the run.

    Raises
    ------
    InputError
        If the directory to go on with is not there, in use by a run, or of another experiment.
    """

    def __init__(self, config: RunConfig, flwr_run_id: int) -> None:
        started = datetime.now(UTC)
        self._clock = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        if config.resume:
            self.path = _to_resume(config)
            self._info = _read_json(self.path / "run.json")
            self._info |= {"status": "running", "reason": "", "finished": None}
            self._info["config"] = config.to_dict()
            self._info["flwr_run_ids"].append(flwr_run_id)
        else:
            self.path = config.runs_dir / f"{started:%Y-%m-%d_%H-%M-%S}_{flwr_run_id}"
            self.path.mkdir(parents=True)
            self._info = {
                "status": "running",
                "reason": "",
                "updated": "",
                "started": _iso(started),
                "finished": None,
                "seconds": 0.0,
                "seed": config.seed,
                "config": config.to_dict(),
                "home": str(config.home_dir),
                "flwr_run_ids": [flwr_run_id],
            }
        self._writer = FileLock(self.path / ".lock", timeout=0)
        try:
            self._writer.acquire()
        except Timeout:
            raise InputError(f"resume: another run is writing {self.path}") from None
        self._before: float = self._info["seconds"]
        self.update(
            code={"version": app_version(), "sha256": code_hash(), "path": str(PACKAGE)},
            packages={name: version(name) for name in PACKAGES},
        )
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
        if error:
            reason = str(error) or repr(error)
            LOG.error("The run failed: %s", reason)
            self._close("failed", reason)
        self._writer.release()
        LOG.info("Run directory: %s", self.path)

    @property
    def seconds(self) -> float:
        """Wall time of the run, its interruptions left out."""
        return round(self._before + time.monotonic() - self._clock, 3)

    def end(self, reason: str) -> None:
        """Say how the run ended: ``stopped`` for a reason, or ``completed`` without one."""
        self._close("stopped" if reason else "completed", reason)

    def _close(self, status: str, reason: str) -> None:
        finished = _iso(datetime.now(UTC))
        self.update(status=status, reason=reason, finished=finished, seconds=self.seconds)

    def set_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Say where data and weights are from; a run that goes on must have the same."""
        for key, value in provenance.items():
            if self._info.setdefault(key, value) != value:
                raise InputError(f"resume: {key} was {self._info[key]} and is {value} now")
        self.update()

    def set_partitions(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write `partitions.csv`; clients of a run that goes on must hold what they held."""
        held = {row["client"]: row for row in read_csv(self.path / PARTITIONS)}
        for row in rows:
            for key, before in held.get(row["client"], {}).items():
                if before != str(row[key]):
                    raise InputError(
                        f"resume: {key} of client {row['client']} was {before} and is {row[key]} "
                        f"now; start as many clients with the same data as before"
                    )
        self.write_csv(PARTITIONS, rows)
        self.update(num_clients=len(rows))

    def cut(self, first: int) -> None:
        """Drop rows and pictures of round `first` and later ones, which are to be done again."""
        for name in ("rounds.csv", "clients.csv", "epochs.csv"):
            rows = read_csv(self.path / name)
            kept = [row for row in rows if int(row["round"]) < first]
            if kept:
                self.write_csv(name, kept)
            else:
                (self.path / name).unlink(missing_ok=True)
        for picture in self.path.glob("*/round-*.png"):
            if int(picture.stem.partition("-")[2]) >= first:
                picture.unlink()

    def update(self, **values: Any) -> None:
        """Set keys of `run.json`; every write is a sign of life too."""
        with self._lock:
            self._info.update(values, updated=_iso(datetime.now(UTC)))
            write_json(self.path / "run.json", self._info)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            self.update(seconds=self.seconds)

    def progress(self, waiting: PhaseProgress) -> None:
        """Write `progress.json`."""
        write_json(self.path / "progress.json", asdict(waiting), sync=False)

    def append(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows to a CSV file; the first ones make its header."""
        path = self.path / name
        if rows:
            text = _csv(rows, header=not path.exists())
            with path.open("a", newline="", encoding="utf-8") as file:
                file.write(text)

    def write_csv(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a whole CSV file."""
        write_csv(self.path / name, rows)

    def write_picture(self, name: str, number: int, png: bytes) -> None:
        """Write the PNG of a round, such as ``samples/round-0005.png``."""
        write_bytes(self.path / name / f"round-{number:04d}.png", png)

    def write_parquet(self, name: str, columns: Mapping[str, np.ndarray]) -> None:
        """Write a parquet file."""
        write_parquet(self.path / name, columns)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`; what is undefined is null."""
        write_json(self.path / "summary.json", {k: defined(v) for k, v in summary.items()})

    def write_model(
        self, name: str, arrays: Mapping[str, np.ndarray], metadata: dict[str, str]
    ) -> None:
        """Write `model.safetensors`, or `base.safetensors`: the one after round 0."""
        write_bytes(self.path / f"{name}.safetensors", pack_arrays(arrays, metadata))

    def read_model(self, name: str) -> dict[str, np.ndarray]:
        """Read the arrays of a model; empty if it is not there, as the base of older runs."""
        path = self.path / f"{name}.safetensors"
        return load(path.read_bytes()) if path.exists() else {}


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a whole CSV file; what is undefined is an empty cell."""
    write_bytes(path, _csv(rows, header=True).encode())


def write_parquet(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write a parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table({key: pa.array(col) for key, col in columns.items()}), sink)
    write_bytes(path, sink.getvalue().to_pybytes())


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """What there is to know of every run in `folder`, the newest first.

    Each is its `run.json` with the path of the directory as `path`, the number of finished rounds
    as `rounds`, and the content of `summary.json` as `summary`. A run that is no longer alive has
    the status ``interrupted``; one whose `run.json` cannot be read has ``unreadable``.
    """
    found = sorted(folder.glob("*/run.json"), reverse=True) if folder.is_dir() else []
    return [read_run(path.parent) for path in found]


def find_directory(name: str, folder: Path) -> Path:
    """A run directory.

    Parameters
    ----------
    name : str
        A run directory, the name of one in `folder`, or ``latest``: the newest there.
    folder : Path
        The results directory.

    Raises
    ------
    InputError
        If it is not there.
    """
    if name == "latest":
        found = sorted(folder.glob("*/run.json"))
        if not found:
            raise InputError(f"there is no run in {folder}; name a run directory")
        return found[-1].parent
    path = Path(name).expanduser().absolute()
    path = path if path.exists() else folder / name
    if not (path / "run.json").exists():
        raise InputError(f"{name!r} is no run directory, nor the name of a run in {folder}")
    return path


def find_run(name: str, folder: Path) -> dict[str, Any]:
    """What `read_runs` says of one run; arguments as `find_directory`.

    Raises
    ------
    InputError
        If it is not there, or its `run.json` cannot be read.
    """
    info = read_run(find_directory(name, folder))
    if info["status"] == "unreadable":
        raise InputError(f"{info['path']} is unreadable: {info['reason']}")
    return info


def final_model(info: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a run's `model.safetensors` and its metadata; argument as from `find_run`.

    Raises
    ------
    InputError
        If it is not there, or cannot be read.
    """
    path: Path = info["path"] / "model.safetensors"
    if not path.exists():
        raise InputError(
            f"{path} is not there: the run is {info['status']}, and its model is written when it "
            f"ends; let it go on with resume = '{info['path']}', or name another run"
        )
    try:
        with safe_open(path, "numpy") as file:
            names, said = file.keys(), file.metadata() or {}
            return {name: file.get_tensor(name) for name in names}, said
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def config_of(info: Mapping[str, Any]) -> RunConfig:
    """The run config of a run, its places as they were resolved where they still are.

    Keys that are newer than the run have their defaults.
    """
    home = info.get("home")
    kept = {"home": home} if home and Path(home).is_dir() else {}
    return RunConfig.load({**info["config"], **kept})


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, none if it is not there; a row cut off by a kill is left out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return list(csv.DictReader(io.StringIO(whole)))


def _to_resume(config: RunConfig) -> Path:
    """The directory to go on with, after making sure that it is of the same experiment.

    Keys that are newer than the run had their defaults.
    """
    path = Path(config.resume).expanduser().absolute()
    if config.resume == "latest":
        found = sorted(config.runs_dir.glob("*/run.json"))
        if not found:
            raise InputError(f"resume = 'latest': there is no run in {config.runs_dir}")
        path = found[-1].parent
    if not (path / "run.json").exists():
        raise InputError(f"resume = {config.resume!r}: {path} is no run directory")
    info = _read_json(path / "run.json")
    before, now = {**default_values(), **info["config"]}, config.to_dict()
    changed = [
        f"{key} was {before[key]!r} and is {now[key]!r}"
        for key in now
        if key not in RESUMABLE and before[key] != now[key]
    ]
    if changed:
        raise InputError(
            f"resume = {config.resume!r}: {path.name} is of another experiment: "
            f"{'; '.join(changed)}. Only {', '.join(RESUMABLE[1:])} may change"
        )
    completed = info["status"] == "completed"
    saved = Checkpoints(path / "checkpoints").rounds()
    done = before["num-server-rounds"] if completed else max(saved, default=0)
    if config.num_server_rounds < done + completed:
        raise InputError(
            f"resume = {config.resume!r}: {path.name} has done {done} rounds already; "
            f"num-server-rounds = {config.num_server_rounds} must be more"
        )
    if info["status"] == "stopped" and all(before[key] == now[key] for key in RESUMABLE[1:]):
        raise InputError(
            f"resume = {config.resume!r}: {path.name} has stopped ({info['reason']}); to go on, "
            f"change the rule"
        )
    return path


def _read_json(path: Path) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(read, ensure_ascii=False).encode()  # half a character can be shown nowhere
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(read, dict):
        raise InputError(f"{path} cannot be read: it is no JSON object")
    return read


def read_run(path: Path) -> dict[str, Any]:
    """What `read_runs` says of the run directory `path`."""
    try:
        info = _read_json(path / "run.json")
        updated = datetime.fromisoformat(info["updated"])
        age = (datetime.now(UTC) - updated).total_seconds()
        if info["status"] == "running" and age > STALE_SECONDS:
            info["status"] = "interrupted"
        rounds = _num_rounds(path / "rounds.csv")
        summary = path / "summary.json"
        info["summary"] = _read_json(summary) if summary.exists() else {}
    except (ValueError, KeyError, TypeError, OSError, csv.Error) as error:
        return {"path": path, "status": "unreadable", "reason": str(error)}
    return {**info, "path": path, "rounds": rounds}


def _num_rounds(path: Path) -> int:
    try:
        return max(len(read_csv(path)) - 1, 0)  # round 0 is none
    except (ValueError, OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


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
    plain = defined(value)
    return "" if plain is None else plain


def defined(value: Any) -> Any:
    """A plain Python value, None for NaN."""
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and math.isnan(plain) else plain


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
