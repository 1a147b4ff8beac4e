"""Each strategy on each partitioning, with and without group weights. Prints two tables.

python tests/benchmarks/strategies.py dataset=/data/celeba weights=/data/mobilenet_v2.pt \
        image-size=224 [--seeds 3] [--jobs 1] [--only IID] [--json strategies.json]
"""

import argparse
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from partitionings import CLIENTS, PARTITIONINGS
from pyarrow import parquet

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES, membership
from celeba_fl.evaluation import fairness
from celeba_fl.evaluation.intervals import draw_identities, identity_sums, interval
from celeba_fl.evaluation.metrics import ratio
from celeba_fl.launch.experiments import parse_pair
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv

GROUPING = ("Male", "Young")
# FedAdam's rate: of 0.001, 0.003, 0.01, 0.03 and 0.1 (Flower's default) 0.03 had the best accuracy
# on the official validation split, under IID as under Dirichlet 0.1. The rate of local training
# after the closed form: of 3e-5, 1e-4, 3e-4, 1e-3 and 3e-3 (the default) the one of the least loss
# on that split, under IID.
STRATEGIES: dict[str, dict[str, Any]] = {
    "FedAvg": {"strategy": "fedavg"},
    "FedProx": {"strategy": "fedprox"},
    "FedAdam": {"strategy": "fedadam", "server-learning-rate": 0.03},
    "closed form": {"strategy": "closed-form"},
    "closed form + FedAvg": {"strategy": "fedavg", "init": "closed-form", "learning-rate": 3e-5},
}
WEIGHTS: dict[str, dict[str, Any]] = {
    "no": {"group-weighting": ""},
    "yes": {"group-weighting": ",".join(GROUPING)},
}
# What group weights are to change, in per cent, of the test split and of resamples of its people.
JUDGED = ("accuracy", "worst group", "equalised odds difference")


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Run an experiment; its figures (per cent where they are rates) and resamples of JUDGED."""
    server_app._draw_report = lambda run: None  # nobody reads it, and it takes seconds
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig.load({**settings, "results-dir": folder})
        run_inline(config, CLIENTS, server_app.app, client_app)
        (run,) = read_runs(Path(folder))
        rounds = read_csv(run.path / "rounds.csv")
        scores = parquet.read_table(run.path / "test_scores.parquet").to_pydict()
    summary = run.summary
    figures, draws = judge(scores)
    sent = sum(int(row[key]) for row in rounds for key in ("bytes_up", "bytes_down"))
    return {
        "figures": {
            "accuracy above majority": figures["accuracy"]
            - 100 * summary["test_majority_accuracy"],
            "balanced accuracy above 50": 100 * summary["test_balanced_accuracy"] - 50,
            "AUROC": 100 * summary["test_auroc"],
            "worst group": figures["worst group"],
            "equalised odds difference": figures["equalised odds difference"],
            "rounds": int(rounds[-1]["round"]),
            "seconds": sum(float(row["seconds"]) for row in rounds),
            "MB a client": sent / CLIENTS / 1e6,
        },
        "draws": draws,
    }


def judge(scores: dict[str, list[Any]]) -> tuple[dict[str, float], np.ndarray]:
    """JUDGED of the test images, and of 1,000 draws of their people, (draws, 3)."""
    labels = np.array([scores[name] for name in ATTRIBUTES]).T
    predicted = np.array([scores[f"{name}_score"] for name in ATTRIBUTES]).T > 0
    member = membership(labels, ATTRIBUTES, GROUPING)
    sums = identity_sums(fairness.outcomes(predicted, labels, member), np.array(scores["celeb_id"]))
    weights = np.vstack([np.ones(len(sums)), draw_identities(len(sums))])
    rates = {
        name: ratio(*fraction)
        for name, fraction in fairness.fractions(np.tensordot(weights, sums, 1)).items()
    }
    gaps = fairness.differences(rates)
    right = identity_sums(predicted == labels, np.array(scores["celeb_id"])).mean(axis=1)
    images = identity_sums(np.ones(len(labels)), np.array(scores["celeb_id"]))
    columns = [
        weights @ right / (weights @ images),
        np.nanmean(gaps["worst_group_accuracy"], axis=1),
        np.nanmean(gaps["equalized_odds_difference"], axis=1),
    ]
    table = 100 * np.stack(columns, axis=1)
    return dict(zip(JUDGED, table[0].tolist(), strict=True)), table[1:]


def cell(values: list[float]) -> str:
    """Mean ± standard deviation over the seeds."""
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def main() -> None:
    """Measure all, and print a line for each as it is done."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs", nargs="*", type=parse_pair, help="run-config keys: key=value")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="at a time; more disturb the seconds")
    parser.add_argument("--only", nargs="*", choices=PARTITIONINGS, default=list(PARTITIONINGS))
    parser.add_argument("--json", type=Path, default=Path("strategies.json"))
    said = parser.parse_args()
    settings = dict(said.pairs)
    rows: list[Any] = []
    changes: list[Any] = []
    with ProcessPoolExecutor(said.jobs, get_context("spawn")) as pool:
        planned = {
            (where, how, weighted): [
                pool.submit(
                    measure,
                    {
                        **PARTITIONINGS[where],
                        **STRATEGIES[how],
                        **WEIGHTS[weighted],
                        **settings,
                        "seed": seed,
                    },
                )
                for seed in range(1, said.seeds + 1)
            ]
            for where, how, weighted in product(said.only, STRATEGIES, WEIGHTS)
        }
        for (where, how, weighted), futures in planned.items():
            runs = [future.result() for future in futures]
            columns = {key: [run["figures"][key] for run in runs] for key in runs[0]["figures"]}
            if not rows:
                head = ["partition", "strategy", "group weights", *columns]
                print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
            names = {"partition": where, "strategy": how, "group weights": weighted}
            rows.append({**names, **columns})
            print(f"| {' | '.join([*names.values(), *map(cell, columns.values())])} |", flush=True)
            draws = np.mean([run["draws"] for run in runs], axis=0)
            if weighted == "no":
                before = columns | {"draws": draws}
                continue
            change: dict[str, Any] = {"partition": where, "strategy": how}
            low, high = interval(draws - before["draws"])
            for i, name in enumerate(JUDGED):
                key = "accuracy above majority" if name == "accuracy" else name
                change[name] = [a - b for a, b in zip(columns[key], before[key], strict=True)]
                change[f"{name}, 95 %"] = [float(low[i]), float(high[i])]
            changes.append(change)
    print("\nWith group weights less without, per cent; intervals from drawing people.\n")
    print(f"| partition | strategy | {' | '.join(JUDGED)} |\n|{'---|' * 5}")
    for change in changes:
        cells = []
        for name in JUDGED:
            low, high = change[f"{name}, 95 %"]
            cells.append(f"{cell(change[name])} [{low:.2f}, {high:.2f}]")
        print(f"| {change['partition']} | {change['strategy']} | {' | '.join(cells)} |")
    said.json.write_text(json.dumps({"settings": settings, "rows": rows, "changes": changes}))


if __name__ == "__main__":
    main()
