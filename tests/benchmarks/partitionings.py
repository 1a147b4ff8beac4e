"""The same images dealt in four ways, and held by one: what federation costs. Prints two tables.

python tests/benchmarks/partitionings.py dataset=/data/celeba weights=/data/mobilenet_v2.pt \
        [--folds 12] [--jobs 2] [--json partitionings.json]

Cross-validated as people.py says: `A ± b` is the mean over the folds and half of its 95 % interval.
"Trained centrally" is the best of the run's rounds by validation loss, "each alone" the mean of 50
clients. The second table has differences on the same folds. About 25 seconds of one core a fold
and partitioning: ten minutes on 2 cores.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from folds import FOLDS
from people import (
    METRICS,
    Figures,
    Settings,
    cell,
    cross_validate,
    finished_run,
    head,
    judge,
    less,
    line,
    workers,
)

from celeba_fl.launch.experiments import parse_pair
from celeba_fl.studies.baseline import make_baseline

CLIENTS = 50
PARTITIONINGS: dict[str, dict[str, Any]] = {
    "IID": {"partitioner": "iid"},
    "Dirichlet 1.0": {"partitioner": "dirichlet", "dirichlet-alpha": 1.0},
    "Dirichlet 0.1": {"partitioner": "dirichlet", "dirichlet-alpha": 0.1},
    "natural": {"partitioner": "natural"},
}
FASTER = {"groupings": "Male"}  # nobody reads how groups compare, and 50 clients are judged
CENTRAL = "trained centrally"
COLUMNS = list(METRICS.values())


def measure(settings: Settings, clients: int) -> dict[str, Figures]:
    """Run an experiment and its baseline; METRICS of each of the three on test."""
    with finished_run(settings, clients) as run:
        points = make_baseline(run)
    found = {
        "FedAvg": run.summary,
        CENTRAL: points["central"],
        "each alone": points["local"]["mean"],
    }
    return {name: judge(metrics, "test") for name, metrics in found.items()}


def main() -> None:
    """Measure all, and print a line for each as it is done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="*", type=parse_pair, help="run-config keys: key=value")
    parser.add_argument("--folds", type=int, default=FOLDS, choices=range(2, FOLDS + 1))
    parser.add_argument("--jobs", type=int, default=2, help="folds at a time")
    parser.add_argument("--json", type=Path, default=Path("partitionings.json"))
    said = parser.parse_args()
    settings, folds = dict(said.pairs), range(said.folds)
    rows: dict[str, dict[str, list[float]]] = {}
    print(head(["test", *COLUMNS]), flush=True)
    with workers(said.jobs) as pool:
        for where, partitioning in PARTITIONINGS.items():
            point = {**partitioning, **FASTER, **settings}
            measured = cross_validate(pool, point, CLIENTS, folds, measure)
            for name in measured[0]:
                row = name if name == CENTRAL else f"{name}, {where}"
                if row not in rows:  # what is trained centrally does not depend on the clients
                    rows[row] = {key: [fold[name][key] for fold in measured] for key in COLUMNS}
                    print(line([row, *(cell(key, rows[row][key]) for key in COLUMNS)]), flush=True)
            said.json.write_text(json.dumps(rows, indent=1))
    first, *others = rows
    print(f"\nLess {first}:\n\n{head(['test', *COLUMNS])}")
    for row in others:
        cells = [cell(key, less(rows[row][key], rows[first][key])) for key in COLUMNS]
        print(line([row, *cells]))


if __name__ == "__main__":
    main()
