"""Sections of tables alone: settings, what the figures rest on, and CSV files of the task."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from celeba_fl.common.keys import describe, written
from celeba_fl.config import RunConfig, keys_of, places
from celeba_fl.report.html import Block, Table
from celeba_fl.report.reading import Rows, Run
from celeba_fl.report.sections.membership import HEADS
from celeba_fl.report.words import UNKNOWN, named, sentence

# Settings that everyone asks for first; of those of training, where the task reads them.
ALWAYS = ("dataset", "strategy", "num-server-rounds", "fraction-train", "seed")
MATTER = (*ALWAYS, "partitioner", "local-epochs", "batch-size", "learning-rate", "optimizer")
FOLDED_FROM = 20  # rows
MOST = 300  # rows that are shown
NUMBER = re.compile(r"(?:[-+]?\d*((?:\.\d+)?(?:[eE][-+]?\d+)?)|nan|-?inf)")  # or nothing


def settings(run: Run) -> list[Block]:
    """All run-config keys with their values."""
    config = run.info.config
    if not config:
        return []
    keys = {**describe(RunConfig.keys()), **_described(run.info.own_keys)}
    shown = {key: value for key, value in config.items() if key not in places()}
    changed = [k for k, value in shown.items() if keys.get(k, {}).get("default") != value]
    task = str(config.get("task"))
    # Which of ours a task from outside reads is not known; its own matter.
    read = (*ALWAYS[1:], *run.info.own_keys) if ":" in task else (*ALWAYS, *keys_of(task))
    first = [key for key in (*MATTER, *run.info.own_keys) if key in shown and key in read]
    first += [key for key in changed if key not in first]

    def rows(these: Iterable[str]) -> list[tuple[str, ...]]:
        meant = {k: str(keys.get(k, {}).get("meaning", "")).replace("`", "") for k in these}
        return [(k, written(shown[k]), meaning) for k, meaning in meant.items()]

    header = ("key", "value", "meaning")
    caption = "Settings that matter most, and all that are not the defaults"
    others = [key for key in shown if key not in first]
    return [
        Table(caption, header, rows(first), words=True),
        Table("The other settings", header, rows(others), folded=True, words=True),
    ]


def _described(own: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Default and meaning of the keys of a task from outside, by what its `run.json` says."""
    return {
        name: {field: description.get(field, "") for field in ("default", "meaning")}
        for name, description in own.items()
        if isinstance(description, dict)
    }


def foundations(run: Run) -> list[Block]:
    """Data, weights, seed and versions."""
    dataset, weights = run.info.dataset, run.info.weights
    code, splits = run.info.code, dataset.get("splits")
    whose = "weights" if run.info.config.get("task") == "dcgan" else "backbone weights"
    sizes = splits.items() if isinstance(splits, dict) else ()
    rows = [
        ("dataset", str(dataset.get("name", UNKNOWN))),
        ("fingerprint", str(dataset.get("fingerprint", UNKNOWN))),
        ("examples", ", ".join(f"{name} {size:,}" for name, size in sizes) or UNKNOWN),
        ("people in test", str(run.scores.num_identities) if run.scores else UNKNOWN),
        (whose, str(weights.get("name", UNKNOWN))),
        ("their sha256", str(weights.get("sha256", UNKNOWN))),
        ("features of an image", _features(run.info.features)),
        ("seed", str(UNKNOWN if run.info.seed is None else run.info.seed)),
        ("code", ", sha256 ".join(str(code[k]) for k in ("version", "sha256") if k in code)),
        ("versions", ", ".join(f"{k} {v}" for k, v in run.info.packages.items())),
        ("run directory", run.path.name),
    ]
    known = [row for row in rows if row[1] not in ("", UNKNOWN)]
    return [Table("Where the figures come from", ("what", "which"), known, words=True)]


def _features(said: Mapping[str, Any]) -> str:
    """How many a head sees, of which stages, of how large a picture, and how exactly."""
    if not said:
        return UNKNOWN
    dim, spec, size = (said.get(key, UNKNOWN) for key in ("dim", "spec", "image_size"))
    precision = f", in {said['precision']}" if "precision" in said else ""
    return f"{dim}: {spec}, at {size} pixels{precision}"


def task_tables(run: Run) -> list[Block]:
    """Each table of a task, with the name of its file as heading."""
    return [_table(name, rows) for name, rows in run.tables.items() if rows and name != HEADS]


def _table(name: str, rows: Rows) -> Table:
    caption = sentence(named(name))
    if len(rows) > MOST:
        caption += f": the first {MOST} of {len(rows):,} rows of {name}.csv"
    header = list(rows[0])
    shown = rows[:MOST]
    return Table(
        caption,
        [named(key) for key in header],
        [tuple(_cell(row[key]) for key in header) for row in shown],
        folded=len(rows) > FOLDED_FROM,
        texts=[
            i
            for i, key in enumerate(header)
            if not all(NUMBER.fullmatch(row[key]) for row in shown)
        ],
    )


def _cell(text: str) -> str:
    """A number that is not whole with four digits; all else as it is."""
    number = NUMBER.fullmatch(text)
    return f"{float(text):.4g}" if number and number[1] else text
