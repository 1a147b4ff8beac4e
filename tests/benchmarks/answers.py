"""What clients' AUROC, thresholds and calibration are worth on other people. Three tables.

python tests/benchmarks/answers.py dataset=/data/celeba weights=/data/mobilenet_v2.pt \
        [--only IID natural] [--folds 12] [--jobs 2] [--json answers.json]

Cross-validated as people.py says: `A ± b` is the mean over the folds and half of its 95 % interval.
Each fold is trained once a row, and its final model is judged by every rule; rules are decided on
the fold's validation split, which has about 13 people.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from folds import FOLDS
from people import cell, cross_validate, finished_run, head, line, number, workers
from strategies import CLIENTS

from celeba_fl.config import RunConfig
from celeba_fl.evaluation.curves import ExactCurves
from celeba_fl.evaluation.metrics import Counts
from celeba_fl.evaluation.resampling import read_scores
from celeba_fl.launch.experiments import parse_pair
from celeba_fl.runs.reading import config_of, final_model
from celeba_fl.task import load_task

CLASSIC = {"features": "last", "scaling": "none", "init": "random", "learning-rate": 0.003}
SKEWED = {"partitioner": "dirichlet", "dirichlet-alpha": 0.1}
MODELS: dict[str, dict[str, Any]] = {
    "FedAvg, IID": {"partitioner": "iid"},
    "FedAvg, natural": {"partitioner": "natural"},
    "FedAvg, Dirichlet 0.1": SKEWED,
    "closed form": {"strategy": "closed-form"},
    "FedAvg, classic, Dirichlet 0.1": {**CLASSIC, **SKEWED},
}
RULES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "calibrated": {"calibration": "valid"},
    "valid": {"thresholds": "valid"},
    "capped, 0.5 points": {"thresholds": "capped", "accuracy-cost": 0.5},
    "capped, 1 point": {"thresholds": "capped", "accuracy-cost": 1.0},
    "capped, 2 points": {"thresholds": "capped", "accuracy-cost": 2.0},
}
FIGURES = ("loss", "calibration_error", "accuracy", "balanced_accuracy", "macro_f1")


def judge(settings: dict[str, Any], clients: int) -> dict[str, float]:
    """The test figures of a fold's final model by each rule, and how far bins are off."""
    found: dict[str, float] = {}
    with finished_run(settings, clients) as run:
        arrays, config = final_model(run)[0], config_of(run)
        scores = read_scores(run.path / "test_scores.parquet")
        exact = ExactCurves(scores.scores, scores.labels).auroc()
        off = Counts.of(scores.scores, scores.labels).auroc() - exact
        found["AUROC"], found["off"] = float(np.nanmean(exact)), abs(float(np.nanmean(off)))
        found["most off"] = float(np.nanmax(np.abs(off)))
        found["largest score"] = float(np.abs(scores.scores).max())
        for name in ("base_rates_loss", "majority_accuracy"):
            found[name] = number(run.summary[f"test_{name}"])
        for rule, keys in RULES.items():
            task = load_task(changed(config, keys))
            task.prepare()
            summary = task.finish(arrays, {}).summary
            found |= {f"{rule} {name}": summary[f"test_{name}"] for name in FIGURES}
    return found


def changed(config: RunConfig, keys: dict[str, Any]) -> RunConfig:
    """A config with other values of some keys."""
    return replace(config, **{key.replace("-", "_"): value for key, value in keys.items()})


def tables(measured: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """All that was measured, in Markdown."""
    areas = [head(("head", "largest score", "AUROC", "its error from bins", "an attribute's"))]
    losses = [head(("head", "loss of the base rates", "loss", "calibrated", "error", "calibrated"))]
    answers = [head(("head", "thresholds", "accuracy above majority", "balanced accuracy", "F1"))]
    for name, folds in measured.items():

        def values(key: str, of: Sequence[Mapping[str, float]] = folds) -> Any:
            return np.array([fold[key] for fold in of])

        most = [values(key).max() for key in ("largest score", "off", "most off")]
        off = (f"at most {value:.4f}" for value in most[1:])
        areas.append(line((name, f"{most[0]:.0f}", cell("AUROC", 100 * values("AUROC")), *off)))
        keys = [f"{rule} {key}" for key in FIGURES[:2] for rule in ("as it is", "calibrated")]
        keys = ["base_rates_loss", *keys]
        losses.append(line((name, *(cell("loss", values(key)) for key in keys))))
        for rule in RULES:
            if rule != "calibrated":
                above = values(f"{rule} accuracy") - values("majority_accuracy")
                others = [values(f"{rule} {key}") for key in FIGURES[3:]]
                shown = [cell("", 100 * column) for column in (above, *others)]
                answers.append(line((name, "zero" if rule == "as it is" else rule, *shown)))
    return "\n".join([*areas, "", *losses, "", *answers])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs", nargs="+")
    parser.add_argument("--only", nargs="+", default=list(MODELS))
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    settings = dict(parse_pair(pair) for pair in given.pairs)
    with workers(given.jobs) as pool:
        measured = {
            name: cross_validate(
                pool, {**settings, **MODELS[name]}, CLIENTS, range(given.folds), judge
            )
            for name in given.only
        }
    if given.json:
        given.json.write_text(json.dumps(measured, indent=1))
    print(tables(measured))


if __name__ == "__main__":
    main()
