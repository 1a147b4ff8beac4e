"""What a teacher brings, by all of its labels or where the model disagrees. Prints a table.

python tests/benchmarks/corrections.py [dataset=/data/celeba weights=/data/mobilenet_v2.pt \
        image-size=224] [--seeds 3] [--jobs 1] [--rates]
"""

import argparse
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.launch.experiments import parse_pair, read_experiment
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv

CLIENTS = 100
TEACHERS = {"perfect": "0", "10 % wrong": "0.1"}
RATES = (3e-5, 1e-4, 3e-4, 1e-3)
# Those of least loss on the official validation split of the drawn faces, at seed 42 with a perfect
# teacher (`--rates`). From disagreements alone every rate raises it, the smallest least.
WAYS = {"all": 1e-3, "disagreements": 3e-5}


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Run the experiment; what it said before and after, per cent where it is a rate."""
    server_app._draw_report = lambda run: None  # nobody reads it, and it takes seconds
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig.load({**settings, "results-dir": folder})
        run_inline(config, CLIENTS, server_app.app, client_app)
        (run,) = read_runs(Path(folder))
        rounds = read_csv(run.path / "rounds.csv")
        (total, *_) = read_csv(run.path / "corrections.csv")
        asked = sum(int(row["asked"]) for row in read_csv(run.path / "teacher.csv"))

    def judge(row: dict[str, str]) -> dict[str, float]:
        known = {key: 100 * float(row[f"test_{key}"]) for key in ("accuracy", "majority_accuracy")}
        return {
            "accuracy above majority": known["accuracy"] - known["majority_accuracy"],
            "balanced accuracy": 100 * float(row["test_balanced_accuracy"]),
            "AUROC": 100 * float(row["test_auroc"]),
            "agrees with the teacher": 100 * float(row["train_teacher_agreement"]),
        }

    before, after = judge(rounds[0]), judge(rounds[-1])
    answers = int(total["n"])
    learned = (
        100 - before["agrees with the teacher"] if config.train_on == "disagreements" else 100.0
    )
    after |= {
        "fixed": 100 * int(total["fixed"]) / answers,
        "broken": 100 * int(total["broken"]) / answers,
        "pairs in round 1": learned * asked / 100,
    }
    return {
        "before": before,
        "after": after,
        "valid": [float(row["server_valid_loss"]) for row in rounds],
    }


def cell(values: list[float]) -> str:
    """Mean ± standard deviation over the seeds."""
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{mean(values):,.0f}" if mean(values) > 1000 else f"{mean(values):.2f}{spread}"


def line(names: tuple[str, str], columns: Iterable[str], runs: list[dict[str, float]]) -> str:
    """A row of the table; what was not measured is empty."""
    cells = [cell([run[key] for run in runs]) if key in runs[0] else "" for key in columns]
    return f"| {' | '.join([*names, *cells])} |"


def main() -> None:
    """Measure all; with `--rates` only which learning rate has the least loss on validation."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs", nargs="*", type=parse_pair, help="run-config keys: key=value")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="at a time")
    parser.add_argument("--rates", action="store_true", help="try learning rates, at seed 42")
    said = parser.parse_args()
    settings = {**read_experiment("corrections"), **dict(said.pairs)}
    seeds = [42] if said.rates else range(1, said.seeds + 1)
    with ProcessPoolExecutor(said.jobs, get_context("spawn")) as pool:
        planned = {
            (teacher, way, rate): [
                pool.submit(
                    measure,
                    {
                        **settings,
                        "teacher-error": TEACHERS[teacher],
                        "train-on": way,
                        "learning-rate": rate,
                        "seed": seed,
                    },
                )
                for seed in seeds
            ]
            for teacher, way in product(TEACHERS, WAYS)
            for rate in (RATES if said.rates else (WAYS[way],))
        }
        for (teacher, way, rate), futures in planned.items():
            runs = [future.result() for future in futures]
            if said.rates:
                course = " ".join(f"{loss:.4f}" for loss in runs[0]["valid"])
                print(f"{teacher}, {way}, {rate:g}: validation loss {course}", flush=True)
                continue
            columns = runs[0]["after"]
            if way == "all":
                if teacher == "perfect":
                    head = ["teacher", "learns from", *columns]
                    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
                print(line((teacher, "base"), columns, [run["before"] for run in runs]))
            print(line((teacher, way), columns, [run["after"] for run in runs]), flush=True)


if __name__ == "__main__":
    main()
