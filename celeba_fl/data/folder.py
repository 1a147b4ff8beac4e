"""CelebA as its authors publish it: a folder of aligned images and three text files.

Layout and formats: https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html. The official files end their
lines in CR and LF; copies often have lost the CR, and hold a part of the images only.
"""

import os
from collections import Counter
from collections.abc import Collection
from functools import partial
from pathlib import Path

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.data.schema import ATTRIBUTES, SPLITS
from celeba_fl.data.table import Annotations, Source, read_file

IMAGES = "img_align_celeba"
LABELS = "list_attr_celeba.txt"
SPLIT = "list_eval_partition.txt"
IDENTITY = "identity_CelebA.txt"
SUFFIXES = (".jpg", ".jpeg", ".png")


def source(folder: Path, home: Path) -> Source | None:
    """Make a source of the folder; None if nothing in it has this layout.

    Raises
    ------
    InputError
        If some of the four parts are there and others are missing.
    """
    parts = [folder / name for name in (IMAGES, LABELS, SPLIT, IDENTITY)]
    missing = [part.name for part in parts if not part.exists()]
    if len(missing) == len(parts):
        return None
    if missing:
        raise InputError(
            f"{folder} lacks {', '.join(missing)}; the official CelebA layout is a folder "
            f"{IMAGES}/ with the images, {LABELS}, {SPLIT} and {IDENTITY}"
        )
    return Source(parts, partial(annotations, folder), partial(read_file, folder / IMAGES))


def annotations(folder: Path) -> Annotations:
    """Read the three text files, for those images that the folder holds, in the order of the first.

    Raises
    ------
    InputError
        If a file is not in the official format, there are no images, or an image lacks its row.
    """
    names, labels = _labels(folder / LABELS)
    splits = _numbers(folder / SPLIT)
    identities = _numbers(folder / IDENTITY)

    present = {name for name in os.listdir(folder / IMAGES) if _is_image(name)}
    if not present:
        raise InputError(f"{folder / IMAGES} holds no image ({', '.join(SUFFIXES)})")
    for file, annotated in ((LABELS, set(names)), (SPLIT, splits), (IDENTITY, identities)):
        _check_all_annotated(folder / file, present, annotated)

    kept = [row for row, name in enumerate(names) if name in present]
    if len(kept) < len(names):
        LOG.info(
            "%s: the table is the %d images that are there, of %d in %s",
            folder, len(kept), len(names), LABELS,
        )  # fmt: skip
    image = [names[row] for row in kept]
    codes = {name: splits[name] for name in image if splits[name] not in range(len(SPLITS))}
    if codes:
        name, code = next(iter(codes.items()))
        raise InputError(
            f"{folder / SPLIT}: split code {code} of {name} (and {len(codes) - 1} more like it) "
            "is unknown; 0 is train, 1 valid, 2 test"
        )
    return Annotations(
        image=np.array(image),
        celeb_id=np.array([identities[name] for name in image], np.int32),
        labels=labels[kept],
        split=np.array([splits[name] for name in image], np.uint8),
    )


def _is_image(name: str) -> bool:
    """Tell images from the `.DS_Store`, `._000001.jpg` and `Thumbs.db` that systems leave."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").rstrip().splitlines()


def _labels(path: Path) -> tuple[list[str], np.ndarray]:
    """Image names, and (n, 40) bool in the order of `ATTRIBUTES` whatever that of the file."""
    lines = _lines(path)
    count, columns = "".join(lines[:1]).strip(), "".join(lines[1:2]).split()
    del lines[:2]
    missing, unknown = sorted({*ATTRIBUTES} - {*columns}), sorted({*columns} - {*ATTRIBUTES})
    if missing or unknown or len(columns) != len(ATTRIBUTES):
        raise InputError(
            f"{path}, line 2, should name CelebA's 40 attributes, each once; it names "
            f"{len(columns)}; missing: {missing or 'none'}, unknown: {unknown or 'none'}"
        )
    if count != str(len(lines)):
        raise InputError(
            f"{path}: {count!r} on line 1 should be the number of images, but "
            f"{len(lines)} rows follow; the file is cut off or not the official one"
        )
    names = []
    labels = np.empty((len(lines), len(ATTRIBUTES)), bool)
    for row, line in enumerate(lines):
        name, *values = line.split() or [""]
        if len(values) != len(ATTRIBUTES) or not {"-1", "1"}.issuperset(values):
            raise InputError(f"{path}, line {row + 3}: {line!r} should be a name and 40 of -1, 1")
        names.append(name)
        labels[row] = [value == "1" for value in values]
    if len(set(names)) < len(names):
        name, times = Counter(names).most_common(1)[0]
        raise InputError(f"{path}: {name} has {times} rows; an image should have one")
    return names, labels[:, [columns.index(name) for name in ATTRIBUTES]]


def _numbers(path: Path) -> dict[str, int]:
    """Image name to number: the format of the other two files."""
    numbers = {}
    for row, line in enumerate(_lines(path)):
        try:
            name, number = line.split()
            numbers[name] = int(number)
        except ValueError:
            raise InputError(
                f"{path}, line {row + 1}: {line!r} should be a name and a number"
            ) from None
    return numbers


def _check_all_annotated(path: Path, present: set[str], annotated: Collection[str]) -> None:
    lacking = sorted(present.difference(annotated))
    if lacking:
        raise InputError(
            f"{path} has no row for {len(lacking)} of {len(present)} images, such as "
            f"{', '.join(lacking[:3])}; take the files that belong to these images"
        )
