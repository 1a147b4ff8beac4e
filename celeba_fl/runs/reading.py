"""What a run directory holds, for everything downstream of a run."""

import csv
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.rounds.exchange import PhaseProgress
from celeba_fl.runs.tables import read_csv

STALE_SECONDS = 60.0


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """What there is to know of every run in `folder`, the newest first.

    Each is its `run.json` with the path of the directory as `path`, the number of finished rounds
    as `rounds`, and the content of `summary.json` as `summary`. A run that is no longer alive has
    the status ``interrupted``; one whose `run.json` cannot be read has ``unreadable``.
    """
    files = sorted(folder.glob("*/run.json"), reverse=True) if folder.is_dir() else []
    return [read_run(path.parent) for path in files]


def read_run(path: Path) -> dict[str, Any]:
    """What `read_runs` says of the run directory `path`."""
    try:
        info = read_json(path / "run.json")
        updated = datetime.fromisoformat(info["updated"])
        age = (datetime.now(UTC) - updated).total_seconds()
        if info["status"] == "running" and age > STALE_SECONDS:
            info["status"] = "interrupted"
        rounds = _num_rounds(path / "rounds.csv")
        summary = path / "summary.json"
        info["summary"] = read_json(summary) if summary.exists() else {}
    except (ValueError, KeyError, TypeError, OSError, csv.Error) as error:
        return {"path": path, "status": "unreadable", "reason": str(error)}
    return {**info, "path": path, "rounds": rounds}


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
        newest = max(folder.glob("*/run.json"), default=None)
        if newest is None:
            raise InputError(f"there is no run in {folder}; name a run directory")
        return newest.parent
    path = Path(name).expanduser().absolute()
    path = path if path.exists() else folder / name
    if not (path / "run.json").exists():
        raise InputError(f"{name!r} is neither a run directory nor the name of a run in {folder}")
    return path


def progress(path: Path) -> PhaseProgress | None:
    """The exchange in progress in a run directory; None if there is none that can be read."""
    try:
        return PhaseProgress(**json.loads((path / "progress.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


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
            names, metadata = file.keys(), file.metadata() or {}
            return {name: file.get_tensor(name) for name in names}, metadata
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def config_of(info: Mapping[str, Any]) -> RunConfig:
    """The run config of a run, its places as they were resolved where they still are.

    Keys that are newer than the run have their defaults.
    """
    home = info.get("home")
    kept = {"home": home} if home and Path(home).is_dir() else {}
    return RunConfig.load({**info["config"], **kept})


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; InputError if there is none that can be read."""
    try:
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(read, ensure_ascii=False).encode()  # no page can show half a character
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(read, dict):
        raise InputError(f"{path} cannot be read: it is not a JSON object")
    return read


def _num_rounds(path: Path) -> int:
    try:
        return max(len(read_csv(path)) - 1, 0)  # round 0 does not count
    except (ValueError, OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
