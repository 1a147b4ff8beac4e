"""What group weights change, over people. Prints a table.

python tests/benchmarks/group_weights.py dataset=/data/celeba weights=/data/mobilenet_v2.pt \
        [--only IID natural] [--folds 12] [--jobs 2] [--json group_weights.json]

Cross-validated as people.py says. Groups are compared on the test images of all folds together,
each judged by the model that has not seen its person, and the intervals come from leaving people
out.
About a quarter of a minute of one core a fold and row, without and with group weights.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from folds import FOLDS
from people import Measured, cross_validate, head, line, measure, pooled, workers
from strategies import CLIENTS, CLOSED_FORM, LEAN, PARTITIONINGS, STRATEGIES

from celeba_fl.data.schema import ATTRIBUTES, membership
from celeba_fl.evaluation import fairness
from celeba_fl.evaluation.intervals import Estimate, identity_sums
from celeba_fl.evaluation.metrics import ratio
from celeba_fl.evaluation.resampling import Scores
from celeba_fl.launch.experiments import parse_pair

GROUPING = ("Male", "Young")
WEIGHTED = {"group-weighting": ",".join(GROUPING)}
# What group weights are to change, in per cent.
JUDGED = ("accuracy", "worst group", "equalised odds difference")


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


def change(without: Sequence[Measured], weighted: Sequence[Measured]) -> dict[str, list[float]]:
    """What group weights change of JUDGED: the figure, and both ends of its interval."""
    table = judge(pooled(weighted)) - judge(pooled(without))
    people = np.array(len(table) - 1)
    low, high = Estimate.of_replicates(table[0], table[1:], people).interval()
    ends = np.stack([table[0], low, high], axis=1)
    return dict(zip(JUDGED, ends.tolist(), strict=True))


def main() -> None:
    """Measure all, and print a line for each as it is done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="*", type=parse_pair, help="run-config keys: key=value")
    parser.add_argument("--only", nargs="*", choices=PARTITIONINGS, default=["IID", "natural"])
    parser.add_argument("--folds", type=int, default=FOLDS, choices=range(2, FOLDS + 1))
    parser.add_argument("--jobs", type=int, default=2, help="folds at a time")
    parser.add_argument("--json", type=Path, default=Path("group_weights.json"))
    said = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(head(["clients", "strategy", *JUDGED]), flush=True)
    with workers(said.jobs) as pool:
        for where in said.only:
            for how, strategy in STRATEGIES.items():
                names = {"clients": "any" if how == CLOSED_FORM else where, "strategy": how}
                if names in ({key: row[key] for key in names} for row in rows):
                    continue
                point = {**LEAN, **PARTITIONINGS[where], **strategy, **dict(said.pairs)}
                without, weighted = (
                    cross_validate(pool, settings, CLIENTS, range(said.folds), measure)
                    for settings in (point, {**point, **WEIGHTED})
                )
                changed = change(without, weighted)
                rows.append({**names, "change": changed})
                said.json.write_text(json.dumps(rows, indent=1))
                cells = [f"{a:+.1f} [{low:.1f}, {high:.1f}]" for a, low, high in changed.values()]
                print(line([*names.values(), *cells]), flush=True)


if __name__ == "__main__":
    main()
