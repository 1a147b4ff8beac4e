"""A folder of images with a `metadata.csv`, as Hugging Face's ImageFolder has it: a site's own.

A row an image: its name in a column `file_name`, relative to the folder, and the 40 attributes in
columns of 1 and 0, or 1 and -1. A column `celeb_id` (whole numbers) and a column `split` (train,
valid, test) may be there. Without the first, each image is taken for another person; without the
second, all are train images. Other columns are not read, nor are images that have no row.

Layout: https://huggingface.co/docs/datasets/image_dataset#imagefolder.
"""

import csv
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.data.schema import ATTRIBUTES, SPLITS
from celeba_fl.data.table import Annotations, Source, read_file

METADATA = "metadata.csv"
NAME = "file_name"
VALUES = {"1": True, "0": False, "-1": False}


def source(folder: Path, home: Path) -> Source | None:
    """Make a source of the folder; None if it has no `metadata.csv`."""
    metadata = folder / METADATA
    if not metadata.exists():
        return None
    return Source([metadata, folder], partial(annotations, folder), partial(read_file, folder))


def annotations(folder: Path) -> Annotations:
    """Read `metadata.csv`, in its order.

    Raises
    ------
    InputError
        If columns are missing, a value is not allowed, or an image has no file or two rows.
    """
    path = folder / METADATA
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        columns, rows = table.fieldnames or (), list(table)
    missing = [name for name in (NAME, *ATTRIBUTES) if name not in columns]
    if missing:
        raise InputError(
            f"{path} lacks the columns {', '.join(missing)}; there should be {NAME} and CelebA's "
            "40 attributes, 1 or 0 each"
        )
    if not rows:
        raise InputError(f"{path} names no image; there should be a row an image")
    names = [row[NAME] or "" for row in rows]
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise InputError(f"{path}: {name} has {times} rows; an image should have one")
    lost = [name for name in names if not (folder / name).is_file()]
    if lost:
        raise InputError(
            f"{path} names {len(lost)} images that are not in {folder}, such as "
            f"{', '.join(lost[:3])}; put them there, or take their rows out"
        )

    def column(key: str, values: Mapping[str, int]) -> list[int]:
        wrong = next((row for row in rows if row[key] not in values), None)
        if wrong:
            raise InputError(
                f"{path}: {key} of {wrong[NAME]} is {wrong[key]!r}, and should be one of "
                f"{', '.join(values)}"
            )
        return [values[row[key]] for row in rows]

    labels = np.array([column(name, VALUES) for name in ATTRIBUTES], bool).T
    codes = {split: code for code, split in enumerate(SPLITS)}
    identities = _identities(path, rows) if "celeb_id" in columns else np.arange(len(rows))
    splits = column("split", codes) if "split" in columns else [codes["train"]] * len(rows)
    return Annotations(
        image=np.array(names),
        celeb_id=identities.astype(np.int32),
        labels=np.ascontiguousarray(labels),
        split=np.array(splits, np.uint8),
    )


def _identities(path: Path, rows: list[dict[str, str]]) -> np.ndarray:
    try:
        return np.array([int(row["celeb_id"]) for row in rows], np.int32)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: celeb_id should be whole numbers: {error}") from None
