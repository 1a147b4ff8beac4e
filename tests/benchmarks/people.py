"""Cross-validation over people: what the benchmarks share, and a grid of settings judged by it.

python tests/benchmarks/people.py dataset=/data/celeba weights=/data/mobilenet_v2.pt \
        learning-rate=1e-3,3e-4 strategy=fedavg,fedprox partitioner=iid,natural [--clients 50] \
        [--folds 12] [--jobs 2] [--by loss] [--json people.json]

The people of a folder in CelebA's official layout are dealt into 12 folds, whatever its splits
are. Each fold in turn is the test split, the next one the validation split, and the other ten are
trained on. Settings are ranked by their mean on validation; test decides nothing and comes last.
`A ± b` is the mean over folds and half of its 95 % interval, by Student's t. What the JSON file
holds is not run again: delete it once the code has changed. With `--folds 2` only the first two
folds are tested, for a try.
"""

import argparse
import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any, TypeVar

import numpy as np
from folds import FOLDS, fold_datasets
from scipy import stats

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.common.files import write_bytes
from celeba_fl.common.log import FLOWER
from celeba_fl.config import RunConfig, places
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.evaluation.resampling import Scores, read_scores
from celeba_fl.launch.app import load_config
from celeba_fl.launch.experiments import absolute_paths, parse_pair
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import RunInfo, read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.studies.sweep import split_values

# Columns of the tables by the metric that they show; rates are in per cent.
METRICS = {
    "accuracy": "accuracy above majority",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "loss": "loss",
}
COSTS = ("rounds", "MB a client", "seconds")

Settings = dict[str, Any]  # by run-config key
Figures = dict[str, float]  # by column
T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """What a run on one fold gave.

    `figures` are METRICS and the loss of round 0 behind ``valid`` and ``test``, and COSTS, of which
    the seconds are those of its rounds; `losses` are on validation, of each round from 0 on;
    `scores` are those of the fold's images by the final model.
    """

    figures: Figures
    losses: list[float]
    scores: Scores | None = None


# ---- runs --------------------------------------------------------------------------------------


def workers(jobs: int) -> ProcessPoolExecutor:
    """Processes that run folds, on one thread each."""
    return ProcessPoolExecutor(jobs, get_context("spawn"), _begin)


def _begin() -> None:
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)
    FLOWER.setLevel(logging.WARNING)
    server_app._draw_report = lambda run: None  # nobody reads it, and it takes seconds


@contextmanager
def finished_run(settings: Settings, clients: int) -> Iterator[RunInfo]:
    """Run an experiment; its directory is there for as long as the context lasts."""
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig.load({**settings, "results-dir": folder})
        run_inline(config, clients, server_app.app, client_app)
        (run,) = read_runs(Path(folder))
        yield run


def measure(settings: Settings, clients: int) -> Measured:
    """Run an experiment and take its figures."""
    with finished_run(settings, clients) as run:
        return read_figures(run, clients)


def read_figures(run: RunInfo, clients: int) -> Measured:
    """The figures of a finished run."""
    rounds = read_csv(run.path / "rounds.csv")
    figures: Figures = {}
    for part, source, row in (("valid", "server_valid", rounds[-1]), ("test", "test", run.summary)):
        figures |= {f"{part} {name}": value for name, value in judge(row, source).items()}
        figures[f"{part} loss of round 0"] = number(rounds[0][f"{source}_loss"])
    sent = sum(int(row[key]) for row in rounds for key in ("bytes_up", "bytes_down"))
    costs = int(rounds[-1]["round"]), sent / clients / 1e6, sum(float(r["seconds"]) for r in rounds)
    figures |= dict(zip(COSTS, costs, strict=True))
    losses = [number(row["server_valid_loss"]) for row in rounds]
    return Measured(figures, losses, read_scores(run.path / "test_scores.parquet"))


def judge(row: Mapping[str, Any], part: str) -> Figures:
    """METRICS, by column, of a part in a row of metrics."""
    values = {name: number(row[f"{part}_{name}"]) for name in (*METRICS, "majority_accuracy")}
    values["accuracy"] -= values["majority_accuracy"]
    factor = {name: 1 if name == "loss" else 100 for name in METRICS}
    return {column: factor[name] * values[name] for name, column in METRICS.items()}


def number(value: Any) -> float:
    """A figure; NaN for one that is undefined."""
    return float("nan") if value in ("", None) else float(value)


def cross_validate(
    pool: ProcessPoolExecutor,
    settings: Settings,
    clients: int,
    folds: Iterable[int],
    work: Callable[[Settings, int], T],
    of: int = FOLDS,
) -> list[T]:
    """Run an experiment on some folds, of so many in all; what `work` gives on each."""
    datasets = fold_datasets(load_config(settings), of)
    planned = [pool.submit(work, {**settings, "dataset": str(datasets[k])}, clients) for k in folds]
    return [future.result() for future in planned]


def pooled(folds: Iterable[Measured]) -> Scores:
    """The scores of all images, each by the model that has not seen its person."""
    scores = [fold.scores for fold in folds if fold.scores is not None]
    columns = (
        np.concatenate([getattr(one, name) for one in scores])
        for name in ("image", "celeb_id", "labels", "scores")
    )
    image, celeb_id, labels, outputs = columns
    return Scores(image, celeb_id, ATTRIBUTES, labels, outputs)


# ---- tables ------------------------------------------------------------------------------------


def mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    """The mean over folds, and half of its 95 % interval; NaN for one fold."""
    n = len(values)
    quantile = float(stats.t.ppf(0.975, n - 1)) if n > 1 else float("nan")
    return mean(values), quantile * (stdev(values) if n > 1 else 0) / n**0.5


def less(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """`one` less `other` on each fold: paired, so that its interval is of the difference."""
    return [a - b for a, b in zip(one, other, strict=True)]


def cell(column: str, values: Sequence[float], sign: str = "") -> str:
    """A figure with its interval; what a run costs without one. A difference has a sign."""
    middle, half = mean_and_half(values)
    if column in COSTS:
        return f"{middle:.3g}" if column == "rounds" else f"{middle:.1f}"
    digits = 4 if "loss" in column else 2
    return f"{middle:{sign}.{digits}f}" + (f" ± {half:.{digits}f}" if len(values) > 1 else "")


def line(cells: Iterable[object]) -> str:
    """A row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def head(columns: Sequence[str]) -> str:
    """The head of a table."""
    return f"{line(columns)}\n|{'---|' * len(columns)}"


# ---- the command -------------------------------------------------------------------------------


def grid_of(pairs: Iterable[str]) -> dict[str, list[Any]]:
    """Values to try by key, as `celeba-fl sweep` reads them."""
    texts = {key: text for key, _, text in (pair.partition("=") for pair in pairs)}
    return {
        key: [parse_pair(f"{key}={value}")[1] for value in split_values(text)]
        for key, text in texts.items()
    }


class Kept:
    """The figures of settings by fold, kept in a JSON file if there is one."""

    def __init__(self, path: Path | None, clients: int) -> None:
        self.path, self.clients = path, clients
        self.rows = json.loads(path.read_text()) if path and path.exists() else []

    def run(self, pool: ProcessPoolExecutor, settings: Settings, folds: int) -> list[Figures]:
        """Run settings on those of the first folds that are not there yet; the figures of all."""
        there = self._folds(settings)
        missing = [k for k in range(folds) if str(k) not in there]
        if missing:
            measured = cross_validate(pool, settings, self.clients, missing, measure)
            for k, fold in zip(missing, measured, strict=True):
                there[str(k)] = {"figures": fold.figures, "losses": fold.losses}
        if self.path and missing:
            write_bytes(self.path, f"{json.dumps(self.rows, indent=1)}\n".encode())
        return [there[str(k)]["figures"] for k in range(folds)]

    def _folds(self, settings: Settings) -> dict[str, Any]:
        """What there is of settings, by the number of the fold as a text."""
        values = load_config(settings).to_dict()
        config = {key: value for key, value in values.items() if key not in places()}
        for row in self.rows:
            if (row["config"], row["clients"]) == (config, self.clients):
                return row["folds"]
        self.rows.append({"config": config, "clients": self.clients, "folds": {}})
        return self.rows[-1]["folds"]


def main() -> None:
    """Run what is missing of a grid, a line for each setting once it is done; then rank them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="+", help="run-config keys: key=value[,value...]")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--folds", type=int, default=FOLDS, choices=range(1, FOLDS + 1))
    parser.add_argument("--jobs", type=int, default=2, help="folds at a time")
    parser.add_argument("--by", choices=METRICS, default="loss", help="on validation")
    parser.add_argument("--json", type=Path, help="file of figures by fold, kept and used")
    said = parser.parse_args()
    grid = grid_of(said.pairs)
    points = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    points = [point | absolute_paths(point, RunConfig.keys()) for point in points]
    for point in points:
        load_config(point)  # refuses what cannot be run
    varied = [key for key, values in grid.items() if len(values) > 1]
    parts = [f"{part} {column}" for part in ("valid", "test") for column in METRICS.values()]
    columns = [*parts, "test loss of round 0", *COSTS]
    kept, ranked = Kept(said.json, said.clients), []
    print(head([*varied, *columns]), flush=True)
    with workers(said.jobs) as pool:
        for point in points:
            names = [str(point[key]) for key in varied]
            try:
                each = kept.run(pool, point, said.folds)
            except Exception as error:  # one setting that cannot be run is a result too
                print(line([*names, f"failed: {error}"]), flush=True)
                continue
            values = {column: [figures[column] for figures in each] for column in columns}
            text = line([*names, *(cell(column, values[column]) for column in columns)])
            print(text, flush=True)
            ranked.append((values[f"valid {METRICS[said.by]}"], text))
    if not ranked:
        raise SystemExit(1)
    ranked.sort(key=lambda one: mean(one[0]), reverse=said.by != "loss")
    by, best = f"valid {METRICS[said.by]}", ranked[0][0]
    print(f"\nBy {by}:\n\n{head([f'{by}, less the best', *varied, *columns])}")
    for values_by, text in ranked:
        print(f"| {cell(by, less(values_by, best))} {text}")


if __name__ == "__main__":
    main()
