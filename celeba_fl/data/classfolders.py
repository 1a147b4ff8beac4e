"""Images in a folder for each class, as torchvision's ImageFolder has them.

Either the folders of a data set are its classes, or they are its splits, each with a folder for
each class. An empty folder is a class without images, such as a site may have.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from celeba_fl.common.errors import InputError
from celeba_fl.data.table import inside
from celeba_fl.data.text import SPLIT_WORDS

SUFFIXES = (".jpg", ".jpeg", ".png")


class Filed(NamedTuple):
    """An image's name, relative to the data set, the split whose folder it is in, and its class."""

    name: str
    split: str
    label: str


def folders_in(folder: Path) -> list[Path]:
    """The folders in one, by name; hidden ones do not count."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._")
    return sorted(found)


def filed_images(folder: Path) -> tuple[list[str], list[Filed]]:
    """The classes of a data set, by name, and its images in the order of their names.

    Raises
    ------
    InputError
        If an image is in no class, or outside of the folder; or folders are partly called as splits
        are.
    """
    parts = folders_in(folder)
    splits = {part: SPLIT_WORDS.get(part.name.lower()) for part in parts}
    if any(splits.values()) and not all(splits.values()):
        other = next(part for part in parts if not splits[part])
        raise InputError(
            f"{other} lies beside folders called as splits are; there should be folders of classes "
            f"in {folder}, or in folders train and test (perhaps valid) there, and no others"
        )
    divided = {split: part for part, split in splits.items() if split}
    if len(divided) < len(parts) and divided:
        raise InputError(f"{folder}: two of its folders are for the same split; make one of them")
    classes: set[str] = set()
    images: list[Filed] = []
    for split, part in (divided or {"train": folder}).items():
        for label in folders_in(part):
            classes.add(label.name)
            images += [Filed(name, split, label.name) for name in names_in(folder, label)]
    for place in (folder, *divided.values()):
        if stray := next((path for path in sorted(place.iterdir()) if _is_image(path.name)), None):
            raise InputError(f"{stray}: an image should lie in the folder of its class")
    return sorted(classes), images


def names_in(folder: Path, part: Path) -> Iterator[str]:
    """The names of the images in a part of a data set, relative to it, however deep."""
    for place, folders, files in os.walk(part):
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        for file in sorted(files):
            if _is_image(file):
                name = os.path.relpath(os.path.join(place, file), folder)
                inside(folder, name)
                yield name


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and name[0] not in "._"
