"""The same images dealt in four ways: what non-IID data costs. Prints a Markdown table.

python tests/benchmarks/partitionings.py dataset=/data/celeba weights=/data/mobilenet_v2.pt \
        image-size=224
"""

import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from celeba_fl.cli import parse_pair
from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.inline import run_inline
from celeba_fl.runs import read_csv, read_runs
from celeba_fl.server_app import app as server_app

CLIENTS = 50
SEEDS = (1, 2, 3)
PARTITIONINGS: dict[str, dict[str, Any]] = {
    "IID": {"partitioner": "iid"},
    "Dirichlet 1.0": {"partitioner": "dirichlet", "dirichlet-alpha": 1.0},
    "Dirichlet 0.1": {"partitioner": "dirichlet", "dirichlet-alpha": 0.1},
    "natural": {"partitioner": "natural"},
}


def measure(settings: dict[str, Any]) -> dict[str, float]:
    """Run an experiment; its test metrics in per cent, and the smallest and largest client."""
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig.load({**settings, "results-dir": folder})
        run_inline(config, CLIENTS, server_app, client_app)
        (run,) = read_runs(Path(folder))
        sizes = [int(row["num_examples"]) for row in read_csv(run["path"] / "partitions.csv")]
    test = run["summary"]
    return {
        "accuracy above majority": 100 * (test["test_accuracy"] - test["test_majority_accuracy"]),
        "balanced accuracy": 100 * test["test_balanced_accuracy"],
        "AUROC": 100 * test["test_auroc"],
        "smallest client": min(sizes),
        "largest client": max(sizes),
    }


def main() -> None:
    """Measure all, and print mean ± standard deviation over the seeds."""
    overrides = dict(parse_pair(pair) for pair in sys.argv[1:])
    for name, partitioning in PARTITIONINGS.items():
        runs = [measure({**partitioning, **overrides, "seed": seed}) for seed in SEEDS]
        if name == "IID":
            print(f"\n| partitioning | {' | '.join(runs[0])} |")
            print("|---" * (len(runs[0]) + 1) + "|")
        columns = {key: [run[key] for run in runs] for key in runs[0]}
        cells = [f"{mean(values):.2f} ± {stdev(values):.2f}" for values in columns.values()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
