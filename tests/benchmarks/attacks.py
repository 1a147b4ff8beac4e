"""Each attack against each defence on each partitioning: what 15 liars of 50 clients cost.

python tests/benchmarks/attacks.py dataset=/data/celeba weights=/data/mobilenet_v2.pt \
        [--only IID natural] [--attacks alie ipm] [--defences FedAvg "NNM, trimmed mean"] \
        [--folds 3] [--jobs 1] [--json attacks.json]

Folds are those of people.py, and one after the other is run for all that is asked for, so that a
look at the tables is possible early. A table for each partitioning: AUROC on test that each defence
loses to FedAvg without attackers, in points of a hundred, a mean over the folds that both have. The
best of an attack is bold. What the JSON file holds is not run again: delete it once the code has
changed. About ten seconds of one core a run and fold.
"""

import argparse
import json
import math
from pathlib import Path
from statistics import mean
from typing import Any

from folds import FOLDS
from people import cross_validate, head, line, measure, workers
from strategies import LEAN, PARTITIONINGS

from celeba_fl.launch.experiments import parse_pair
from celeba_fl.rounds.aggregation import RoundFailedError

CLIENTS = 50
NONE, FEDAVG = "none", "FedAvg"
ATTACKS = ("sign-flip", "scale", "gaussian", "label-flip", "alie", "ipm", "mimic")
EXPECTED = {"attackers-expected": 0.3}
NNM = {**EXPECTED, "pre-aggregation": "nnm"}
# In halves of 25 buckets 15 attackers are a majority: what is expected is what can be stood.
BUCKETS = {"pre-aggregation": "bucketing", "attackers-expected": 0.24}
DEFENCES: dict[str, dict[str, Any]] = {
    FEDAVG: {"strategy": "fedavg"},
    "FedAvgM": {"strategy": "fedavgm"},
    "NNM, trimmed mean": {"strategy": "fedtrimmedavg", **NNM},
    "median": {"strategy": "fedmedian", **EXPECTED},
    "trimmed mean": {"strategy": "fedtrimmedavg", **EXPECTED},
    "centred clipping": {"strategy": "centred-clipping", **EXPECTED},
    "Multi-Krum": {"strategy": "multikrum", **EXPECTED},
    "NNM, centred clipping": {"strategy": "centred-clipping", **NNM},
    "NNM, median": {"strategy": "fedmedian", **NNM},
    "NNM, FedAvg": {"strategy": "fedavg", **NNM},
    "NNM, Multi-Krum": {"strategy": "multikrum", **NNM},
    "buckets, centred clipping": {"strategy": "centred-clipping", **BUCKETS},
    "buckets, median": {"strategy": "fedmedian", **BUCKETS},
    "Krum": {"strategy": "krum", **EXPECTED},
    "Bulyan": {"strategy": "bulyan", "attackers-expected": 0.22},
}
AUROC = "test AUROC"
Row = dict[str, Any]


def run(settings: dict[str, Any], clients: int) -> float:
    """The AUROC on test; NaN where the strategy needs more clients with images than there are."""
    try:
        return measure(settings, clients).figures[AUROC]
    except RoundFailedError:
        return math.nan


def table(rows: list[Row], where: str) -> str:
    """What is there of a partitioning."""
    found = {(r["defence"], r["attack"]): r["folds"] for r in rows if r["clients"] == where}
    base: dict[str, float] = found.get((FEDAVG, NONE), {})
    lost: dict[str, dict[str, float]] = {}
    for (defence, attack), folds in found.items():
        both = [fold for fold in sorted(base.keys() & folds.keys()) if not math.isnan(folds[fold])]
        if both:
            value = mean(base[fold] - folds[fold] for fold in both)
            lost.setdefault(defence, {})[attack] = value
    best = {attack: min(of.get(attack, math.inf) for of in lost.values()) for attack in ATTACKS}
    lines = [head([where, "folds", "no attack", *ATTACKS, "worst"])]
    for defence in DEFENCES:
        of = lost.get(defence, {})
        cells = [f"{of[NONE]:.2f}" if NONE in of else ""]
        for attack in ATTACKS:
            text = f"{of[attack]:.2f}" if attack in of else ""
            cells.append(f"**{text}**" if text and of[attack] == best[attack] else text)
        cells.append(f"{max(of.values()):.2f}" if len(of) > len(ATTACKS) else "")
        if of:
            lines.append(line([defence, len(found.get((defence, NONE), {})), *cells]))
    return f"FedAvg without attackers: {mean(base.values()):.2f}\n\n" + "\n".join(lines)


def main() -> None:
    """Measure what is missing, and print the tables at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="*", type=parse_pair, help="run-config keys: key=value")
    parser.add_argument("--only", nargs="*", choices=PARTITIONINGS, default=list(PARTITIONINGS))
    parser.add_argument("--attacks", nargs="*", choices=ATTACKS, default=ATTACKS)
    parser.add_argument("--defences", nargs="*", choices=DEFENCES, default=list(DEFENCES))
    parser.add_argument("--folds", type=int, default=3, choices=range(1, FOLDS + 1))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--json", type=Path, default=Path("attacks.json"))
    said = parser.parse_args()
    rows: list[Row] = json.loads(said.json.read_text()) if said.json.exists() else []
    planned = [
        (fold, {"clients": where, "defence": defence, "attack": attack})
        for fold in range(said.folds)
        for where in said.only
        for defence in said.defences
        for attack in (NONE, *said.attacks)
    ]
    with workers(said.jobs) as pool:
        for fold, names in planned:
            known = [row for row in rows if {key: row[key] for key in names} == names]
            row: Row = known[0] if known else {**names, "folds": {}}
            if str(fold) in row["folds"]:
                continue
            settings = {**LEAN, **PARTITIONINGS[names["clients"]], **DEFENCES[names["defence"]]}
            point = {**settings, "attack": names["attack"], **dict(said.pairs)}
            (row["folds"][str(fold)],) = cross_validate(pool, point, CLIENTS, [fold], run)
            rows += [] if known else [row]
            said.json.write_text(json.dumps(rows, indent=1))
            print(*names.values(), fold, f"{row['folds'][str(fold)]:.2f}", flush=True)
    for where in said.only:
        print(f"\n{table(rows, where)}")


if __name__ == "__main__":
    main()
