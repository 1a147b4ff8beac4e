"""What the features of a frozen backbone cost and give: a frontier, cross-validated over people.

python tests/benchmarks/features.py --dataset /data/celeba --weights /data/mobilenet_v2.pt \
        [--backbone mobilenet_v2] [--views fast balanced best 13:4x4@160] [--shifts] \
        [--precision fp32 bf16] [--picture .github/frontier.png]

A view is a value of the key `features`, with ``@`` and the size of images where it is not the one
that goes with it. Ridge regression of the labels on scaled features of all images, whatever their
split. Folds are made of identities, so nobody is on both sides, and they are the same for every
view. Lambda is chosen for each fold by the others. An interval (95 %) is that of a mean over folds
of people, by Student's t.

Features that are in `--home` already are not computed again, and their speed means nothing.

With `--shifts` it judges heads on images that are moved, too, by 5, 10 and 20 % of their width,
each in a direction of its own; heads that learned from the images alone, and from three altered
copies besides (mirrored, moved, zoomed: the key `augmentations`).
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import altair
import numpy as np
from folds import FOLDS, deal
from people import mean_and_half
from PIL import Image
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import rankdata

from celeba_fl.data.images import encode
from celeba_fl.data.sources import load
from celeba_fl.data.table import Table
from celeba_fl.report.charts import draw, to_png
from celeba_fl.vision.backbones import BACKBONES
from celeba_fl.vision.features import FeatureStore
from celeba_fl.vision.pretrain import pretrain
from celeba_fl.vision.views import BF16, FP32, View, make_view
from celeba_fl.vision.weights import resolve_weights

# Of the mean variance of a scaled feature.
LAMBDAS = (0.03, 0.1, 0.3, 1.0, 3.0)
SHIFTS, COPIES = (0.05, 0.1, 0.2), 3
# The frontier: the last features by size of image, single stages by grid, an early one by size, and
# sets of stages, the best of about 200. A folded grid of odd columns keeps the middle one.
SIZES = {"mobilenet_v2": (64, 96, 128, 160, 192, 224), "vit_tiny": (96,), "vit_b_16": (224,)}
SINGLE = {"mobilenet_v2": (3, 4, 6, 8, 10, 13, 16), "vit_tiny": (1, 2, 3, 4), "vit_b_16": ()}
GRIDS, MOST = ("2x2", "3x3", "5x5", "7x7"), 2700
SETS = {
    "mobilenet_v2": (
        *(f"4:{grid}+folded@{size}" for size in (64, 96, 128, 160) for grid in ("5x5", "7x7")),
        "3:7x7+folded@96",
        "13:4x4@224",
        "13:4x4+folded@224",
        "10:4x4+13:4x4+17:2x2@224",
        "10:4x4+13:4x4+17:2x2+mirrored@224",
        "4:7x7+8:3x3+folded@96",
        "4:7x7+9:3x3+16:2x2+folded@160",
        "6:7x7+9:5x5+16:2x2+folded@160",
        "6:7x7+9:5x5+16:2x2+folded+mirrored@160",
        "6:7x7+9:5x5+16:2x2+folded@224",
        "6:7x7+9:5x5+13:3x3+16:2x2+folded+mirrored@224",
    ),
    "vit_tiny": ("3:6x6+folded", "4:6x6+folded", "3:3x3+4:3x3+folded", "last+mirrored"),
    "vit_b_16": (),
}


def frontier(backbone: str) -> list[str]:
    """The views that are compared unless some are named."""
    sizes = SIZES[backbone]
    single = (
        f"{stage}:{grid}+folded@{sizes[-1]}"
        for stage in SINGLE[backbone]
        for grid in GRIDS
        if int(grid[0]) <= make_view(backbone, "last", sizes[-1]).edge(stage)
    )
    return [
        *BACKBONES[backbone].views,
        *(f"last@{size}" for size in sizes),
        *single,
        *SETS[backbone],
    ]


class Folds:
    """Folds of the people of a table, and heads that are judged on each by those of the others."""

    def __init__(self, table: Table, rows: np.ndarray) -> None:
        self.fold = deal(table.celeb_id[rows])
        self.labels = np.asarray(table.labels[rows])

    def judge(
        self, learned: Sequence[np.ndarray], judged: Mapping[str, np.ndarray]
    ) -> dict[str, dict[str, list[float]]]:
        """Points above the majority and AUROC in per cent, by judged features and fold.

        Features are (n, dim) each: those of the images and of altered copies to learn from, and
        those of the images as they are or moved to judge on. Lambda is chosen on the first.
        """
        figures = {name: np.empty((len(LAMBDAS), FOLDS, 2)) for name in judged}
        for k in range(FOLDS):
            own = self.fold != k
            x = np.concatenate([features[own] for features in learned])
            y = np.concatenate([self.labels[own]] * len(learned)).astype(np.float32)
            mean, deviation, share = x.mean(axis=0), x.std(axis=0), y.mean(axis=0)
            factor = np.divide(1, deviation, out=np.zeros_like(mean), where=deviation > 1e-6)
            x = (x - mean) * factor
            covariance, cross = x.T @ x / len(x), x.T @ (y - share) / len(x)
            truth = self.labels[~own]
            for i, size in enumerate(LAMBDAS):
                ridge = covariance + size * np.eye(len(covariance), dtype=np.float32)
                head = cho_solve(cho_factor(ridge, overwrite_a=True), cross)
                for name, features in judged.items():
                    outputs = (features[~own] - mean) * factor @ head + share
                    figures[name][i, k] = above_majority(outputs, truth), auroc(outputs, truth)
        points = next(iter(figures.values()))[:, :, 0]
        chosen = [int(np.delete(points, k, axis=1).mean(axis=1).argmax()) for k in range(FOLDS)]
        return {
            name: {
                metric: [float(of[i, k, m]) for k, i in enumerate(chosen)]
                for m, metric in enumerate(("points", "auroc"))
            }
            for name, of in figures.items()
        }


def above_majority(outputs: np.ndarray, truth: np.ndarray) -> float:
    """Points of mean accuracy above the majority's."""
    majority = np.maximum(truth.mean(axis=0), 1 - truth.mean(axis=0)).mean()
    return float(100 * (((outputs > 0.5) == truth).mean() - majority))


def auroc(outputs: np.ndarray, truth: np.ndarray) -> float:
    """Mean AUROC in per cent over the attributes that the people have and have not."""
    n, positives = len(truth), truth.sum(axis=0)
    there = (positives > 0) & (positives < n)
    ranks, p = np.where(truth, rankdata(outputs, axis=0), 0).sum(axis=0)[there], positives[there]
    return float(100 * ((ranks - p * (p + 1) / 2) / (p * (n - p))).mean())


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval over folds."""
    middle, half = mean_and_half(values)
    return f"{middle:.2f} [{middle - half:.2f}, {middle + half:.2f}]"


def moved(table: Table, share: float) -> Table:
    """The table with each image moved by a share of its width; its edge fills what is left free."""

    def read(row: int) -> bytes:
        pixels = np.asarray(Image.open(io.BytesIO(table.read(row))).convert("RGB"))
        angle = np.random.default_rng(row).uniform(0, 2 * np.pi)
        height, width, _ = pixels.shape
        down, right = (round(share * width * f(angle)) for f in (np.sin, np.cos))
        rows = np.clip(np.arange(height) - down, 0, height - 1)
        columns = np.clip(np.arange(width) - right, 0, width - 1)
        return encode(pixels[rows][:, columns].transpose(2, 0, 1))

    return replace(table, fingerprint=f"{table.fingerprint}, moved by {share}", read=read)


class Bench:
    """Features of one data set by one backbone, in a home of its own."""

    def __init__(self, dataset: str, weights: str, backbone: str, home: Path) -> None:
        self.home, self.named, self.backbone = home, weights, backbone
        self.table = load(dataset, home)
        drawn = partial(pretrain, table=self.table)
        self.weights = resolve_weights(backbone, weights, home, drawn)
        # The drawn weights have seen the faces that no split has.
        self.rows = np.flatnonzero(np.isin(self.table.split, range(3)))
        self.folds = Folds(self.table, self.rows)

    def view(self, text: str) -> View:
        """The view of ``features@size``, or of ``features`` at the size that goes with them."""
        features, _, size = text.partition("@")
        return make_view(self.backbone, features, int(size or 0), self.named)

    def features(
        self, view: View, table: Table | None = None, version: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, float]:
        """Features (n, dim) of all images, and how many images a second they took from JPEG."""
        store = FeatureStore(self.home, table or self.table, view, self.weights, version)
        store.fill(self.rows[:8], "fail")  # exports the ONNX file
        start = time.perf_counter()
        store.fill(self.rows, "fail")
        return store.read(self.rows)[:], (len(self.rows) - 8) / (time.perf_counter() - start)

    def measure(self, view: View) -> dict[str, Any]:
        """A row of the table."""
        features, speed = self.features(view)
        size = view.dim + 1
        return {
            "view": f"{view.features}@{view.image_size}",
            "features": view.dim,
            "images_per_second": speed,
            "round_kb": 4 * 40 * size / 1e3,
            "closed_form_mb": 8 * (size * (size + 1) / 2 + 40 * size) / 1e6,
            **self.folds.judge([features], {"": features})[""],
        }

    def shifts(self, view: View) -> list[dict[str, Any]]:
        """Rows of the second table: heads of the images alone, and of altered copies besides."""
        own = self.features(view)[0]
        judged = {"0": own} | {
            f"{share:.0%}": self.features(view, moved(self.table, share))[0] for share in SHIFTS
        }
        copies = [self.features(view, version=(42, k + 1))[0] for k in range(COPIES)]
        return [
            {"view": f"{view.features}@{view.image_size}", "copies": number}
            | self.folds.judge([own, *copies[:number]], judged)
            for number in (0, COPIES)
        ]


def picture(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> altair.LayerChart:
    """Points against images a second; names at the views that have one."""
    values = [
        {
            "images a second, from JPEG": row["images_per_second"],
            "points of accuracy above the majority": np.mean(row["points"]),
            "passes": "image and mirror image" if "mirrored" in row["view"] else "image",
            "name": names.get(row["view"], ""),
        }
        for row in rows
    ]
    x = altair.X("images a second, from JPEG:Q").scale(type="log", nice=False, padding=24)
    y = altair.Y("points of accuracy above the majority:Q").scale(zero=False)
    base = altair.Chart(altair.InlineData(values)).encode(x=x, y=y)
    colour = altair.Color("passes:N", title=None).scale(range=["#808a93", "#0072B2"])
    names_at = base.transform_filter("datum.name").encode(text="name:N")
    points = base.mark_point(filled=True, size=50).encode(color=colour, shape="passes:N")
    ring = names_at.mark_point(size=160, color="#D55E00")
    text = names_at.mark_text(align="left", dx=9, dy=-8, fontSize=13)
    return (points + ring + text).properties(width=560, height=320)


def main() -> None:
    """Measure, and print a line for each view as it is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--backbone", default="mobilenet_v2", choices=BACKBONES)
    parser.add_argument("--precision", nargs="+", default=[FP32], choices=(FP32, BF16))
    parser.add_argument("--views", nargs="*", help="features@size; none: the frontier")
    parser.add_argument("--shifts", action="store_true", help="judge on moved images, too")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--home", type=Path, help="with weights and features; none: a new one")
    parser.add_argument("--out", type=Path, default=Path("features.json"))
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        home = given.home or Path(folder)
        bench = Bench(given.dataset, given.weights, given.backbone, home)
        views = {text: bench.view(text) for text in given.views or frontier(given.backbone)}
        names = {f"{view.features}@{view.image_size}": text for text, view in views.items()}
        names = {view: text for view, text in names.items() if text.isalpha()}
        if given.shifts:
            print(f"| features | copies | {' | '.join(['0', *(f'{s:.0%}' for s in SHIFTS)])} |")
            print(f"|---|---|---|{'---|' * len(SHIFTS)}")
            for view in dict.fromkeys(views.values()):
                for row in bench.shifts(view):
                    rows.append(row)
                    name, copies, *judged = row.values()
                    cells = (f"{interval(of['points'])}" for of in judged)
                    print(f"| `{name}` | {copies} | {' | '.join(cells)} |", flush=True)
        else:
            print("| features | number | points | AUROC | images/s | kB a round | MB of sums |")
            print(f"|{'---|' * 7}")
            for view, precision in product(dict.fromkeys(views.values()), given.precision):
                if view.dim > MOST and not given.views:
                    continue
                row = bench.measure(replace(view, precision=precision))
                rows.append(row)
                name, mark = row["view"], names.get(row["view"], "")
                how = f" in {precision}" if len(given.precision) > 1 else ""
                print(
                    f"| {f'**{mark}** ' if mark else ''}`{name}`{how} | {row['features']:,} | "
                    f"{interval(row['points'])} | {interval(row['auroc'])} | "
                    f"{row['images_per_second']:,.0f} | {row['round_kb']:.0f} | "
                    f"{row['closed_form_mb']:.1f} |",
                    flush=True,
                )
    given.out.write_text(json.dumps(rows, indent=2) + "\n")
    if given.picture:
        given.picture.write_bytes(to_png(draw(picture(rows, names))))


if __name__ == "__main__":
    main()
