"""CelebA as its authors publish it, and as copies of it are out there: images and three tables.

Layout and formats: https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html. The authors' drive has the
tables in `Anno/` and `Eval/`, the images in `Img/`; Kaggle has comma-separated tables, images one
folder deeper, and no identities; torchvision has all of it in `celeba/`. The official files end
their lines in CR and LF; copies often have lost the CR, hold a part of the images only, or hold
them as PNG under names that end in .jpg in the tables.
"""

import os
from collections import Counter
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.data.schema import ATTRIBUTES, SPLITS
from celeba_fl.data.table import Annotations, Source, read_file
from celeba_fl.data.text import read_cells, read_lines, whole_number

# Where the folder of CelebA may be, the images in it, and the tables.
ROOTS = (".", "celeba", "CelebA")
IMAGES = ("img_align_celeba", "img_align_celeba_png")
IMAGES_IN, TABLES_IN = (".", "Img"), (".", "Anno", "Eval")
LABELS, SPLIT, IDENTITY = "list_attr_celeba", "list_eval_partition", "identity_CelebA"
FORMS = (".txt", ".csv")
SUFFIXES = (".jpg", ".jpeg", ".png")


class Parts(NamedTuple):
    """The paths of a copy of CelebA."""

    images: Path
    labels: Path
    split: Path
    identity: Path | None  # None: nobody says who is who


class Numbered(NamedTuple):
    """A row of a table: its number of line, the image's name and the other cells."""

    line: int
    name: str
    values: list[str]


def source(folder: Path, home: Path) -> Source | None:
    """Make a source of the folder; None if nothing in it has this layout.

    Raises
    ------
    InputError
        If some of the parts are there and others are missing.
    """
    parts = find(folder)
    if not parts:
        return None
    files = [part for part in parts if part]
    read = partial(read_file, parts.images)
    return Source(files, partial(annotations, folder), read, parts.images)


def find(folder: Path) -> Parts | None:
    """The parts of CelebA in a folder; None if there is none, InputError if one is missing."""
    for root in (folder / name for name in ROOTS):
        images = _first(root, IMAGES_IN, IMAGES)
        tables = [
            _first(root, TABLES_IN, [f"{stem}{form}" for form in FORMS])
            for stem in (LABELS, SPLIT, IDENTITY)
        ]
        names = f"{IMAGES[0]}/", f"{LABELS}.txt", f"{SPLIT}.txt"
        missing = [name for name, part in zip(names, (images, *tables), strict=False) if not part]
        if len(missing) == len(names) and not tables[-1]:
            continue
        labels, split, identity = tables
        if not (images and labels and split):
            packed = [path.name for path in (*root.glob("*.zip"), *root.glob("*/*.zip"))]
            raise InputError(
                f"{root} lacks {', '.join(missing)}; CelebA is a folder {IMAGES[0]}/ with the "
                f"images, {LABELS} and {SPLIT}, each .txt or .csv, and, if people are known, "
                f"{IDENTITY}.txt{f'; unpack {packed[0]}' if packed else ''}"
            )
        while (images / images.name).is_dir():
            images /= images.name
        return Parts(images, labels, split, identity)
    return None


def annotations(folder: Path) -> Annotations:
    """Read the tables, for those images that the folder holds, in the order of the labels.

    Raises
    ------
    InputError
        If a file is not in the official format, there are no images, or an image lacks its row.
    """
    parts = find(folder)
    assert parts is not None, "`source` has found them"
    names, labels = _labels(parts.labels)
    splits = _numbers(parts.split)
    identities = _numbers(parts.identity) if parts.identity else None

    present = _present(parts.images)
    for file, annotated in ((parts.labels, names), (parts.split, splits)):
        _check_all_annotated(file, present, annotated)
    if parts.identity and identities is not None:
        _check_all_annotated(parts.identity, present, identities)

    kept = [row for row, name in enumerate(names) if name in present]
    if len(kept) < len(names):
        LOG.info(
            "%s: the table is the %d images that are there, of %d in %s",
            folder, len(kept), len(names), parts.labels.name,
        )  # fmt: skip
    keys = [names[row] for row in kept]
    codes = {key: splits[key] for key in keys if splits[key] not in range(len(SPLITS))}
    if codes:
        key, code = next(iter(codes.items()))
        raise InputError(
            f"{parts.split}: split code {code} of {present[key]} (and {len(codes) - 1} more like "
            "it) is unknown; 0 is train, 1 valid, 2 test"
        )
    people = range(len(keys)) if identities is None else [identities[key] for key in keys]
    return Annotations(
        image=np.array([present[key] for key in keys]),
        celeb_id=np.array(people, np.int32),
        labels=labels[kept],
        split=np.array([splits[key] for key in keys], np.uint8),
    )


def _first(root: Path, places: Collection[str], names: Collection[str]) -> Path | None:
    """The first of some names that is there, in the first of some places below a folder."""
    paths = (root / place / name for place in places for name in names)
    return next((path for path in paths if path.exists()), None)


def _stem(name: str) -> str:
    """The name of an image without its suffix, in which tables and files may differ."""
    return name.rpartition(".")[0] or name


def _present(images: Path) -> dict[str, str]:
    """The images of a folder by their names without suffix.

    Not the `.DS_Store`, `._000001.jpg` and `Thumbs.db` that systems leave.
    """
    present: dict[str, str] = {}
    for found in sorted(os.listdir(images)):
        name = os.fsencode(found).decode(errors="backslashreplace")
        if name.lower().endswith(SUFFIXES) and not name.startswith("."):
            other = present.setdefault(_stem(name), name)
            if other != name:
                raise InputError(f"{images} holds {other} and {name}; take one of them out")
    if not present:
        raise InputError(f"{images} holds no image ({', '.join(SUFFIXES)})")
    return present


def _labels(path: Path) -> tuple[list[str], np.ndarray]:
    """Images without suffix, and (n, 40) bool in the order of `ATTRIBUTES`, whatever the file's."""
    columns, rows = _comma_separated(path) if path.suffix == ".csv" else _spaced(path)
    missing, unknown = sorted({*ATTRIBUTES} - {*columns}), sorted({*columns} - {*ATTRIBUTES})
    if missing or unknown or len(columns) != len(ATTRIBUTES):
        raise InputError(
            f"{path}, line {1 + (path.suffix != '.csv')}, should name CelebA's 40 attributes, each "
            f"once; it names {len(columns)}; missing: {missing or 'none'}, unknown: "
            f"{unknown or 'none'}"
        )
    names = []
    labels = np.empty((len(rows), len(ATTRIBUTES)), bool)
    for row, (line, name, values) in enumerate(rows):
        if len(values) != len(ATTRIBUTES) or not {"-1", "1"}.issuperset(values):
            text = " ".join([name, *values])
            raise InputError(f"{path}, line {line}: {text!r} should be a name and 40 of -1, 1")
        names.append(_stem(name))
        labels[row] = [value == "1" for value in values]
    if len(set(names)) < len(names):
        key, times = Counter(names).most_common(1)[0]
        name = next(row.name for row in rows if _stem(row.name) == key)
        raise InputError(f"{path}: {name} has {times} rows; an image should have one")
    return names, labels[:, [columns.index(name) for name in ATTRIBUTES]]


def _spaced(path: Path) -> tuple[list[str], list[Numbered]]:
    """The columns and rows of the official file of labels."""
    lines = read_lines(path)
    count, columns = "".join(lines[:1]).strip(), "".join(lines[1:2]).split()
    if {*columns} & {*ATTRIBUTES} and count != str(len(lines) - 2):
        raise InputError(
            f"{path}: {count!r} on line 1 should be the number of images, but "
            f"{len(lines) - 2} rows follow; the file is cut off or not the official one"
        )
    return columns, _split(lines[2:], 3)


def _split(lines: list[str], first: int) -> list[Numbered]:
    rows = [line.split() or [""] for line in lines]
    return [Numbered(number, row[0], row[1:]) for number, row in enumerate(rows, first)]


def _comma_separated(path: Path) -> tuple[list[str], list[Numbered]]:
    """The columns after the first, and the rows, of a table as Kaggle has them."""
    cells = read_cells(path)
    rows = zip(cells.lines, cells.rows, strict=True)
    return cells.columns[1:], [Numbered(line, row[0], row[1:]) for line, row in rows]


def _numbers(path: Path) -> dict[str, int]:
    """Image without suffix to number: the format of the other two tables."""
    csv = path.suffix == ".csv"
    rows = _comma_separated(path)[1] if csv else _split(read_lines(path), 1)
    numbers: dict[str, int] = {}
    for line, name, values in rows:
        number = whole_number(values[0]) if len(values) == 1 else None
        if number is None:
            text = " ".join([name, *values])
            raise InputError(
                f"{path}, line {line}: {text!r} should be a name and a number of 32 bits"
            )
        if _stem(name) in numbers:
            raise InputError(f"{path}, line {line}: a second row for {name}; one is right")
        numbers[_stem(name)] = number
    return numbers


def _check_all_annotated(path: Path, present: dict[str, str], annotated: Collection[str]) -> None:
    lacking = sorted(present.keys() - annotated)
    if lacking:
        raise InputError(
            f"{path} has no row for {len(lacking)} of {len(present)} images, such as "
            f"{', '.join(present[key] for key in lacking[:3])}; add their rows, or take these "
            f"images out of the folder"
        )
