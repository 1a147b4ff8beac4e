"""A folder of images with a `metadata.csv`, as Hugging Face's ImageFolder has it: a site's own.

A row an image: its name in a column `file_name`, relative to the folder, and the 40 attributes in
columns of 1 and 0, or 1 and -1. A column `celeb_id` (whole numbers) and a column `split` (train,
valid, test) may be there. Without the first, each image is taken for another person; without the
second, all are train images. Other columns are not read, unless they seem to mean one of these,
which is an error; nor are images that have no row.

Layout: https://huggingface.co/docs/datasets/image_dataset#imagefolder.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.data.schema import ATTRIBUTES, SPLITS
from celeba_fl.data.table import Annotations, Source, inside, read_file
from celeba_fl.data.text import Cells, read_cells, whole_number

METADATA = "metadata.csv"
NAME = "file_name"
VALUES = {"1": True, "0": False, "-1": False}


def source(folder: Path, home: Path) -> Source | None:
    """Make a source of the folder; None if it has no `metadata.csv`."""
    metadata = folder / METADATA
    if not metadata.exists():
        return None
    read = partial(read_file, folder)
    return Source([metadata, folder], partial(annotations, folder), read, folder)


def annotations(folder: Path) -> Annotations:
    """Read `metadata.csv`, in its order.

    Raises
    ------
    InputError
        If columns are missing, a value is not allowed, or an image has no file, two rows or a place
        outside of the folder.
    """
    cells = read_cells(folder / METADATA)
    cells.check_columns((NAME, *ATTRIBUTES), ("celeb_id", "split"))
    names = image_names(cells, folder)
    number, codes = len(names), {split: code for code, split in enumerate(SPLITS)}
    labels = np.array([choices(cells, name, VALUES) for name in ATTRIBUTES], bool).T
    identified, divided = ("celeb_id" in cells.columns, "split" in cells.columns)
    return Annotations(
        image=np.array(names),
        celeb_id=np.array(_identities(cells) if identified else range(number), np.int32),
        labels=np.ascontiguousarray(labels),
        split=np.array(choices(cells, "split", codes) if divided else [0] * number, np.uint8),
    )


def image_names(cells: Cells, folder: Path) -> list[str]:
    """The column `file_name`, whose files are there, in the folder, each once."""
    path, names = cells.path, cells[NAME]
    if not names:
        raise InputError(f"{path} names no image; there should be a row an image")
    lines: dict[Path, int] = {}
    lost = []
    for line, name in zip(cells.lines, names, strict=True):
        try:
            file = inside(folder, name)
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from None
        if file in lines:
            raise InputError(
                f"{path}, line {line}: names an image that line {lines[file]} names too, {name}; "
                f"it should have one row"
            )
        lines[file] = line
        if not file.is_file():
            lost.append(name)
    if lost:
        raise InputError(
            f"{path} names {len(lost)} images that are not in {folder}, such as "
            f"{', '.join(lost[:3])}; put them there, or take their rows out"
        )
    return names


def choices(cells: Cells, column: str, values: Mapping[str, int]) -> list[int]:
    """The values that the cells of a column stand for; InputError if one stands for none."""
    for line, name, cell in zip(cells.lines, cells[NAME], cells[column], strict=True):
        if cell not in values:
            raise InputError(
                f"{cells.path}, line {line}: {column} of {name} is {cell!r}, and should be one of "
                f"{', '.join(values)}"
            )
    return [values[cell] for cell in cells[column]]


def _identities(cells: Cells) -> list[int]:
    numbers = []
    for line, cell in zip(cells.lines, cells["celeb_id"], strict=True):
        number = whole_number(cell)
        if number is None:
            raise InputError(
                f"{cells.path}, line {line}: celeb_id should be whole numbers of 32 bits, and is "
                f"{cell!r}"
            )
        numbers.append(number)
    return numbers
