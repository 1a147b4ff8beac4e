"""Run directories, read for everything downstream of a run."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from celeba_fl.common.errors import InputError
from celeba_fl.common.names import LATEST, check_note, check_run_name
from celeba_fl.config import BEFORE, RunConfig, keys_of
from celeba_fl.runs.names import DIRECTORY, DOTS, default_name
from celeba_fl.runs.tables import count_rows

if TYPE_CHECKING:
    from celeba_fl.rounds.exchange import PhaseProgress

STALE_SECONDS = 60.0
LABEL = "name.json"
MOST_NAMED = 5  # runs that an error lists
# Keys of `run.json` by the type of their value.
KINDS = {
    str: ("reason", "home", "started", "finished", "updated"),
    int | float: ("seed", "num_clients", "seconds"),
    dict: (
        *("config", "own_keys", "dataset", "weights", "features", "teacher", "runtimes"),
        *("code", "packages"),
    ),
    list: ("flwr_run_ids",),
}


@dataclass(frozen=True)
class RunInfo:
    """A run as its directory describes it; README.md says what each key of `run.json` means.

    A key that is missing, or whose value has another type, is empty here (None for a number).
    `status` is ``interrupted`` if the run is no longer alive, and ``unreadable`` if its files
    cannot be read.
    """

    path: Path  # the directory
    status: str
    name: str = ""  # what people call it
    note: str = ""
    reason: str = ""
    rounds: int | None = None  # number of finished ones
    summary: Mapping[str, Any] = field(default_factory=dict)  # the content of `summary.json`
    config: Mapping[str, Any] = field(default_factory=dict)
    own_keys: Mapping[str, Any] = field(default_factory=dict)
    home: str = ""
    seed: int | None = None
    num_clients: int | None = None
    dataset: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    features: Mapping[str, Any] = field(default_factory=dict)
    teacher: Mapping[str, Any] = field(default_factory=dict)
    code: Mapping[str, Any] = field(default_factory=dict)
    packages: Mapping[str, Any] = field(default_factory=dict)
    runtimes: Mapping[str, Any] = field(default_factory=dict)
    flwr_run_ids: list[int] = field(default_factory=list)
    started: str = ""
    finished: str = ""
    updated: str = ""
    seconds: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)  # all other keys of `run.json`

    @property
    def standing(self) -> str:
        """How the run stands, and why."""
        return f"{self.status}: {self.reason}" if self.reason else self.status

    @property
    def provenance(self) -> dict[str, Any]:
        """Where data and weights are from: the keys that a task recorded."""
        known = {key: getattr(self, key) for key in ("dataset", "weights", "features", "teacher")}
        return {**self.more, **{key: value for key, value in known.items() if value}}


def read_runs(folder: Path) -> list[RunInfo]:
    """All runs in `folder`, the newest first."""
    files = sorted(folder.glob("*/run.json"), reverse=True) if folder.is_dir() else []
    return [read_run(path.parent) for path in files]


def read_run(path: Path) -> RunInfo:
    """The run in the directory `path`, whatever state it is in."""
    try:
        info = read_json(path / "run.json")
        age = (datetime.now(UTC) - datetime.fromisoformat(info["updated"])).total_seconds()
        status = str(info.pop("status"))
        if status == "running" and age > STALE_SECONDS:
            status = "interrupted"
        rounds = _num_rounds(path / "rounds.csv")
        summary = read_json(path / "summary.json") if (path / "summary.json").exists() else {}
    except (ValueError, KeyError, TypeError, OSError) as error:
        return RunInfo(path, "unreadable", path.name, reason=str(error))
    kinds = {key: kind for kind, keys in KINDS.items() for key in keys}
    known = {key: info[key] for key, kind in kinds.items() if isinstance(info.get(key), kind)}
    more = {key: value for key, value in info.items() if key not in kinds}
    name, note = read_label(path) or (_name_before_names(path, known), "")
    return RunInfo(path, status, name, note, rounds=rounds, summary=summary, more=more, **known)


def read_label(path: Path) -> tuple[str, str] | None:
    """Name and note of a run directory; None if it has no file of them that can be read."""
    try:
        said = read_json(path / LABEL)
        return check_run_name("name", said.get("name")), check_note("note", said.get("note", ""))
    except InputError:
        return None


def _name_before_names(path: Path, info: Mapping[str, Any]) -> str:
    """The name of a run that has none: that of its directory if somebody gave it one.

    Else what it would be called today, with the last digits of its directory behind it.
    """
    if not DIRECTORY.fullmatch(path.name):
        return path.name
    own = info.get("own_keys", {})
    defaults = {key: of.get("default") for key, of in own.items() if isinstance(of, dict)}
    name = default_name(info.get("config", {}), {**RunConfig.defaults(), **defaults})
    return f"{name} {path.name[-4:]}"


def names_in(folder: Path) -> dict[Path, str]:
    """The names of all runs in a folder by their directories, the newest first."""
    names = {}
    for path in (file.parent for file in sorted(folder.glob("*/run.json"), reverse=True)):
        label = read_label(path)
        names[path] = label[0] if label else read_run(path).name
    return names


def find_directory(name: str, folder: Path) -> Path:
    """A run directory: `name` is one, or names a run in `folder`; ``latest`` is the newest there.

    It may be the name of the run or of its directory, or how one of them begins if no other does;
    also a name as lists shorten it, with dots for words. Upper and lower case count only where
    they tell runs apart.

    Raises
    ------
    InputError
        If there is none, or there are several.
    """
    if name == LATEST:
        newest = max(folder.glob("*/run.json"), default=None)
        if newest is None:
            raise InputError(f"there is no run in {folder}; name a run directory")
        return newest.parent
    with suppress(OSError, RuntimeError):  # of a name that no path can have
        for path in (Path(name).expanduser().absolute(), folder / name):
            if (path / "run.json").exists():
                return path
    names = names_in(folder)
    found = (_fitting(names, name, str) or _fitting(names, name, str.casefold)) if name else []
    if len(found) == 1:
        return found[0]
    if found:
        listed = _listed({path: names[path] for path in found})
        raise InputError(
            f"{name!r} may be each of {len(found)} runs in {folder}; write more of the name, or "
            f"that of the directory: {listed}"
        )
    folded = {path: one.casefold() for path, one in names.items()}
    near = get_close_matches(name.casefold(), folded.values(), MOST_NAMED, cutoff=0)
    listed = _listed({path: names[path] for path in names if folded[path] in near})
    raise InputError(
        f"{name!r} is neither a run directory nor the name of a run in {folder}, nor how one "
        f"begins; there {'are' if len(near) > 1 else 'is'} {listed or 'none'}"
    )


def _fitting(names: Mapping[Path, str], name: str, fold: Callable[[str], str]) -> list[Path]:
    """The runs of a name, else those that begin so; `fold` may drop upper and lower case."""
    begin, _, end = (part.strip() for part in fold(name).partition(DOTS))
    whole = [path for path in names if fold(names[path]) == fold(name)]
    return whole or [
        path
        for path in names
        if any(
            one.startswith(begin) and one.endswith(end)
            for one in map(fold, (names[path], path.name))
        )
    ]


def _listed(names: Mapping[Path, str]) -> str:
    """Runs in words, each with its directory, and how many more there are."""
    said = [f"{name!r} ({path.name})" for path, name in names.items()]
    more = f" and {len(said) - MOST_NAMED} more" * (len(said) > MOST_NAMED)
    return ", ".join(said[:MOST_NAMED]) + more


def progress(path: Path) -> "PhaseProgress | None":
    """The exchange in progress in a run directory; None if there is none that can be read."""
    from celeba_fl.rounds.exchange import PhaseProgress  # Flower, for which no list need wait

    try:
        return PhaseProgress(**json.loads((path / "progress.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def served(path: Path) -> dict[str, Any] | None:
    """What `serving.json` of a run directory says, while clients can join; else None."""
    try:
        said = read_json(path / "serving.json")
        age = (datetime.now(UTC) - datetime.fromisoformat(said["updated"])).total_seconds()
    except (InputError, ValueError, KeyError, TypeError):
        return None
    return said if age < STALE_SECONDS and said.get("state") != "ended" else None


def find_run(
    name: str, folder: Path, able: Callable[[RunInfo], bool] = lambda run: True
) -> RunInfo:
    """A run; arguments as in `find_directory`, but ``latest`` is the newest that is `able`.

    Raises
    ------
    InputError
        If there is none, or its files cannot be read.
    """
    if name == LATEST:
        for one in read_runs(folder):
            if one.status != "unreadable" and able(one):
                return one
    run = read_run(find_directory(name, folder))
    if run.status == "unreadable":
        raise InputError(f"{run.path} is unreadable: {run.reason}")
    return run


def final_model(run: RunInfo) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a run's `model.safetensors`, and its metadata.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read.
    """
    path = run.path / "model.safetensors"
    if not path.exists():
        raise InputError(
            f"{path} does not exist: the run is {run.status}, and its model is written when it "
            f"ends; resume it with resume = '{run.path}', or name another run"
        )
    try:
        with safe_open(path, "numpy") as file:
            names, metadata = file.keys(), file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{path}: {name} has NaN or infinity in it: predicts nothing")
    return arrays, metadata


def config_of(run: RunInfo) -> RunConfig:
    """The run config of a run, with its `home` as it was resolved, if that still exists."""
    kept = {"home": run.home} if run.home and Path(run.home).is_dir() else {}
    return RunConfig.load({**keys_read(run.config), **kept})


def check_provenance(run: RunInfo, provenance: Mapping[str, object]) -> None:
    """Raise InputError unless data and weights here are those of a run."""
    for key, value in provenance.items():
        before = run.provenance.get(key, value)  # a key may be newer than the run
        if before != value:
            raise InputError(f"{key} was {before} in {run.path.name} and is {value} now")


def dealing(config: Mapping[str, Any]) -> str:
    """How a run's images were dealt to clients, in a word; empty where its task deals by itself."""
    if config.get("dataset") == "none":
        return "sites of their own"
    task = str(config.get("task", RunConfig.task))
    try:
        # What a task of ours reads is known without it: a list of runs need not wait for it.
        read = "partitioner" in (keys_of(task) or keys_read(config))
    except InputError:  # a task that is not installed here
        return ""
    return str(config.get("partitioner", "")) if read else ""


def keys_read(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a run's task reads, as `run.json` has them, or as they were `BEFORE`.

    The others have today's defaults, which may have changed since. A key that is newer than the run
    is there only where its default is not what the run did.
    """
    from celeba_fl.task import task_class, unread

    task = task_class(str(config.get("task", RunConfig.task)))
    used = {**RunConfig.defaults(), **config}
    mattered = {
        "dirichlet-order": used["partitioner"] == "dirichlet",
        "allow-drawn-weights": used["weights"] == "drawn" != used["dataset"],
    }
    read = {key for key in task.reads if mattered.get(key, True)}
    ignored, before = unread(task), {key: BEFORE[key] for key in BEFORE if key in read}
    return before | {key: value for key, value in config.items() if key not in ignored}


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; InputError if there is none that can be read."""
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
        return max(count_rows(path) - 1, 0)  # round 0 does not count
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
