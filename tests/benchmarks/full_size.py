"""All of CelebA's 202,599 images, without their pixels: how cost grows with data and clients.

python tests/benchmarks/full_size.py --labels /data/celeba_labels.parquet [--only 10,000]

The labels are real. The images are files that hold but their names, and their features are made up
from the labels and noise, so accuracies mean nothing here. A folder in CelebA's official layout is
made and read as any other; then the feature store is filled by hand. On 2 cores, ten minutes and
3 GB; those of 10,000 clients take half an hour more, and 6 GB.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import run_ours
from pyarrow import parquet

from celeba_fl.data.schema import ATTRIBUTES, SPLITS
from celeba_fl.data.sources import load
from celeba_fl.vision.backbones import BACKBONES
from celeba_fl.vision.features import FeatureStore
from celeba_fl.vision.pretrain import pretrain
from celeba_fl.vision.store import DONE
from celeba_fl.vision.views import make_view
from celeba_fl.vision.weights import resolve_weights

from engine import Flower  # isort: skip  (on the path once `measure` is imported)

NAME, FEATURES, SIZE, CHUNK = "mobilenet_v2", "last", 224, 10_000
# Clients, part of them in a round, rounds, whether in one process.
RUNS: dict[str, tuple[int, float, int, bool]] = {
    "50 clients, all in a round": (50, 1.0, 10, False),
    "10 clients, all in a round": (10, 1.0, 3, False),
    "1,000 clients, 50 in a round": (1000, 0.05, 10, False),
    "1,000 clients, 100 in a round": (1000, 0.1, 10, False),
    "500 clients, 50 in a round": (500, 0.1, 10, False),
    "1,000 clients, 100 in a round, inline": (1000, 0.1, 20, True),
    "10,000 clients, 100 in a round, inline": (10_000, 0.01, 20, True),
    "10,000 clients, 100 in a round": (10_000, 0.01, 20, False),
}


def write_folder(labels: Path, folder: Path) -> None:
    """The official layout, with the names of images in the place of their pixels."""
    table = parquet.read_table(labels)
    names = table.column("image_id").to_pylist()
    values = np.column_stack([table.column(name).to_numpy() for name in ATTRIBUTES])
    signs = np.where(values > 0, "1", "-1")
    (folder / "img_align_celeba").mkdir(parents=True)
    for name in names:
        (folder / "img_align_celeba" / name).write_text(name)

    def write(file: str, lines: list[str]) -> None:
        (folder / file).write_text("\n".join(lines) + "\n")

    rows = [f"{name} {' '.join(row)}" for name, row in zip(names, signs, strict=True)]
    write("list_attr_celeba.txt", [str(len(names)), " ".join(ATTRIBUTES), *rows])
    people, splits = table.column("celeb_id").to_pylist(), table.column("split").to_pylist()
    write("identity_CelebA.txt", [f"{n} {p}" for n, p in zip(names, people, strict=True)])
    codes = [f"{n} {SPLITS.index(s)}" for n, s in zip(names, splits, strict=True)]
    write("list_eval_partition.txt", codes)


def fill(dataset: Path, weights: Path, home: Path) -> None:
    """Make up the features of all images: their labels, spread over 1,280 numbers, and noise."""
    table = load(str(dataset), home)
    sha256 = resolve_weights(NAME, str(weights), home, partial(pretrain, table=table))
    view = make_view(NAME, FEATURES, SIZE, str(weights))
    store = FeatureStore(home, table, view, sha256)
    features = np.load(store.folder / "rows.npy", mmap_mode="r+")
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(len(ATTRIBUTES), view.dim)).astype(np.float32)
    for start in range(0, len(table), CHUNK):
        labels = np.asarray(table.labels[start : start + CHUNK], np.float32)
        noise = rng.standard_normal((len(labels), view.dim), np.float32)
        features[start : start + CHUNK] = np.abs(0.1 * labels @ spread + noise)
    features.flush()
    store._state[:] = DONE
    store._state.flush()


def main() -> None:
    """Make the data, run, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--only", default="", help="only rows in whose name this is")
    parser.add_argument("--out", type=Path, default=Path("full_size.json"))
    given = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder, home = Path(name), Path(name) / "home"
        os.environ["CELEBA_FL_HOME"] = str(home)
        write_folder(given.labels, folder / "celeba")
        torch.save(BACKBONES[NAME].build().state_dict(), folder / "random.pt")
        start = time.perf_counter()
        load(str(folder / "celeba"), home)
        print(f"reading the table, once: {time.perf_counter() - start:.1f} s", file=sys.stderr)
        fill(folder / "celeba", folder / "random.pt", home)
        settings: dict[str, Any] = {
            "dataset": str(folder / "celeba"),
            "weights": str(folder / "random.pt"),
            "features": FEATURES,
            "image-size": SIZE,
            "local-epochs": 1,
        }
        flower = Flower(folder)
        print("| | whole | until the clients are known | a later round | report |", end="")
        print(" worker's own memory | all processes |")
        print(f"|{'---|' * 7}")
        try:
            for title, (clients, fraction, rounds, inline) in RUNS.items():
                if given.only not in title:
                    continue
                parts = {"fraction-train": fraction, "fraction-evaluate": fraction}
                keys = {**settings, **parts, "num-server-rounds": rounds}
                run = run_ours(flower, keys, clients, inline)
                figures[title] = {
                    "seconds": run.seconds,
                    "begin": run.begin,
                    "later_round": run.later,
                    "report_kb": run.result["report_kb"],
                    "worker_private_mb": run.memory["private"],
                    "all_mb": run.memory["all"],
                }
                print(
                    f"| {title}, {rounds} rounds | {run.seconds:.0f} s | {run.begin:.1f} s | "
                    f"{run.later:.2f} s | {run.result['report_kb']:.0f} kB | "
                    f"{run.memory['private']:.0f} MB | {run.memory['all'] / 1024:.1f} GB |",
                    flush=True,
                )
        finally:
            flower.close()
    given.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
