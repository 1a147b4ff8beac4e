"""LeNet-5 by 10 clients, beside the same network trained centrally. Prints a table by round.

python tests/benchmarks/lenet.py dataset=/data/cifar10
"""

import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.launch.experiments import parse_pair, read_experiment
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as server_app
from celeba_fl.studies.baseline import EVERYTHING, SingleClient
from celeba_fl.task import load_task

CLIENTS = 10
SEEDS = (1, 2, 3)


def measure(settings: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Test accuracy in per cent after each round, of the federation and trained centrally."""
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig.load({**settings, "results-dir": folder})
        run_inline(config, CLIENTS, server_app, client_app)
        (run,) = read_runs(Path(folder))
        rounds = read_csv(run.path / "rounds.csv")
    task = load_task(config)
    everyone = SingleClient(task, EVERYTHING, task.prepare().instructions)
    models = [task.initial_arrays()]
    models += [arrays for _, arrays in everyone.rounds(range(1, config.num_server_rounds + 1))]
    central = [task.evaluate_centrally(arrays)["test"]["accuracy"] for arrays in models]
    return [100 * float(row["test_accuracy"]) for row in rounds], [100 * x for x in central]


def main() -> None:
    """Measure over the seeds, and print mean ± standard deviation."""
    overrides = dict(parse_pair(pair) for pair in sys.argv[1:])
    settings = {**read_experiment("cifar10-lenet"), **overrides}
    measured = [measure({**settings, "seed": seed}) for seed in SEEDS]
    epochs = RunConfig.load(settings).local_epochs
    print("\n| round | epochs | FedAvg, 10 clients | trained centrally |\n|---|---|---|---|")
    columns = [list(zip(*runs, strict=True)) for runs in zip(*measured, strict=True)]
    for number, values in enumerate(zip(*columns, strict=True)):
        cells = [f"{mean(each):.1f} ± {stdev(each):.1f}" for each in values]
        print(f"| {number} | {number * epochs} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
