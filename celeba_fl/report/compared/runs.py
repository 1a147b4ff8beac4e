"""Which runs are compared, by what they are called, and in what they differ."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from celeba_fl.config import places
from celeba_fl.report.html import Block, Table
from celeba_fl.report.reading import Run
from celeba_fl.report.words import UNKNOWN, written


def name_runs(runs: Sequence[Run]) -> dict[str, Run]:
    """Name each run by a letter and the settings that it does not share with the others."""
    differing = differing_keys(runs)
    names = {}
    for i, run in enumerate(runs):
        config = run.info.config
        special = [_special(key, config[key]) for key in differing if key in config]
        letter = chr(ord("A") + i) if len(runs) <= 26 else str(i + 1)
        names[f"{letter}: {', '.join(special[:2]) or run.path.name[:19]}"] = run
    return names


def differing_keys(runs: Sequence[Run]) -> list[str]:
    """The run-config keys whose values are not the same in all runs."""
    configs = [run.info.config for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config)
    return [
        key
        for key in keys
        if key not in places() and len({written(config.get(key)) for config in configs}) > 1
    ]


def overview(runs: Mapping[str, Run]) -> list[Block]:
    """The settings that differ, and facts about the runs."""
    header = ("", *runs)
    facts: list[tuple[str, Callable[[Run], str]]] = [
        ("folder", lambda run: run.path.name),
        ("status", lambda run: run.status),
        ("rounds", lambda run: str(max(run.last_round, 0))),
        ("clients", lambda run: str(run.info.num_clients or UNKNOWN)),
        ("dataset fingerprint", lambda run: str(run.info.dataset.get("fingerprint"))[:12]),
        ("weights sha256", lambda run: str(run.info.weights.get("sha256"))[:12]),
        ("code sha256", lambda run: str(run.info.code.get("sha256"))[:12]),
    ]
    rows = [(name, *(fact(run) for run in runs.values())) for name, fact in facts]
    keys = differing_keys(list(runs.values()))
    settings = [
        (key, *(written(run.info.config.get(key, UNKNOWN)) for run in runs.values()))
        for key in keys
    ]
    return [
        Table("Settings that differ", header, settings, words=True)
        if settings
        else "All settings are the same.",
        Table("The runs", header, rows, words=True),
    ]


def _special(key: str, value: Any) -> str:
    """A setting in a name: a word speaks for itself, a number does not."""
    if isinstance(value, str) and value:
        return Path(value).name
    return f"{key}={written(value)}"
