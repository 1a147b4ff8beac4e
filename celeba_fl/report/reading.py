"""The files of a run directory, as far as they can be read."""

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from celeba_fl.evaluation.resampling import Scores, read_scores
from celeba_fl.report.names import PARTS, rank
from celeba_fl.runs.reading import RunInfo, read_run
from celeba_fl.runs.tables import read_csv

T = TypeVar("T")
Rows = Sequence[Mapping[str, str]]

# Tables that the sections know; the task's own tables are all others, and the epochs.
TABLES = (
    *("rounds", "clients", "epochs", "partitions", "attributes", "groups", "fairness"),
    *("calibration", "corrections", "teacher", "fairer", "contributions", "failures"),
)
OTHERS = {*TABLES, "nodes"} - {"epochs"}
# Clients that a picture shows each for itself; of more it shows a sample.
MOST_CLIENTS = 200
# Columns without which a row says nothing.
KEYS = {
    "rounds": ("round",),
    "clients": ("round", "client"),
    "epochs": ("round", "client", "epoch"),
    "partitions": ("client",),
    "failures": ("round", "phase", "client"),
}


@dataclass(frozen=True)
class Run:
    """A run directory; a file that is missing or broken is empty here.

    The rows are those of the CSV files, `tables` has those of the task itself by name, `baseline`
    is what `celeba-fl baseline` writes, `privacy` the ledger of a run under a budget, and
    `withdrawals` those of `withdrawals.json`. There are test scores of the run and of the head
    trained centrally. `problems` says which files could not be read, and why.
    """

    path: Path
    info: RunInfo
    rounds: Rows
    clients: Rows
    epochs: Rows
    partitions: Rows
    attributes: Rows
    calibration: Rows
    groups: Rows
    fairness: Rows
    corrections: Rows
    teacher: Rows
    fairer: Rows
    contributions: Rows
    failures: Rows
    tables: Mapping[str, Rows]
    baseline: dict[str, Any]
    privacy: dict[str, Any]
    withdrawals: Sequence[Mapping[str, Any]]
    scores: Scores | None
    central: Scores | None
    problems: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, whole: bool = True) -> "Run":
        """Read what there is; all of it, or only how the run went as a whole."""
        problems: list[str] = []

        def attempt(name: str, read: Callable[[Path], Any], otherwise: Any) -> Any:
            wanted = whole or name == "rounds.csv"
            try:
                return read(path / name) if wanted and (path / name).exists() else otherwise
            except (ValueError, KeyError, TypeError, OSError, RecursionError, csv.Error) as error:
                problems.append(f"{name} cannot be read: {error}")
                return otherwise

        own = sorted(file.stem for file in path.glob("*.csv") if file.stem not in OTHERS)
        return cls(
            path,
            read_run(path),
            **{name: attempt(f"{name}.csv", _read_rows, []) for name in TABLES},
            tables={name: attempt(f"{name}.csv", _read_rows, []) for name in own},
            baseline=attempt("baseline.json", _read_object, {}),
            privacy=attempt("privacy.json", _read_privacy, {}),
            withdrawals=attempt("withdrawals.json", _read_withdrawals, []),
            scores=attempt("test_scores.parquet", partial(_read_judged, path), None),
            central=attempt("baseline_scores.parquet", read_scores, None),
            problems=problems,
        )

    @property
    def last_round(self) -> int:
        """The last round in `rounds.csv`, -1 without any."""
        return int(self.rounds[-1]["round"]) if self.rounds else -1

    def metric_names(self) -> list[str]:
        """The metrics in `rounds.csv`, those that people look at first in front."""
        columns = self.rounds[0] if self.rounds else {}
        found = [
            column.removeprefix(f"{part}_")
            for part in PARTS
            for column in columns
            if column.startswith(f"{part}_")
        ]
        return sorted(dict.fromkeys(found), key=rank)

    def results(self) -> "Results":
        """The final test figures; else the latest ones, of the clients' validation at worst."""
        if summary := _metrics(self.info.summary, "test"):
            return Results("the final model, on the test split", summary)
        last = self.rounds[-1] if self.rounds else {}
        for part in ("test", "valid"):
            if found := _metrics(last, part):
                where = f"the model after round {self.last_round}, {PARTS[part]} split"
                return Results(where, found)
        return Results("nothing measured yet", {})

    def reference(self, *keys: str) -> dict[str, float]:
        """Figures of `baseline.json`, e.g. of ``central`` or ``local``, ``mean``."""
        value: Any = self.baseline
        for key in keys:
            value = value.get(key, {}) if isinstance(value, dict) else {}
        return _metrics(value, "test") if isinstance(value, dict) else {}


@dataclass(frozen=True)
class Results:
    """Figures of one model, which `where` describes; the metrics to look at first are in front."""

    where: str
    values: dict[str, float]


def number(row: Mapping[str, str], column: str) -> float:
    """A cell; NaN if it is empty or missing."""
    return float(row.get(column) or "nan")


def bounds(row: Mapping[str, str], column: str) -> tuple[float, float]:
    """The interval of a cell; NaN without one."""
    return number(row, f"{column}_low"), number(row, f"{column}_high")


def floats(rows: Rows, column: str) -> np.ndarray:
    """A column; NaN where it is empty or missing."""
    return np.array([number(row, column) for row in rows])


def sampled(rows: Rows, column: str) -> Rows:
    """`MOST_CLIENTS` rows of more: the lowest in a column, the highest, and quantiles between."""
    if len(rows) <= MOST_CLIENTS:
        return rows
    return spaced([rows[i] for i in np.argsort(floats(rows, column), kind="stable")])


def spaced(sequence: Sequence[T]) -> list[T]:
    """`MOST_CLIENTS` of more, evenly spaced, the first and the last among them."""
    places = np.linspace(0, len(sequence) - 1, min(len(sequence), MOST_CLIENTS))
    return [sequence[i] for i in places.round().astype(int).tolist()]


def rows_of(rows: Rows, split: str = "test") -> Rows:
    """The rows of a split."""
    return [row for row in rows if row.get("split") == split]


def by_prevalence(rows: Rows) -> Rows:
    """Attributes with the rarest last, so that pictures show the imbalance."""
    share = floats(rows, "positives") / floats(rows, "n")
    return [rows[i] for i in np.argsort(-share, kind="stable")]


def test_figures(row: Mapping[str, str]) -> dict[str, float]:
    """The metrics of the test split in a row of `rounds.csv`."""
    return _metrics(row, "test")


def _metrics(values: Mapping[str, Any], part: str) -> dict[str, float]:
    """The metrics of a part that are defined."""
    found = {
        key.removeprefix(f"{part}_"): float(value)
        for key, value in values.items()
        if key.startswith(f"{part}_")
        if value not in ("", None) and math.isfinite(float(value))
    }
    return dict(sorted(found.items(), key=lambda item: rank(item[0])))


def _read_rows(path: Path) -> Rows:
    rows = read_csv(path)
    for number, row in enumerate(rows, start=2):
        missing = [key for key in KEYS.get(path.stem, ()) if not row.get(key)]
        if None in (*row, *row.values()) or missing or not row.get("round", "0").isdecimal():
            raise ValueError(f"line {number} is broken")
    return rows


def _read_judged(run: Path, path: Path) -> Scores:
    """The test scores, with the thresholds that the run judged them by."""
    scores = read_scores(path)
    rows = {row["attribute"]: row for row in rows_of(read_csv(run / "attributes.csv"))}
    thresholds = floats([rows.get(name, {}) for name in scores.attributes], "threshold")
    return replace(scores, thresholds=np.nan_to_num(thresholds))


def _read_object(path: Path) -> dict[str, Any]:
    read = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(read, dict):
        raise ValueError("it is not a JSON object")
    return read


def _read_withdrawals(path: Path) -> list[dict[str, Any]]:
    said = _read_object(path)["withdrawals"]
    if not isinstance(said, list) or not all(isinstance(one, dict) for one in said):
        raise ValueError("it holds no list of withdrawals")
    return said


def _read_privacy(path: Path) -> dict[str, Any]:
    said = _read_object(path)
    numbers = [said[key] for key in ("epsilon", "delta", "total")]
    for one in said["releases"]:
        numbers += [one[key] for key in ("round", "sensitivity", "sigma", "epsilon")]
    if not all(math.isfinite(value) for value in numbers):
        raise ValueError("it has a number that is none")
    return said
