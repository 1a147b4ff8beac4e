"""Tables by the key `dataset`: parsed and checked once, then memory-mapped.

The processes of a simulation open the same table again and again. They open NumPy files, whose
pages they share, and import nothing that parses.
"""

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import keep, stamp_key
from celeba_fl.common.log import LOG, Progress
from celeba_fl.data import folder, hub, imagefolder, pictures
from celeba_fl.data.schema import ATTRIBUTES, SPLITS
from celeba_fl.data.table import (
    Annotations,
    Source,
    Table,
    hash_image,
    open_columns,
    repeats,
    save_columns,
)

# What a folder may be, in the order in which it is tried: words for people, and what gives it as a
# `Source`, from the folder and `home`, or None if it is something else.
SOURCES: Mapping[str, Callable[[Path, Path], Source | None]] = {
    (
        "in the official CelebA layout (img_align_celeba/, list_attr_celeba.txt, "
        "list_eval_partition.txt, identity_CelebA.txt)"
    ): folder.source,
    "of images with a metadata.csv": imagefolder.source,
    "of parquet files with the columns of flwrlabs/celeba": hub.source,
}
ARRAYS = (*Annotations._fields, "content")
THREADS = 4
CHUNK = 500


def load(dataset: str, home: Path, plain: bool = False) -> Table:
    """Open the table of a data set; the first time, read and check all of it.

    With `plain`, a folder of pictures without labels will do, too.

    It is ``"drawn"``, a hub id such as ``"flwrlabs/celeba"``, or a folder of one of `SOURCES`; or
    ``"none"``, a table without rows, for a server whose clients bring their own.

    Parsed tables are kept in ``home/tables``, drawn faces in ``home/drawn``, downloads in
    ``home/hub``. A table is parsed again when its text or parquet files change, or when images
    come or go; an image that is overwritten in place is not noticed.

    Raises
    ------
    InputError
        If there is no such data set, it cannot be read, or something in it is wrong.
    """
    if dataset == "none":
        return _nothing()
    try:
        source = source_of(dataset, home, plain)
        kept = keep(home / "tables" / stamp_key(source.files), partial(_parse, dataset, source))
        columns = open_columns(kept, ARRAYS)
    except OSError as error:  # names the file
        raise InputError(f"{dataset} cannot be read or kept: {error}") from error
    return Table(name=dataset, read=partial(_read, source, columns["image"]), **columns)


def source_of(dataset: str, home: Path, plain: bool = False) -> Source:
    """The origin of a data set's table; InputError if there is no such data set."""
    path = keep(home / "drawn", _draw) if dataset == "drawn" else hub.fetch(dataset, home)
    for source in (*SOURCES.values(), pictures.source) if path.is_dir() else ():
        given = source(path, home)
        if given and source is pictures.source and not plain:
            raise InputError(
                f"dataset = {dataset!r}: {path.absolute()} holds pictures without labels, of use "
                f"to the task dcgan alone; any other needs a {imagefolder.METADATA} with the "
                f"attributes of each"
            )
        if given:
            return given
    what = "does not hold a data set" if path.is_dir() else "is not a folder"
    raise InputError(
        f"dataset = {dataset!r}: {path.absolute()} {what}. `dataset` should be 'drawn', a hub id "
        f"such as 'flwrlabs/celeba', 'none' (clients bring their own), or a folder: "
        f"{', or '.join(SOURCES)}"
    )


def _nothing() -> Table:
    image, celeb_id, split = np.empty(0, "<U1"), np.empty(0, np.int32), np.empty(0, np.uint8)
    annotations = Annotations(image, celeb_id, np.empty((0, len(ATTRIBUTES)), bool), split)
    content = np.empty(0, np.uint64)
    return Table("none", _fingerprint(annotations, content), *annotations, content, read=_no_image)


def _no_image(row: int) -> bytes:
    raise IndexError(row)


def _draw(path: Path) -> None:
    from celeba_fl.data.drawn import draw

    draw(path)


def _read(source: Source, image: np.ndarray, row: int) -> bytes:
    return source.read(row, str(image[row]))


def _parse(dataset: str, source: Source, path: Path) -> None:
    """Write the arrays of a table, and its fingerprint, into a new folder."""
    LOG.info("Reading %s, once", dataset)
    annotations = source.annotations()
    content = _hash_images(source, annotations.image)
    _warn_of_leaks(annotations, content)
    columns = {**annotations._asdict(), "content": content}
    save_columns(path, columns, _fingerprint(annotations, content))


def _hash_images(source: Source, image: np.ndarray) -> np.ndarray:
    """The hash of each image, (n,) uint64; threads, since the disk is what takes time."""

    def hash_chunk(start: int) -> list[int]:
        chunk = enumerate(image[start : start + CHUNK].tolist(), start)
        return [hash_image(source.read(*row)) for row in chunk]

    hashes: list[int] = []
    progress = Progress("Reading images", len(image))
    with ThreadPoolExecutor(THREADS) as pool:
        for chunk in pool.map(hash_chunk, range(0, len(image), CHUNK)):
            hashes += chunk
            progress.advance(len(chunk))
    return np.array(hashes, np.uint64)


def _fingerprint(annotations: Annotations, content: np.ndarray) -> str:
    """SHA-256 of all columns in a form that is the same on every machine."""
    sha = hashlib.sha256("\n".join(annotations.image.tolist()).encode())
    sha.update(annotations.celeb_id.astype("<i4").tobytes())
    sha.update(np.packbits(annotations.labels).tobytes())
    sha.update(annotations.split.tobytes())
    sha.update(content.astype("<u8").tobytes())
    return sha.hexdigest()


def _warn_of_leaks(annotations: Annotations, content: np.ndarray) -> None:
    image, _, _, split = annotations
    pairs = repeats(content, split)
    if len(pairs):
        one, other = (f"{image[row]} ({SPLITS[split[row]]})" for row in pairs[0])
        LOG.warning(
            "%d images are, byte for byte, in more than one split, such as %s and %s: what is "
            "measured on one split has been seen in the other",
            len(np.unique(content[pairs[:, 0]])), one, other,
        )  # fmt: skip
