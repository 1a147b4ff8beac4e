"""Each strategy on each partitioning, and what group weights change, over people. Two tables.

python tests/benchmarks/strategies.py dataset=/data/celeba weights=/data/mobilenet_v2.pt \
        [--only IID natural] [--folds 12] [--jobs 2] [--json strategies.json]

Cross-validated as people.py says: `A ± b` is the mean over the folds and half of its 95 % interval.
The closed form is there once, since it is the same on every partition. Groups are compared on the
test images of all folds together, each judged by the model that has not seen its person, and the
intervals come from leaving people out. About half an hour on 2 cores, two thirds of it without
group weights.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from folds import FOLDS
from partitionings import CLIENTS, PARTITIONINGS
from people import METRICS, Measured, cell, cross_validate, head, line, measure, pooled, workers

from celeba_fl.data.schema import ATTRIBUTES, membership
from celeba_fl.evaluation import fairness
from celeba_fl.evaluation.intervals import Estimate, identity_sums
from celeba_fl.evaluation.metrics import ratio
from celeba_fl.evaluation.resampling import Scores
from celeba_fl.launch.experiments import parse_pair

CLOSED_FORM = "closed form"
# What each strategy runs with, besides the defaults: of the rates that were tried (README.md says
# which) those of least loss on validation, over three folds of people.
STRATEGIES: dict[str, dict[str, Any]] = {
    "FedAvg": {"strategy": "fedavg"},
    "FedProx": {"strategy": "fedprox"},
    "FedAdam": {"strategy": "fedadam", "server-learning-rate": 0.01},
    CLOSED_FORM: {"strategy": "closed-form"},
    "closed form + FedAvg": {"strategy": "fedavg", "init": "closed-form", "learning-rate": 1e-4},
}
GROUPING = ("Male", "Young")
WEIGHTED = {"group-weighting": ",".join(GROUPING)}
# The partitionings on which group weights are tried.
COMPARED = ("IID", "natural")
# What group weights are to change, in per cent.
JUDGED = ("accuracy", "worst group", "equalised odds difference")
COLUMNS = [*(f"test {name}" for name in METRICS.values()), "rounds", "MB a client"]


def judge(scores: Scores) -> np.ndarray:
    """JUDGED of images, and without each of their people, (1 + people, 3)."""
    labels, predicted, people = scores.labels, scores.scores > 0, scores.celeb_id
    member = membership(labels, ATTRIBUTES, GROUPING)
    sums = identity_sums(fairness.outcomes(predicted, labels, member), people)
    weights = np.vstack([np.ones(len(sums)), 1 - np.eye(len(sums))])
    rates = {
        name: ratio(*fraction)
        for name, fraction in fairness.fractions(np.tensordot(weights, sums, 1)).items()
    }
    gaps = fairness.differences(rates)
    right = identity_sums(predicted == labels, people).mean(axis=1)
    images = identity_sums(np.ones(len(labels)), people)
    columns = [
        weights @ right / (weights @ images),
        np.nanmean(gaps["worst_group_accuracy"], axis=1),
        np.nanmean(gaps["equalized_odds_difference"], axis=1),
    ]
    return 100 * np.stack(columns, axis=1)


def values_of(folds: Sequence[Measured]) -> dict[str, list[float]]:
    """The figures of the table, of each fold."""
    return {column: [fold.figures[column] for fold in folds] for column in COLUMNS}


def change(without: Sequence[Measured], weighted: Sequence[Measured]) -> dict[str, list[float]]:
    """What group weights change of JUDGED: the figure, and both ends of its interval."""
    table = judge(pooled(weighted)) - judge(pooled(without))
    people = np.array(len(table) - 1)
    ends = np.stack(
        [table[0], *Estimate.of_replicates(table[0], table[1:], people).interval()], axis=1
    )
    return dict(zip(JUDGED, ends.tolist(), strict=True))


def main() -> None:
    """Measure all, and print a line for each as it is done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="*", type=parse_pair, help="run-config keys: key=value")
    parser.add_argument("--only", nargs="*", choices=PARTITIONINGS, default=list(PARTITIONINGS))
    parser.add_argument("--folds", type=int, default=FOLDS, choices=range(2, FOLDS + 1))
    parser.add_argument("--jobs", type=int, default=2, help="folds at a time")
    parser.add_argument("--json", type=Path, default=Path("strategies.json"))
    said = parser.parse_args()
    settings, folds = dict(said.pairs), range(said.folds)
    rows: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    print(head(["clients", "strategy", *COLUMNS]), flush=True)
    with workers(said.jobs) as pool:
        for where in said.only:
            for how, strategy in STRATEGIES.items():
                names = {"clients": "any" if how == CLOSED_FORM else where, "strategy": how}
                if names in ({key: row[key] for key in names} for row in rows):
                    continue
                point = {**PARTITIONINGS[where], **strategy, **settings}
                without = cross_validate(pool, point, CLIENTS, folds, measure)
                values = values_of(without)
                rows.append({**names, "folds": values})
                cells = [cell(column, values[column]) for column in COLUMNS]
                print(line([*names.values(), *cells]), flush=True)
                if where in COMPARED:
                    weighted = cross_validate(pool, {**point, **WEIGHTED}, CLIENTS, folds, measure)
                    about = {"folds": values_of(weighted), "change": change(without, weighted)}
                    changes.append({**names, **about})
                said.json.write_text(json.dumps({"rows": rows, "group weights": changes}, indent=1))
    print("\nWith group weights less without, per cent.\n")
    print(head(["clients", "strategy", *JUDGED]))
    for one in changes:
        cells = [f"{a:+.1f} [{low:.1f}, {high:.1f}]" for a, low, high in one["change"].values()]
        print(line([one["clients"], one["strategy"], *cells]))


if __name__ == "__main__":
    main()
