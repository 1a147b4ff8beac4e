"""What an image size costs and gives: a linear head on its features, cross-validated over people.

python tests/benchmarks/image_sizes.py --dataset /data/celeba \
        --weights /data/mobilenet_v2.pt

Regularised least squares of the labels on the features of all images, whatever their split; folds
are made of identities, so no person is on both sides. The same folds for every size.
"""

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from celeba_fl.data.sources import load
from celeba_fl.vision.features import FeatureStore
from celeba_fl.vision.pretrain import pretrain
from celeba_fl.vision.views import make_view
from celeba_fl.vision.weights import resolve_weights

NAME = "mobilenet_v2"
SIZES = (224, 192, 160, 144, 128, 112, 96)
FOLDS = 12
# Of the mean diagonal of X'X / n; each size has its best.
LAMBDAS = (0.003, 0.01, 0.03, 0.1, 0.3)


def above_majority(features: np.ndarray, labels: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Points of mean accuracy above the majority's, (lambdas, folds)."""
    points = np.empty((len(LAMBDAS), FOLDS))
    for k in range(FOLDS):
        x, y = features[fold != k].astype(np.float64), labels[fold != k].astype(np.float64)
        means = x.mean(axis=0), y.mean(axis=0)
        covariance = (x - means[0]).T @ (x - means[0]) / len(x)
        cross = (x - means[0]).T @ (y - means[1]) / len(x)
        tested, truth = features[fold == k] - means[0], labels[fold == k]
        majority = np.maximum(truth.mean(axis=0), 1 - truth.mean(axis=0)).mean()
        for i, size in enumerate(LAMBDAS):
            ridge = size * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
            predicted = tested @ np.linalg.solve(covariance + ridge, cross) + means[1] > 0.5
            points[i, k] = 100 * ((predicted == truth).mean() - majority)
    return points


def main() -> None:
    """Extract and judge at every size; print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("image_sizes.json"))
    given = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        table = load(str(given.dataset), home)
        weights = resolve_weights(NAME, str(given.weights), home, partial(pretrain, table=table))
        people = np.unique(table.celeb_id)
        holder = np.random.default_rng(0).permutation(len(people)) % FOLDS
        fold = holder[np.searchsorted(people, table.celeb_id)]
        rows, labels = np.arange(len(table)), np.asarray(table.labels)
        print("| pixels | accuracy above majority | less than at 224 | images/s from JPEG |")
        print("|---|---|---|---|")
        for size in SIZES:
            store = FeatureStore(
                home, table, make_view(NAME, "last", size, str(given.weights)), weights
            )
            store.fill(rows[:8], "fail")  # exports the ONNX file
            start = time.perf_counter()
            store.fill(rows, "fail")
            speed = (len(rows) - 8) / (time.perf_counter() - start)
            points = above_majority(store.read(rows)[:], labels, fold)
            best = points[points.mean(axis=1).argmax()]
            figures[size] = {"points": best.tolist(), "images_per_second": speed}
            less = np.array(figures[SIZES[0]]["points"]) - best
            error = stdev(less) / FOLDS**0.5
            print(
                f"| {size} | {mean(best):.2f} ± {stdev(best) / FOLDS**0.5:.2f} | "
                f"{mean(less):.2f} ± {error:.2f} | {speed:.0f} |",
                flush=True,
            )
    given.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
