"""The fair ridge over people: how equal odds become, and for how much accuracy.

python tests/benchmarks/fairer.py dataset=/data/celeba weights=/data/mobilenet_v2.pt \
        [features=last] [fair-groups=Male] [--folds 5] [--jobs 2]

Cross-validated as people.py says, in five folds: one is tested, the next one is the validation
split, three are trained on. All test images are judged together, each by the heads of the run that
has not seen its person, and the intervals come from leaving people out, the same for every
head. The gap is the mean equalised odds difference: of the ten attributes where it is largest by
the plain head, and of all that have 20 images in each cell of group and label. Two minutes on
2 cores.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from people import Settings, cross_validate, finished_run, head, line, workers
from safetensors.numpy import load_file
from strategies import CLIENTS

from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.evaluation.fair_heads import WIDEST, compare_heads
from celeba_fl.launch.experiments import parse_pair
from celeba_fl.models.heads import scores
from celeba_fl.runs.reading import config_of
from celeba_fl.tasks import fairer
from celeba_fl.tasks.attributes import Attributes

# Clients hold no validation images back: those of the next fold are the server's.
SETTINGS = {"strategy": "closed-form", "fair-groups": "Male", "valid-fraction": 0.0}
COLUMNS = (
    "head",
    "gap of the ten, times",
    "points of accuracy",
    "gap of all, times",
    "gap of the ten",
    "accuracy",
    "balanced accuracy",
    "on the ten",
)


@dataclass(frozen=True)
class Judged:
    """What each head says of the test images of a fold."""

    names: list[str]
    answers: np.ndarray  # (heads, n, attributes) bool
    labels: np.ndarray
    celeb_id: np.ndarray


def judge(settings: Settings, clients: int) -> Judged:
    """Run the closed form, and answer by each head of its sums, and by that of group weights."""
    with finished_run(settings, clients) as run:
        config = config_of(run)
        task = Attributes(config)
        task.prepare()
        valid, test = (task._central[part] for part in ("server_valid", "test"))
        kept = load_file(run.path / "closed_form.safetensors")
    problem = fairer.fair_ridge(config, kept)
    chosen = fairer.chosen_penalty(config, problem, valid)
    found = fairer.candidates(config, problem, chosen, valid)
    answers = [one.answers(test, config.fair) for one in found]
    names = [one.head if one.penalty is None else f"rho {one.penalty:g}" for one in found]
    with finished_run({**settings, "group-weighting": config.fair_groups}, clients) as run:
        answers.append(scores(load_file(run.path / "model.safetensors"), test.features) > 0)
    names.append("group weights")
    return Judged(names, np.stack(answers), test.labels, test.celeb_id)


def figure(row: Mapping[str, Any], name: str, form: str, factor: float = 1) -> str:
    """A figure with both ends of its interval."""
    value, low, high = (factor * row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def main() -> None:
    """Measure all folds, and print a line for each head."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="*", type=parse_pair, help="run-config keys: key=value")
    parser.add_argument("--folds", type=int, default=5, help="number of folds in all, 3 or more")
    parser.add_argument("--jobs", type=int, default=2, help="folds at a time")
    said = parser.parse_args()
    settings = {**SETTINGS, **dict(said.pairs)}
    with workers(said.jobs) as pool:
        folds = range(said.folds)
        judged = cross_validate(pool, settings, CLIENTS, folds, judge, said.folds)
    labels = np.concatenate([one.labels for one in judged])
    people = np.concatenate([one.celeb_id for one in judged])
    answers = np.concatenate([one.answers for one in judged], axis=1)
    grouping = tuple(settings["fair-groups"].split(","))
    rows, gaps = compare_heads(list(answers), labels, people, ATTRIBUTES, grouping)
    order = np.argsort(-np.nan_to_num(gaps[0], nan=-1.0))[:WIDEST]
    print(
        f"{len(labels)} images of {len(np.unique(people))} people; compared: "
        f"{rows[0]['compared']}; the ten: {', '.join(ATTRIBUTES[i] for i in order)}\n"
    )
    print(head(COLUMNS))
    for name, row in zip(judged[0].names, rows, strict=True):
        cells = [
            figure(row, "widest_ratio", ".2f"),
            figure(row, "accuracy_difference", "+.2f", 100),
            figure(row, "ratio", ".2f"),
            figure(row, "widest_equalized_odds_difference", ".1f", 100),
            *(f"{100 * row[name]:.2f}" for name in ("accuracy", "balanced_accuracy")),
            f"{100 * row['widest_balanced_accuracy']:.1f}",
        ]
        print(line([name, *cells]), flush=True)


if __name__ == "__main__":
    main()
