"""The same images dealt in four ways, and held by one: what federation costs. Prints a table.

python tests/benchmarks/partitionings.py dataset=/data/celeba weights=/data/mobilenet_v2.pt \
        image-size=224
"""

import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.launch.experiments import parse_pair
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs
from celeba_fl.server_app import app as server_app
from celeba_fl.studies.baseline import make_baseline

CLIENTS = 50
SEEDS = (1, 2, 3)
PARTITIONINGS: dict[str, dict[str, Any]] = {
    "IID": {"partitioner": "iid"},
    "Dirichlet 1.0": {"partitioner": "dirichlet", "dirichlet-alpha": 1.0},
    "Dirichlet 0.1": {"partitioner": "dirichlet", "dirichlet-alpha": 0.1},
    "natural": {"partitioner": "natural"},
}


def measure(settings: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Run an experiment and its baseline; test metrics in per cent of each of the three."""
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig.load({**settings, "results-dir": folder})
        run_inline(config, CLIENTS, server_app, client_app)
        (run,) = read_runs(Path(folder))
        made = make_baseline(run)
    majority = run.summary["test_majority_accuracy"]
    found = {"FedAvg": run.summary, "central": made["central"], "alone": made["local"]["mean"]}
    return {
        head: {
            "accuracy above majority": 100 * (metrics["test_accuracy"] - majority),
            "balanced accuracy": 100 * metrics["test_balanced_accuracy"],
            "AUROC": 100 * metrics["test_auroc"],
        }
        for head, metrics in found.items()
    }


def row(name: str, runs: list[dict[str, float]]) -> str:
    """A line of the table: mean ± standard deviation over the seeds."""
    columns = {key: [run[key] for run in runs] for key in runs[0]}
    cells = [f"{mean(values):.2f} ± {stdev(values):.2f}" for values in columns.values()]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Measure all, and print a line for each as it is done."""
    overrides = dict(parse_pair(pair) for pair in sys.argv[1:])
    for name, partitioning in PARTITIONINGS.items():
        runs = [measure({**partitioning, **overrides, "seed": seed}) for seed in SEEDS]
        if name == "IID":
            print(f"\n| test, per cent | {' | '.join(runs[0]['FedAvg'])} |\n|---|---|---|---|")
            print(row("trained centrally", [run["central"] for run in runs]))
        for head, label in {"FedAvg": f"FedAvg, {name}", "alone": f"each alone, {name}"}.items():
            print(row(label, [run[head] for run in runs]), flush=True)


if __name__ == "__main__":
    main()
