"""What a teacher brings, by all of its labels or where the model disagrees, over people. A table.

python tests/benchmarks/corrections.py dataset=/data/celeba weights=/data/mobilenet_v2.pt \
        [--folds 12] [--jobs 2] [--rates]

Cross-validated as people.py says: `A ± b` is the mean over the folds and half of its 95 % interval.
With `--rates` it prints the course of the loss on validation for several learning rates instead.
"""

import argparse
from collections.abc import Iterable, Sequence
from itertools import product
from statistics import mean
from typing import Any

from folds import FOLDS
from people import Figures, Settings, cell, cross_validate, finished_run, head, line, workers

from celeba_fl.launch.experiments import parse_pair, read_experiment
from celeba_fl.runs.tables import read_csv

CLIENTS = 100
TEACHERS = {"perfect": "0", "10 % wrong": "0.1"}
RATES = (3e-5, 1e-4, 3e-4, 1e-3)
# Of least loss on the official validation split of the drawn faces, on raw features of the last
# layer, at seed 42 with a perfect teacher.
WAYS = {"all": 1e-3, "disagreements": 3e-5}
COLUMNS = (
    *("accuracy above majority", "balanced accuracy", "AUROC", "agrees with the teacher"),
    *("fixed", "broken", "pairs in round 1"),
)


def measure(settings: Settings, clients: int) -> dict[str, Any]:
    """Run the experiment; what it said before and after, per cent where it is a rate."""
    with finished_run(settings, clients) as run:
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
        100 - before["agrees with the teacher"] if settings["train-on"] == "disagreements" else 100
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


def cells_of(folds: Sequence[Figures]) -> Iterable[str]:
    """The cells of a row; what was not measured is empty."""
    for column in COLUMNS:
        values = [fold[column] for fold in folds if column in fold]
        if column == "pairs in round 1":
            yield f"{mean(values):,.0f}" if values else ""
        else:
            yield cell(column, values) if values else ""


def main() -> None:
    """Measure all; with `--rates` only which learning rate has the least loss on validation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="*", type=parse_pair, help="run-config keys: key=value")
    parser.add_argument("--folds", type=int, default=FOLDS, choices=range(1, FOLDS + 1))
    parser.add_argument("--jobs", type=int, default=2, help="folds at a time")
    parser.add_argument("--rates", action="store_true", help="try learning rates")
    said = parser.parse_args()
    settings = {**read_experiment("corrections"), **dict(said.pairs)}
    if not said.rates:
        print(head(["teacher", "learns from", *COLUMNS]), flush=True)
    with workers(said.jobs) as pool:
        for (teacher, error), (way, chosen) in product(TEACHERS.items(), WAYS.items()):
            for rate in RATES if said.rates else (chosen,):
                point = {**settings, "teacher-error": error, "train-on": way, "learning-rate": rate}
                runs = cross_validate(pool, point, CLIENTS, range(said.folds), measure)
                if said.rates:
                    losses = zip(*(run["valid"] for run in runs), strict=True)
                    course = " ".join(f"{mean(of_round):.4f}" for of_round in losses)
                    print(f"{teacher}, {way}, {rate:g}: validation loss {course}", flush=True)
                    continue
                if way == "all":
                    print(line([teacher, "base", *cells_of([run["before"] for run in runs])]))
                row = [teacher, way, *cells_of([run["after"] for run in runs])]
                print(line(row), flush=True)


if __name__ == "__main__":
    main()
