"""Small data in CelebA's layout, a head for it, and the long way round to check a short one."""

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from celeba_fl.data.folder import annotations
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.evaluation.metrics import Counts


def write_celeba(
    folder: Path,
    *,
    splits: str = "0" * 8 + "1" * 2 + "2" * 2,
    images_each: int = 2,
    newline: str = "\r\n",
    attributes: tuple[str, ...] = ATTRIBUTES,
    suffix: str = ".jpg",
    seed: int = 0,
) -> Path:
    """Make a small folder in the official layout: 8 x 8 images of one colour each."""
    rng = np.random.default_rng(seed)
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{row + 1:06d}{suffix}" for row in range(len(splits))]
    values = rng.choice([-1, 1], (len(names), len(ATTRIBUTES)))
    order = [ATTRIBUTES.index(attribute) for attribute in attributes]

    def write(file: str, lines: list[str]) -> None:
        (folder / file).write_bytes("".join(f"{line}{newline}" for line in lines).encode())

    rows = [
        f"{image} {' '.join(f'{value:2d}' for value in row[order])}"
        for image, row in zip(names, values, strict=True)
    ]
    write("list_attr_celeba.txt", [str(len(names)), " ".join(attributes), *rows])
    write("list_eval_partition.txt", [f"{n} {s}" for n, s in zip(names, splits, strict=True)])
    write("identity_CelebA.txt", [f"{n} {i // images_each + 1}" for i, n in enumerate(names)])
    for row, image in enumerate(names):
        colour = (row % 256, row // 256 % 256, seed)
        Image.new("RGB", (8, 8), colour).save(
            folder / "img_align_celeba" / image, **({} if suffix == ".png" else {"quality": 95})
        )
    return folder


def spread_head(features: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """A head whose scores have mean 0 and deviation 1: the toy's features are hardly apart."""
    weight = np.random.default_rng(seed).normal(size=(len(ATTRIBUTES), features.shape[1]))
    raw = features.astype(float) @ weight.T
    weight /= raw.std(axis=0)[:, None]
    bias = -raw.mean(axis=0) / raw.std(axis=0)
    return {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}


def nothing_counted(attributes: int) -> Counts:
    """The counts of no example at all."""
    return Counts.of(np.empty((0, attributes)), np.empty((0, attributes), dtype=bool))


def leave_out_weights(celeb_id: np.ndarray) -> np.ndarray:
    """Sample weights (people, n) of images: without each person in turn, the long way."""
    return (celeb_id != np.unique(celeb_id)[:, None]).astype(np.float64)


def png(pixels: np.ndarray) -> bytes:
    """PNG of (height, width, 3) uint8."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_cifar10(folder: Path, *, train: int = 40, test: int = 20, seed: int = 0) -> Path:
    """Make parquet files of CIFAR-10's columns: noise around a colour of the image's class.

    Image ``i`` is of class ``i % 10``; PNG, so pixels come back as they were.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for split, number in (("train", train), ("test", test)):
        labels = np.arange(number) % 10
        pixels = rng.integers(0, 80, (number, 32, 32, 3)).astype(np.uint8)
        pixels[..., 0] += (labels * 17).astype(np.uint8)[:, None, None]
        pixels[..., 1] += ((9 - labels) * 17).astype(np.uint8)[:, None, None]
        images = [{"bytes": png(image), "path": None} for image in pixels]
        table = pa.table({"img": images, "label": labels})
        parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return folder


def write_sites(folder: Path, celeba: Path, sites: int = 3) -> list[Path]:
    """Cut a folder of `write_celeba` by identity: its train images as image folders of sites."""
    found = annotations(celeba)
    folders = []
    for site in range(sites):
        rows = np.flatnonzero((found.celeb_id % sites == site) & (found.split == 0))
        folders.append(folder / f"hospital-{'abcdefg'[site]}")
        (folders[-1] / "faces").mkdir(parents=True)
        with (folders[-1] / "metadata.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["file_name", *ATTRIBUTES])
            for row in rows:
                name = found.image[row]
                shutil.copy(celeba / "img_align_celeba" / name, folders[-1] / "faces")
                table.writerow([f"faces/{name}", *found.labels[row].astype(int)])
    return folders


def write_run(
    path: Path,
    *,
    info: Mapping[str, Any] | None = None,
    csv: Mapping[str, str] | None = None,
    summary: Mapping[str, float] | None = None,
    scores: Mapping[str, Sequence[Any]] | None = None,
) -> Path:
    """A run directory by hand; `scores` are the columns of `test_scores.parquet`."""
    path.mkdir()
    now = datetime.now(UTC).isoformat()
    known = {"status": "completed", "reason": "", "updated": now, **(info or {})}
    (path / "run.json").write_text(json.dumps(known))
    for name, text in (csv or {}).items():
        (path / f"{name}.csv").write_text(text)
    if summary is not None:
        (path / "summary.json").write_text(json.dumps(summary))
    if scores is not None:
        columns = {name: pa.array(np.asarray(column)) for name, column in scores.items()}
        parquet.write_table(pa.table(columns), path / "test_scores.parquet")
    return path
