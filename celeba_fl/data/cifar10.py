"""CIFAR-10, or other small images with a class each: parquet files, or a folder of images.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. A parquet file has a
column of encoded images (a struct with `bytes`), such as `img` or `image`, and one of classes,
`label`; its name tells the split. A folder has a `metadata.csv` with the columns `file_name`,
`label` and perhaps `split`, or a folder for each class. Images of an official validation split are
train images here, as parts of these validate. Classes are called as the hub's metadata in a file
call them; else they are the names of folders, the texts in the column, or CIFAR-10's where the
columns are CIFAR-10's, or numbers. All images are decoded once and resized, grey ones to three
equal channels, into arrays that every process maps into memory: a client imports neither pyarrow
nor Pillow.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import keep, stamp_key
from celeba_fl.common.log import LOG, Progress
from celeba_fl.data import hub
from celeba_fl.data.classfolders import filed_images, folders_in
from celeba_fl.data.imagefolder import METADATA, NAME, choices, image_names
from celeba_fl.data.parquet import by_split, check_images, opened, parquet_files
from celeba_fl.data.schema import SPLITS
from celeba_fl.data.table import (
    LabelledImages,
    hash_image,
    open_columns,
    read_file,
    report_unreadable,
    save_columns,
)
from celeba_fl.data.text import read_cells

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IMAGE_SIZE = 32
# The splits here, and those that others make.
PARTS = ("train", "test")
PART_OF = {"train": "train", "valid": "train", "test": "test"}
ARRAYS = ("image", "labels", "split", "content", "pixels", "unreadable", "classes")
CHUNK = 1000
LABELS = ("label", "labels", "class", "target", "fine_label")
# More classes than small images tell apart, and the longest name of one.
MOST, LONGEST = 1000, 200


# Name, split, encoded image and class of each image.
Images = Iterator[tuple[str, str, bytes, int]]


@dataclass(frozen=True)
class Pictures(LabelledImages):
    """Decoded images, ``n`` rows; `labels` are (n,) int64, positions in `classes`."""

    pixels: np.ndarray  # (n, 3, 32, 32) uint8, RGB
    unreadable: np.ndarray  # (k,) str, names of further images that could not be decoded: no rows
    classes: np.ndarray  # (classes,) str, their names

    def report_unreadable(self, bad_images: str) -> None:
        """Log which images were left out; under ``fail`` they are an InputError."""
        report_unreadable(self.name, self.unreadable, bad_images, "replace them")


def load(dataset: str, home: Path) -> Pictures:
    """Open the images of a data set; the first time, read, check and decode all of it.

    It is a hub id such as ``"uoft-cs/cifar10"``, a folder with the parquet files of one, in it or
    one level below, or one of images with a `metadata.csv` or a folder for each class; or
    ``"none"``, without images, as clients bring their own. Decoded images are kept in
    ``home/pictures``, downloads in ``home/hub``. Files that change are decoded again.

    Raises
    ------
    InputError
        If there is no such data set, or something in it is wrong. Images that cannot be decoded
        are only noted.
    """
    if dataset == "none":
        return Pictures(
            "none", "none", **_arrays([], np.empty((0, 3, IMAGE_SIZE, IMAGE_SIZE)), [], CLASSES)
        )
    try:
        kept = _kept(dataset, home)
        columns = open_columns(kept, ARRAYS)
    except OSError as error:  # names the file
        raise InputError(f"{dataset} cannot be read or kept: {error}") from error
    return Pictures(name=dataset, **columns)


def _kept(dataset: str, home: Path) -> Path:
    """The folder of the arrays, which are made unless they are there."""
    folder = hub.fetch(dataset, home)
    files, metadata = parquet_files(folder), folder / METADATA
    if metadata.exists():
        files = [metadata, folder]
    elif not files and (classes := folders_in(folder)):
        files = [folder, *classes, *(part for name in classes for part in folders_in(name))]
    if not files:
        raise InputError(
            f"{folder.absolute()} holds no images: there should be parquet files with the columns "
            f"of uoft-cs/cifar10 (that hub id, a folder as `dataset`, or a node's own "
            f"`data-path`), a {METADATA} with file_name and label, or a folder for each class"
        )
    return keep(home / "pictures" / stamp_key(files), partial(_parse, dataset, files))


def _parse(dataset: str, files: list[Path], folder: Path) -> None:
    """Write the arrays, and their fingerprint, into a new folder."""
    from pyarrow import ArrowException

    from celeba_fl.data.images import BadImageError, decode

    LOG.info("Decoding %s, once", dataset)
    try:
        if files[0].name == METADATA:
            total, classes, images = _in_folder(files[0])
        elif files[0].is_dir():
            total, classes, images = _in_class_folders(files[0])
        else:
            total, classes, images = _in_parquet(files)
        _check_names(files[0], classes)
        pixels = np.empty((total, 3, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
        progress = Progress("Decoding images", total)
        rows: list[tuple[str, int, int, int]] = []
        unreadable: list[str] = []
        for name, split, data, label in images:
            try:
                pixels[len(rows)] = decode(data, IMAGE_SIZE)
            except BadImageError:
                unreadable.append(name)
            else:
                rows.append((name, label, SPLITS.index(split), hash_image(data)))
            progress.advance()
    except ArrowException as error:
        raise InputError(
            f"The parquet files of {files[0].parent} cannot be read: {error}"
        ) from error
    if not rows:
        raise InputError(f"{files[0].parent} holds no image that can be read")
    arrays = _arrays(rows, pixels, unreadable, classes)
    sha = hashlib.sha256()
    for name in ("pixels", "labels", "split"):
        sha.update(arrays[name].tobytes())
    if classes != CLASSES:
        sha.update("\n".join(classes).encode())
    save_columns(folder, arrays, sha.hexdigest())


def _arrays(
    rows: list[tuple[str, int, int, int]],
    pixels: np.ndarray,
    unreadable: list[str],
    classes: tuple[str, ...],
) -> dict[str, np.ndarray]:
    """Arrays of `Pictures`, from the name, class, split and hash of each image."""
    images, labels, splits, contents = zip(*rows, strict=True) if rows else ([], [], [], [])
    return {
        "image": np.array(images, str),
        "labels": np.array(labels, np.int64),
        "split": np.array(splits, np.uint8),
        "content": np.array(contents, np.uint64),
        "pixels": np.asarray(pixels[: len(rows)], np.uint8),
        "unreadable": np.array(unreadable, str),
        "classes": np.array(classes, str),
    }


def _in_folder(metadata: Path) -> tuple[int, tuple[str, ...], Images]:
    """Number of images, classes, and name, split, encoded image and class of each."""
    cells = read_cells(metadata)
    cells.check_columns((NAME, "label"), ("split",))
    names, labels = image_names(cells, metadata.parent), cells["label"]
    codes = _codes(metadata, set(labels))
    splits = [PARTS[0]] * len(names)
    if "split" in cells.columns:
        numbers = {split: PARTS.index(part) for split, part in PART_OF.items()}
        splits = [PARTS[number] for number in choices(cells, "split", numbers)]

    def images() -> Images:
        for row, (name, split, label) in enumerate(zip(names, splits, labels, strict=True)):
            yield name, split, read_file(metadata.parent, row, name), codes[label]

    return len(names), tuple(map(str, codes)), images()


def _in_class_folders(folder: Path) -> tuple[int, tuple[str, ...], Images]:
    """Number of images, classes, and name, split, encoded image and class of each."""
    classes, filed = filed_images(folder)
    codes = _codes(folder, {*classes})

    def images() -> Images:
        for row, (name, split, label) in enumerate(filed):
            yield name, PART_OF[split], read_file(folder, row, name), codes[label]

    return len(filed), tuple(classes), images()


def _in_parquet(files: list[Path]) -> tuple[int, tuple[str, ...], Images]:
    """Number of images, classes, and name, split, encoded image and class of each."""
    columns = {file: _columns(file) for file in files}
    seen: set[Any] = set()
    for file, (_, label) in columns.items():
        for batch in opened(file).iter_batches(CHUNK, columns=[label]):
            try:
                seen |= set(batch[label].to_pylist())
            except TypeError:
                raise InputError(
                    f"{file}: column {label} is {batch[label].type}; it should hold one class a row"
                ) from None
    schema = opened(files[0]).schema_arrow
    classes: tuple[str, ...] = _named(schema.metadata, columns[files[0]][1])
    worded = any(isinstance(label, str) for label in seen)
    if not classes and not worded and set(columns.values()) == {("img", "label")}:
        classes = CLASSES
    codes = {number: number for number in range(len(classes))} or _codes(files[0], seen)
    total = sum(opened(file).metadata.num_rows for file in files)
    return total, classes or tuple(map(str, codes)), _read(columns, codes)


def _columns(path: Path) -> tuple[str, str]:
    """The names of the columns of images and of classes."""
    import pyarrow as pa

    schema = opened(path).schema_arrow
    if len(set(schema.names)) < len(schema.names):
        raise InputError(f"{path}: names a column twice, of {', '.join(schema.names)}")
    encoded = [
        field.name
        for field in schema
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]
    image = "img" if "img" in schema.names else next(iter(encoded), None)
    label = next((name for name in LABELS if name in schema.names), None)
    missing = [name for name, found in (("img", image), ("label", label)) if not found]
    if not image or not label:
        raise InputError(
            f"{path} lacks the columns {', '.join(missing)}; there should be img and label, as "
            f"in uoft-cs/cifar10, and there are {', '.join(schema.names)}"
        )
    if image not in encoded:
        kind = schema.field(image).type
        raise InputError(f"{path}: column img is {kind}; it should be encoded images, in bytes")
    return image, label


def _named(metadata: dict[bytes, bytes] | None, label: str) -> tuple[str, ...]:
    """The names of classes in the hub's metadata of a file; none if it has no such."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
        return tuple(names) if all(isinstance(name, str) for name in names) else ()
    except (KeyError, TypeError, ValueError):
        return ()


def _codes(path: Path, seen: set[Any]) -> dict[Any, int]:
    """The number of each class that is seen: texts in their order, or numbers from 0 on."""
    if seen and all(isinstance(label, str) and label for label in seen):
        found: list[Any] = sorted(seen)
    else:
        numbers = [label for label in seen if type(label) is int and 0 <= label < MOST]
        if not numbers or len(numbers) < len(seen):
            raise InputError(
                f"{path}: the classes should be texts, or whole numbers from 0 to {MOST - 1}"
            )
        found = [*range(max(numbers) + 1)]
    if not 1 < len(found) <= MOST:
        raise InputError(f"{path}: names {len(found)} classes; there should be 2 to {MOST}")
    return {label: number for number, label in enumerate(found)}


def _check_names(path: Path, classes: tuple[str, ...]) -> None:
    """Raise InputError unless the names of classes can stand in a table, a log and a page."""
    for name in classes:
        if not name.isprintable() or not 0 < len(name) <= LONGEST or name.strip() != name:
            raise InputError(
                f"{path}: the class {name[:LONGEST]!r} should have a name of 1 to {LONGEST} "
                f"printable characters, without space around it"
            )


def _read(columns: dict[Path, tuple[str, str]], codes: dict[Any, int]) -> Images:
    """Name, split, encoded image and class, of every image of parquet files."""
    rows = dict.fromkeys(PARTS, 0)
    splits = {path: split for split, paths in by_split([*columns]).items() for path in paths}
    for path, (image, label_name) in columns.items():
        split = PART_OF[splits[path]]
        check_images(path, image, empty=True)
        for batch in opened(path).iter_batches(CHUNK, columns=[image, label_name]):
            encoded = batch[image].field("bytes").to_pylist()
            for data, label in zip(encoded, batch[label_name].to_pylist(), strict=True):
                if label not in codes:
                    raise InputError(
                        f"{path}: label {label!r} of an image should be a whole number from 0 to "
                        f"{len(codes) - 1}"
                    )
                yield f"{split}-{rows[split]:06d}", split, data or b"", codes[label]
                rows[split] += 1
