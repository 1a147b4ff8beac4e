"""The table that every source of faces provides, and what all tables of labelled images share."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.data.schema import SPLITS

# Limits of an image: bytes in its file, and pixels. Decoded, so many take 256 MB, and twice that
# for a moment.
MAX_BYTES, MAX_PIXELS = 128 * 10**6, 64 * 10**6
# What images should be, for people.
READABLE = f"JPEG or PNG, of {MAX_PIXELS // 10**6} megapixels at most"


@dataclass(frozen=True)
class LabelledImages:
    """Images and their labels, ``n`` rows; the arrays may be memory-mapped."""

    name: str  # the source as the user wrote it: `drawn`, a hub id, a folder
    fingerprint: str  # SHA-256 (hex) over all of it, pixels included; equal on every machine
    image: np.ndarray  # (n,) str, the file name, e.g. ``"000001.jpg"``; unique
    labels: np.ndarray  # (n, k) bool, attributes; or (n,) integers, the class of each image
    split: np.ndarray  # (n,) uint8, positions in `SPLITS`
    content: np.ndarray  # (n,) uint64, a hash of the encoded bytes; equal bytes, equal hash

    def __len__(self) -> int:
        return len(self.image)

    def rows(self, split: str) -> np.ndarray:
        """Row numbers (int64, ascending) of a split."""
        return np.flatnonzero(np.asarray(self.split) == SPLITS.index(split))


@dataclass(frozen=True)
class Table(LabelledImages):
    """Faces: `labels` are (n, 40) bool, in the order of `ATTRIBUTES`; (n, 0) of plain pictures."""

    celeb_id: np.ndarray  # (n,) int32, the identity; images of one person are not independent
    read: Callable[[int], bytes]  # the encoded image (JPEG or PNG bytes) of a row

    @property
    def labelled(self) -> bool:
        """Whether attributes are known."""
        return bool(self.labels.shape[1])

    @property
    def identified(self) -> bool:
        """Whether it is known who is who; if not, each image is taken for another person."""
        return len(np.unique(self.celeb_id)) < len(self)


class Annotations(NamedTuple):
    """Columns that a source has without opening its images; shapes and types as in `Table`."""

    image: np.ndarray
    celeb_id: np.ndarray
    labels: np.ndarray
    split: np.ndarray


@dataclass(frozen=True)
class Source:
    """Origin of a table; nothing is read before it is needed."""

    files: list[Path]  # all whose names, sizes and times change when the content does
    annotations: Callable[[], Annotations]  # reads and checks them; raises `InputError`
    read: Callable[[int, str], bytes]  # the encoded image of a row, given its number and its name
    folder: Path | None = None  # where images are files of these names; None: they are none


def inside(folder: Path, name: str) -> Path:
    """The file of a name in a folder, links followed; both names are what others have written.

    Raises
    ------
    InputError
        If it lies outside of the folder, or the name cannot stand in a log.
    """
    if not name.isprintable():
        raise InputError(f"{name!r} has control characters in it, or is not in UTF-8; rename it")
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, name))
    if not path.startswith(os.path.join(root, "")):
        raise InputError(
            f"{name!r} lies outside of {folder}, at {path}; an image should be a file in the "
            f"folder (which may be a link as a whole)"
        )
    return Path(path)


def read_file(folder: Path, row: int, name: str) -> bytes:
    """The `read` of a source whose images are files of a folder, for `partial`.

    What is longer than an image can be, or no file (such as a pipe, which would be waited for),
    counts as an empty one.
    """
    path = inside(folder, name)
    about = path.stat()
    return path.read_bytes() if S_ISREG(about.st_mode) and about.st_size <= MAX_BYTES else b""


def hash_image(data: bytes) -> int:
    """The hash of encoded bytes in `content`: 64 bits of BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def save_columns(folder: Path, columns: Mapping[str, np.ndarray], fingerprint: str) -> None:
    """Write the columns of a table, and its fingerprint, into a new folder."""
    folder.mkdir()
    for name, column in columns.items():
        np.save(folder / f"{name}.npy", column)
    (folder / "fingerprint").write_text(fingerprint)


def open_columns(folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """The fingerprint and the columns that `save_columns` wrote, memory-mapped."""
    columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    return {"fingerprint": (folder / "fingerprint").read_text(), **columns}


def repeats(content: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Find images that are in several places, such as splits or partitions.

    (k, 2) int64: pairs of rows with equal content in two different places, (n,) both. A content in
    ``m`` places gives ``m - 1`` pairs.
    """
    order = np.lexsort((place, content))
    content, place = content[order], place[order]
    same = (content[1:] == content[:-1]) & (place[1:] != place[:-1])
    return np.stack([order[:-1][same], order[1:][same]], axis=1)


def report_unreadable(dataset: str, images: np.ndarray, bad_images: str, cure: str) -> None:
    """Log which images are left out, since they cannot be read; under ``fail`` an InputError.

    `images` are their names, and `cure` is what would make them readable.
    """
    number, names = len(images), ", ".join(images[:5].tolist())
    if number and bad_images == "fail":
        raise InputError(
            f"{number} of the images of {dataset} cannot be read: {names}; {cure}, or leave them "
            f"out with bad-images = 'skip'"
        )
    if number:
        LOG.warning("Left out %d unreadable images of %s: %s", number, dataset, names)
