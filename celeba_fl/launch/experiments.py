"""Experiments: TOML files and pairs of key and value, merged into run-config keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli

from celeba_fl.common.bundle import PACKAGE
from celeba_fl.common.errors import InputError

EXPERIMENTS = PACKAGE / "experiments"
FEDERATIONS = PACKAGE / "federations"
SIMULATION = FEDERATIONS / "simulation-50.toml"
# Keys that may have a path in them, words there that are none, and places that a run makes.
PATHS = ("dataset", "weights", "teacher", "resume", "home", "results-dir")
NO_PATHS = ("drawn", "none", "imagenet", "simulated", "latest", "")
MADE = ("home", "results-dir")


def read_experiment(name: str) -> dict[str, Any]:
    """The run-config keys of a TOML file, or of an experiment of ours by its name.

    Raises
    ------
    InputError
        If there is none, or it is no TOML.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        path = EXPERIMENTS / f"{name.removesuffix('.toml')}.toml"
    if not path.is_file():
        ours = ", ".join(sorted(path.stem for path in EXPERIMENTS.glob("*.toml")))
        raise InputError(f"no experiment {name!r}: neither a file nor one of {ours}")
    return _read_toml(path)


def parse_pair(pair: str) -> tuple[str, Any]:
    """A key and its value as TOML would read it; a bare word is a text."""
    key, _, value = pair.partition("=")
    try:
        return key, tomli.loads(f"value = {value}")["value"]
    except tomli.TOMLDecodeError:
        return key, value


def absolute_paths(keys: Mapping[str, Any]) -> dict[str, str]:
    """Those that name a place from here: a simulation works where its SuperLink was started."""
    return {
        key: str(Path(value).absolute())
        for key, value in ((key, str(keys[key])) for key in PATHS if key in keys)
        if key in MADE or (value not in NO_PATHS and Path(value).exists())
        if not value.startswith("~")
    }


def num_supernodes(federation: Path | None) -> int:
    """The number of nodes of a federation file."""
    nodes: int = _read_toml(federation or SIMULATION).get("num-supernodes", 2)
    return nodes


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomli.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomli.TOMLDecodeError) as error:
        raise InputError(f"{path}: {error}") from error
