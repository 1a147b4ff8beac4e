"""Experiments: TOML files and pairs of key and value, merged into run-config keys."""

import re
from collections.abc import Iterable, Mapping
from datetime import date, time
from pathlib import Path
from typing import Any

import tomli

from celeba_fl.common import flower
from celeba_fl.common.bundle import PACKAGE
from celeba_fl.common.errors import InputError
from celeba_fl.common.keys import Key

EXPERIMENTS = PACKAGE / "experiments"
FEDERATIONS = PACKAGE / "federations"
# What TOML does not take for a number: one without digits before or after the point.
PYTHON_NUMBER = re.compile(r"[+-]?(\d+\.|\.\d+)([eE][+-]?\d+)?")
SIMULATION = FEDERATIONS / "simulation-50.toml"


def read_experiment(name: str, pairs: Iterable[str] = ()) -> dict[str, Any]:
    """The run-config keys of an experiment, overridden by pairs ``key=value``.

    `name` is a TOML file, the name of one of ours, or ``.`` for the app's own defaults.

    Raises
    ------
    InputError
        If there is no such experiment, or it is not TOML.
    """
    path, overrides = Path(name).expanduser(), dict(map(parse_pair, pairs))
    if name == ".":
        return overrides
    if not path.is_file():
        path = EXPERIMENTS / f"{name.removesuffix('.toml')}.toml"
    if not path.is_file():
        ours = ", ".join(sorted(path.stem for path in EXPERIMENTS.glob("*.toml")))
        raise InputError(f"no experiment {name!r}: neither a file nor one of {ours}")
    return {**read_toml(path), **overrides}


def parse_pair(pair: str) -> tuple[str, Any]:
    """A key and its value as TOML would read it, or Python; a bare word and a date are texts."""
    key, _, value = pair.partition("=")
    try:
        read = tomli.loads(f"value = {value}")["value"]
        return key, value if isinstance(read, date | time) else read  # a datetime is a date
    except tomli.TOMLDecodeError:
        pass
    if value in ("True", "False"):
        return key, value == "True"
    return key, float(value) if PYTHON_NUMBER.fullmatch(value) else value


def absolute_paths(settings: Mapping[str, Any], keys: Mapping[str, Key]) -> dict[str, str]:
    """Settings that name a place from here: a simulation works where its SuperLink was started."""
    return {
        name: str(Path(value).absolute())
        for name, key in keys.items()
        if key.kind and (value := str(settings.get(name, ""))) not in ("", *key.words)
        if (key.kind == "place" or Path(value).exists()) and not value.startswith("~")
    }


def num_supernodes(federation: Path | None) -> int:
    """The number of nodes of a federation file; None is that of the default simulation.

    Raises
    ------
    InputError
        If the file cannot be read, or Flower would not take it.
    """
    path = federation or SIMULATION
    return flower.num_supernodes(read_toml(path), path)


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; InputError if it cannot be read."""
    try:
        return tomli.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
