"""Experiments: TOML files and pairs of key and value, merged into run-config keys."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli

from celeba_fl.common.bundle import PACKAGE
from celeba_fl.common.errors import InputError
from celeba_fl.common.keys import Key

EXPERIMENTS = PACKAGE / "experiments"
FEDERATIONS = PACKAGE / "federations"
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
    """A key and its value as TOML would read it; a bare word is a text."""
    key, _, value = pair.partition("=")
    try:
        return key, tomli.loads(f"value = {value}")["value"]
    except tomli.TOMLDecodeError:
        return key, value


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
        If the file cannot be read, or the number is not a whole number above 0.
    """
    path = federation or SIMULATION
    number = read_toml(path).get("num-supernodes", 2)
    if type(number) is not int or number < 1:
        raise InputError(f"{path}: num-supernodes = {number!r}: must be a whole number above 0")
    return number


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; InputError if it cannot be read."""
    try:
        return tomli.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
