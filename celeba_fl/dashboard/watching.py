"""Run directories as they change: read again only when a file has, so that looking is cheap."""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from celeba_fl.report.reading import Run
from celeba_fl.runs.reading import LABEL, STALE_SECONDS, RunInfo, read_run

# A heartbeat changes `run.json` every few seconds; what else there is need not be read for that.
HEAD = ("run.json", "summary.json", "rounds.csv", LABEL)
FIXED = ("summary.json", "baseline.json", "test_scores.parquet", "baseline_scores.parquet")
Stamp = tuple[tuple[int, int, int] | None, ...]
T = TypeVar("T")


def directories(folder: Path) -> list[Path]:
    """What may be a run in a results directory, the newest first; also what turns out not to be."""
    found = (path for path in _entries(folder) if path.name.isprintable() and path.is_dir())
    return sorted(found, reverse=True)


def nameless(folder: Path) -> int:
    """How many are left out: a name that is not UTF-8, or cannot be shown, cannot be chosen."""
    return sum(not path.name.isprintable() and path.is_dir() for path in _entries(folder))


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.name[0] != "."]


def stamp(path: Path, names: Iterable[str]) -> Stamp:
    """Differs once a file of a directory has been replaced, appended to, added or removed."""
    return tuple(_stamp(path / name) for name in names)


def look(path: Path) -> RunInfo:
    """A run, read again only if it has changed."""
    found = stamp(path, HEAD)
    # Whether the heartbeat may have stopped, which shows in no file.
    silent = found[0] is not None and time.time() - found[0][1] / 1e9 > STALE_SECONDS
    return _read_run(path, (found, silent))


def watch(path: Path, whole: bool = True) -> Run:
    """What there is to show of a run; arguments as `Run.read`."""
    read = _read if whole else _read_course
    return replace(read(path, _tables(path) if whole else stamp(path, HEAD[1:])), info=look(path))


def label(path: Path) -> str:
    """A run in a list to choose from: no other's, and the same all along, as Streamlit needs."""
    info = look(path)
    return path.name if info.name == path.name else f"{info.name} · {when(path.name)}"


def when(name: str) -> str:
    """A run's directory in short: when it started, and the last digits of Flower's id."""
    ours = re.fullmatch(r"(\d{4}-\d\d-\d\d)_(\d\d)-(\d\d)-(\d\d)_\d*?(\d{1,4})", name)
    return "{} {}:{}:{} …{}".format(*ours.groups()) if ours else name


def version(path: Path) -> tuple[Any, ...]:
    """Differs once there is something new to show of a run, signs of life aside."""
    samples = path / "samples"
    return (look(path).status, _tables(path), stamp(samples, (".",)))


def _tables(path: Path) -> tuple[Any, ...]:
    """Differs once a file that the report reads has changed; a task may have tables of its own."""
    names = (*FIXED, *sorted(table.name for table in path.glob("*.csv")))
    return names, stamp(path, names)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@lru_cache(maxsize=16)
def _read(path: Path, found: tuple[Any, ...]) -> Run:
    return Run.read(path)


def _newest(read: Callable[[Path], T]) -> Callable[[Path, Any], T]:
    """Keep what was read of each directory until something in it has changed."""
    kept: dict[Path, tuple[Any, T]] = {}

    def newest(path: Path, found: Any) -> T:
        if path not in kept or kept[path][0] != found:
            kept[path] = found, read(path)
        return kept[path][1]

    return newest


@_newest
def _read_run(path: Path) -> RunInfo:
    return read_run(path)


_read_course = _newest(lambda path: Run.read(path, whole=False))
