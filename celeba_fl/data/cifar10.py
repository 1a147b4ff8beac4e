"""CIFAR-10, or data of the same columns: small images of ten classes, in parquet files.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. The columns are those of
https://huggingface.co/datasets/uoft-cs/cifar10: `img`, a struct whose `bytes` are an encoded
image, and `label`, 0 to 9; the split is how a file's name begins. All images are decoded once, into
arrays that every process maps into memory: a client imports neither pyarrow nor Pillow.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import keep, stamp_key
from celeba_fl.common.log import LOG, Progress
from celeba_fl.data import hub
from celeba_fl.data.parquet import check_images, opened, parquet_files
from celeba_fl.data.schema import SPLITS
from celeba_fl.data.table import (
    LabelledImages,
    hash_image,
    open_columns,
    report_unreadable,
    save_columns,
)

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IMAGE_SIZE = 32
# Its official splits; parts of `train` validate.
PARTS = ("train", "test")
ARRAYS = ("image", "labels", "split", "content", "pixels", "unreadable")
CHUNK = 1000


@dataclass(frozen=True)
class Pictures(LabelledImages):
    """Decoded images, ``n`` rows; `labels` are (n,) int64, positions in `CLASSES`."""

    pixels: np.ndarray  # (n, 3, 32, 32) uint8, RGB
    unreadable: np.ndarray  # (k,) str, names of further images that could not be decoded: no rows

    def report_unreadable(self, bad_images: str) -> None:
        """Log which images were left out; under ``fail`` they are an InputError."""
        report_unreadable(self.name, self.unreadable, bad_images, "replace them")


def load(dataset: str, home: Path) -> Pictures:
    """Open the images of a data set; the first time, read, check and decode all of it.

    It is a hub id such as ``"uoft-cs/cifar10"``, or a folder with the parquet files of one, in it
    or one level below; or ``"none"``, without images, as clients bring their own. Decoded images
    are kept in ``home/cifar10``, downloads in ``home/hub``. Files that change are decoded again.

    Raises
    ------
    InputError
        If there is no such data set, or something in it is wrong. Images that cannot be decoded
        are only noted.
    """
    if dataset == "none":
        return Pictures("none", "none", **_arrays([], np.empty((0, 3, IMAGE_SIZE, IMAGE_SIZE)), []))
    folder = hub.fetch(dataset, home)
    files = parquet_files(folder)
    if not files:
        raise InputError(
            f"{folder.absolute()} holds no parquet file; there should be some with the columns of "
            f"uoft-cs/cifar10 (that hub id, a folder as `dataset`, or a node's own `data-path`)"
        )
    kept = keep(home / "cifar10" / stamp_key(files), partial(_parse, dataset, files))
    return Pictures(name=dataset, **open_columns(kept, ARRAYS))


def _parse(dataset: str, files: list[Path], folder: Path) -> None:
    """Write the arrays, and their fingerprint, into a new folder."""
    from pyarrow import ArrowException

    from celeba_fl.data.images import BadImageError, decode

    LOG.info("Decoding %s, once", dataset)
    try:
        total = sum(opened(file).metadata.num_rows for file in files)
        pixels = np.empty((total, 3, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
        progress = Progress("Decoding images", total)
        rows: list[tuple[str, int, int, int]] = []
        unreadable: list[str] = []
        for split, row, data, label in _read(files):
            name = f"{split}-{row:06d}"
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
    arrays = _arrays(rows, pixels, unreadable)
    sha = hashlib.sha256()
    for name in ("pixels", "labels", "split"):
        sha.update(arrays[name].tobytes())
    save_columns(folder, arrays, sha.hexdigest())


def _arrays(
    rows: list[tuple[str, int, int, int]], pixels: np.ndarray, unreadable: list[str]
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
    }


def _read(files: list[Path]) -> Iterator[tuple[str, int, bytes, int]]:
    """Split, row within it, encoded image and class, of every image."""
    import pyarrow as pa

    rows = dict.fromkeys(PARTS, 0)
    for path in files:
        split = next((part for part in PARTS if path.name.startswith(part)), None)
        if split is None:
            raise InputError(f"{path}: the file's name should begin with {' or '.join(PARTS)}")
        file = opened(path)
        schema = file.schema_arrow
        missing = [name for name in ("img", "label") if name not in schema.names]
        if missing:
            raise InputError(
                f"{path} lacks the columns {', '.join(missing)}; there should be img and label, as "
                f"in uoft-cs/cifar10, and there are {', '.join(schema.names)}"
            )
        kind = schema.field("img").type
        if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
            raise InputError(f"{path}: column img is {kind}; it should be encoded images, in bytes")
        check_images(path, "img", empty=True)
        for batch in file.iter_batches(CHUNK, columns=["img", "label"]):
            encoded = batch["img"].field("bytes").to_pylist()
            for data, label in zip(encoded, batch["label"].to_pylist(), strict=True):
                if label not in range(len(CLASSES)):
                    raise InputError(
                        f"{path}: label {label!r} of an image should be a whole number from 0 to "
                        f"{len(CLASSES) - 1}"
                    )
                yield split, rows[split], data or b"", int(label)
                rows[split] += 1
