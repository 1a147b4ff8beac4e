"""A grid of settings over warm features, ranked on validation.

Every point of the grid is a run in one process (see `inline`), with its run directory in the
sweep's. So an interrupted sweep continues where it was, and a larger grid in the same
directory computes only what is new. `seed` is not a setting: settings are ranked by their mean
over seeds, since nobody should choose by the luckiest one.

While runs work, only their progress is shown: their log has test figures, which may decide
nothing.
"""

import logging
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.markup import escape
from rich.table import Table

from celeba_fl.client_app import app as client_app
from celeba_fl.common.errors import InputError
from celeba_fl.common.files import write_bytes
from celeba_fl.common.log import FLOWER, LOG, Progress, only
from celeba_fl.config import RunConfig, places
from celeba_fl.launch.app import load_config
from celeba_fl.launch.inline import run_inline
from celeba_fl.report.charts import draw, to_png
from celeba_fl.report.pictures import curves
from celeba_fl.runs.reading import RunInfo, read_runs
from celeba_fl.runs.tables import read_csv, write_csv
from celeba_fl.server_app import app as server_app
from celeba_fl.task import load_task

# A quoted text, or else what lies between two commas.
VALUE = re.compile(r"""(?:"[^"]*"|'[^']*'|[^,])+""")
VALIDATION = ("server_valid_", "valid_")

Values = dict[str, Any]


@dataclass(frozen=True)
class GridPoint:
    """A point of the grid, its seeds taken together.

    The scores are the validation metric of its finished runs, one a seed, after their last round;
    there is none for what is undefined.
    """

    values: Values  # of the run-config keys that the grid varies, `seed` aside
    runs: tuple[RunInfo, ...]
    scores: tuple[float, ...]
    reasons: tuple[str, ...]  # why runs failed

    @property
    def ranks(self) -> bool:
        """True if all of its runs have a score."""
        return bool(self.scores) and len(self.scores) == len(self.runs) and not self.reasons

    def row(self, metric: str) -> Values:
        """The row of `sweep.csv`, its rank aside."""
        return {
            **self.values,
            "seeds": len(self.runs),
            metric: fmean(self.scores) if self.ranks else None,
            f"{metric}_std": stdev(self.scores) if self.ranks and len(self.scores) > 1 else None,
            "seconds": round(sum(run.seconds or 0.0 for run in self.runs), 1),
            "runs": " ".join(run.path.name for run in self.runs),
            "reason": "; ".join(self.reasons),
        }

    def test(self) -> dict[str, list[float]]:
        """The final test metrics of its runs."""
        figures: dict[str, list[Any]] = {
            name: [run.summary.get(name) for run in self.runs] for name in self.runs[0].summary
        }
        return {name: values for name, values in figures.items() if None not in values}


@dataclass(frozen=True)
class Sweep:
    """Settings by rank, by a column of `rounds.csv`: the best first, those without a score last."""

    metric: str
    settings: tuple[GridPoint, ...]

    def rows(self) -> list[Values]:
        """Rows of `sweep.csv`."""
        return [
            {"rank": rank if setting.ranks else None, **setting.row(self.metric)}
            for rank, setting in enumerate(self.settings, start=1)
        ]

    def table(self) -> Table:
        """Table for people, without empty columns and the names of directories."""
        rows = self.rows()
        shown = [key for key in rows[0] if key != "runs" and any(row[key] for row in rows)]
        table = Table(*shown)
        for row in rows:
            cells = ("" if row[key] is None else row[key] for key in shown)
            texts = (f"{c:.5g}" if isinstance(c, float) else str(c) for c in cells)
            table.add_row(*map(escape, texts))
        return table

    def found(self) -> dict[str, Any]:
        """What `table` and `verdict` say, for programs: `test` has the values of each seed."""
        best = self.settings[0]
        return {
            "metric": self.metric,
            "settings": self.rows(),
            "best": best.values,
            "test": best.test(),
        }

    def verdict(self) -> list[str]:
        """The best setting, and its test figures, for the first and only time."""
        best = self.settings[0]
        words = [shlex.quote(f"{key}={value}") for key, value in best.values.items()]
        figures = []
        for name, values in best.test().items():
            spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
            figures.append(f"{name.removeprefix('test_')} {fmean(values):.4f}{spread}")
        return [
            f"Best by {self.metric}: {' '.join(words) or 'the only setting'}",
            f"Its test split, which decided nothing: {', '.join(figures) or 'none here'}",
        ]


def split_values(text: str) -> list[str]:
    """The values of a key: what commas separate that are not within quotes.

    ``1,5`` are two values, and ``"Male,Young"`` with its quotes is one. A shell takes quotes for
    its own, so there the whole word goes into others: ``'partition-by="Male,Young",Male'``.
    """
    return VALUE.findall(text) or [""]


def run_sweep(
    fixed: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    nodes: int,
    out: Path,
    metric: str | None = None,
) -> Sweep:
    """Run what is missing of a grid, rank it, and write `sweep.csv` and `sweep.png`.

    All points share the run-config keys `fixed`, and `grid` has those to try with their values. The
    run directories and the two files are in `out`. The metric is a validation column of
    `rounds.csv`; the task knows of which less is better. None: the metric that `watch` names, on
    the server's validation split, or without one on the clients'.

    Raises
    ------
    InputError
        Before anything runs, for a point that is not a valid run config, or a metric that is not
        one of validation; afterwards, if no point has the metric.
    """
    place = {"resume": "", "results-dir": str(out)}
    points = (dict(zip(grid, values, strict=True)) for values in product(*grid.values()))
    configs = list(dict.fromkeys(load_config({**fixed, **point, **place}) for point in points))
    columns = _columns(configs[0], metric)
    varied = [key for key, values in grid.items() if len(values) > 1]
    reasons: dict[RunConfig, str] = {}
    progress = Progress("Sweeping", len(configs), every=0)
    with only(_is_progress, LOG, FLOWER):
        for number, config in enumerate(configs, start=1):
            label = " ".join(f"{key}={config.to_dict()[key]}" for key in varied)
            LOG.info("Point %d of %d: %s", number, len(configs), label)
            try:
                before = _find(config, nodes, out)
                if before is None or not _done(before):
                    resume = str(before.path) if before else ""
                    run_inline(replace(config, resume=resume), nodes, server_app, client_app)
            except Exception as error:  # one setting that cannot be run is a result too
                reasons[config] = str(error) or repr(error)
                LOG.warning("%s failed: %s", label, reasons[config])
            progress.advance()
    runs = {config: _find(config, nodes, out) for config in configs}
    sweep = _rank(runs, reasons, [key for key in varied if key != "seed"], columns)
    write_csv(out / "sweep.csv", sweep.rows())
    if keys := list(sweep.settings[0].values):
        picture = curves.sweep(sweep.rows(), keys, sweep.metric)
        write_bytes(out / "sweep.png", to_png(draw(picture)))
    return sweep


def _columns(config: RunConfig, metric: str | None) -> list[str]:
    """The columns of `rounds.csv` that may rank, the preferred one first."""
    columns_of_task = [
        f"{part}{name}" for part in VALIDATION for name in load_task(config).metric_names
    ]
    columns = [metric] if metric else [f"{part}{config.watch}" for part in VALIDATION]
    if not set(columns) <= set(columns_of_task):
        raise InputError(
            f"{metric or config.watch!r} cannot rank settings: it must be a validation metric of "
            f"the task {config.task}, one of {', '.join(columns_of_task)}"
        )
    return columns


def _find(config: RunConfig, nodes: int, out: Path) -> RunInfo | None:
    """The run of a point, a finished one if there are several."""
    anywhere = dict.fromkeys(places())
    wanted = config.to_dict() | anywhere
    runs = (run for run in read_runs(out) if run.num_clients in (nodes, None))
    same = (run for run in runs if {**run.config, **anywhere} == wanted)
    return max(same, key=_done, default=None)


def _done(run: RunInfo) -> bool:
    return run.status in ("completed", "stopped")


def _rank(
    runs: Mapping[RunConfig, RunInfo | None],
    reasons: Mapping[RunConfig, str],
    keys: Sequence[str],
    columns: Sequence[str],
) -> Sweep:
    last = {
        config: (read_csv(run.path / "rounds.csv") or [{}])[-1]
        for config, run in runs.items()
        if run and _done(run)
    }
    metric = next((c for c in columns if any(row.get(c) for row in last.values())), columns[0])
    groups: dict[tuple[Any, ...], list[RunConfig]] = {}
    for config in runs:
        groups.setdefault(tuple(config.to_dict()[key] for key in keys), []).append(config)
    settings = [
        GridPoint(
            values=dict(zip(keys, values, strict=True)),
            runs=tuple(run for c in configs if c in last and (run := runs[c])),
            scores=tuple(float(last[c][metric]) for c in configs if last.get(c, {}).get(metric)),
            reasons=tuple(reasons[c] for c in configs if c in reasons),
        )
        for values, configs in groups.items()
    ]
    lower = load_task(next(iter(runs))).lower_is_better
    sign = 1 if metric.removeprefix("server_").removeprefix("valid_") in lower else -1
    settings.sort(key=lambda s: sign * fmean(s.scores) if s.ranks else float("inf"))
    if not settings[0].ranks:
        why = f": {next(iter(reasons.values()))}" if reasons else ""
        raise InputError(f"no setting of the grid has a {' or '.join(columns)} to rank it by{why}")
    return Sweep(metric, tuple(settings))


def _is_progress(record: logging.LogRecord) -> bool:
    """Whether a line warns or tells progress; the log of a run has test figures."""
    return record.levelno >= logging.WARNING or record.module in ("log", "sweep")
