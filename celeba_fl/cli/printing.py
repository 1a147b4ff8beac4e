"""What every command prints in one way: a result as JSON, and runs in lines for people."""

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from celeba_fl.common.errors import encodable, printable
from celeba_fl.common.keys import written
from celeba_fl.config import RunConfig
from celeba_fl.runs.names import differing, shortened
from celeba_fl.runs.reading import RunInfo, dealing
from celeba_fl.runs.tables import defined

Json = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]

FIGURES = {
    "balanced_accuracy": "balanced",
    "accuracy": "accuracy",
    "auroc": "AUROC",
    "frechet_distance": "Fréchet",
}
SHORTEST_NAME = 30


def print_json(value: Any) -> None:
    """Print a result as JSON on one line; what is undefined is null."""
    print(json.dumps(_plain(value), allow_nan=False))


def described(info: RunInfo) -> dict[str, Any]:
    """A run for programs."""
    keys = ("name", "note", "path", "status", "reason", "started", "seconds", "rounds")
    said = {key: getattr(info, key) for key in keys}
    config = {key: info.config.get(key) for key in ("strategy", "task", "dataset")}
    return {**said, "clients": info.num_clients, **config, "test": info.summary}


def listed(infos: Sequence[RunInfo], width: int) -> list[str]:
    """Runs in a table, each on a line of so many characters, with as many columns as fit.

    Lines are plain, since a table of rich's with hundreds of rows takes longer than reading them.
    """
    figures = {title: [_figure(info, key) for info in infos] for key, title in FIGURES.items()}
    measured = {title: cells for title, cells in figures.items() if any(cells)}
    columns = {
        "status": [info.status for info in infos],
        "clients": [str(info.num_clients or "") for info in infos],
        "strategy": [str(info.config.get("strategy", "")) for info in infos],
    }
    more = {
        **dict([*measured.items()][:1]),
        "rounds": ["" if info.rounds is None else str(info.rounds) for info in infos],
        **measured,
        **{key: [str(info.config.get(key, "")) for info in infos] for key in ("task", "dataset")},
        "partitioner": [dealing(info.config) for info in infos],
        "directory": [info.path.name for info in infos],
    }
    names = [_line(info.name) for info in infos]
    longest = max(map(len, ("name", *names)))
    for title, cells in more.items():
        taken = _width(columns) + _width({title: cells})
        least = SHORTEST_NAME if title in [*measured][:1] else longest
        if taken + min(longest, least) <= width:
            columns[title] = cells
    longest = min(longest, max(width - _width(columns), SHORTEST_NAME))
    names = [shortened(name, longest) for name in names]
    rows = [[_line(cell) for cell in row] for row in zip(names, *columns.values(), strict=True)]
    rows.insert(0, ["name", *columns])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def told(info: RunInfo, width: int) -> list[str]:
    """All that a list leaves out of a run, in lines."""
    config, usual = info.config, RunConfig.defaults()
    changed = differing([config, {**config, **{key: usual[key] for key in usual if key in config}}])
    figures = ", ".join(
        f"{key.removeprefix('test_').replace('_', ' ')} {value:.3f}"
        for key, value in info.summary.items()
        if isinstance(value, float)
    )
    seconds = "" if info.seconds is None else f"{info.seconds:.1f}"
    rows: Mapping[str, object] = {
        "name": info.name,
        "note": info.note,
        "status": info.status,
        "reason": info.reason,
        "directory": info.path,
        "started": info.started,
        "seconds": seconds,
        "rounds": info.rounds,
        "clients": info.num_clients,
        "task": config.get("task"),
        "dataset": config.get("dataset"),
        "partitioner": dealing(config),
        "strategy": config.get("strategy"),
        "test": figures,
        "settings": ", ".join(f"{key} = {written(config[key])}" for key in changed),
    }
    longest = max(map(len, rows)) + 2
    lines: list[str] = []
    for title, value in rows.items():
        if value not in (None, ""):
            words = "".join(c if c.isprintable() else " " for c in encodable(str(value)))
            lines += textwrap.wrap(
                words,
                max(width, 2 * longest),
                initial_indent=title.ljust(longest),
                subsequent_indent=" " * longest,
                break_long_words=False,
                break_on_hyphens=False,
            )
    return lines


def _figure(info: RunInfo, metric: str) -> str:
    value = info.summary.get(f"test_{metric}")
    return f"{value:.3f}" if isinstance(value, float) else ""


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    """How many characters columns take, with the space before each."""
    return sum(2 + max(map(len, (title, *cells))) for title, cells in columns.items())


def _line(text: str) -> str:
    return printable(encodable(text))


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    value = defined(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
