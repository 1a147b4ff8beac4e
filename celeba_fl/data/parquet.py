"""Parquet files that others have written, checked before anything is made of them."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from celeba_fl.common.errors import InputError
from celeba_fl.data.text import SPLIT_WORDS, WHOLE

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

# Encoded images hardly shrink in a file: what grows beyond these limits is no file of images.
GROWTH, FREE = 100, 64 * 10**6
CHUNK = 1000
POINTER = b"version https://git-lfs"


def parquet_files(folder: Path) -> list[Path]:
    """Parquet files in a folder or one level below."""
    found = (*folder.glob("*.parquet"), *folder.glob("*/*.parquet"))
    return sorted(path for path in found if path.is_file())


def by_split(files: list[Path]) -> dict[str, list[Path]]:
    """Files by their splits, which their names or those of their folders tell; else all are train.

    A README beside them could name other files, outside of the folder too: it is not read.
    """
    root = os.path.commonpath([file.parent for file in files])
    names = {file: f"{file.name} {file.parent.relative_to(root)}".lower() for file in files}
    words = {file: re.split("[^a-z]+", name) for file, name in names.items()}
    named = {
        file: next((SPLIT_WORDS[word] for word in words[file] if word in SPLIT_WORDS), None)
        for file in files
    }
    unnamed = [file for file in files if named[file] is None]
    if unnamed and len(unnamed) < len(files):
        raise InputError(
            f"{unnamed[0]}: the file's name should begin with train, valid or test, as others' do"
        )
    splits = dict.fromkeys(SPLIT_WORDS.values())
    found = {
        split: [file for file in files if (named[file] or "train") == split] for split in splits
    }
    return {split: those for split, those in found.items() if those}


def opened(path: Path, dictionary: str = "") -> "ParquetFile":
    """Open a file that is whole and does not grow beyond all measure.

    Of the column `dictionary`, equal values are read as one.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    with path.open("rb") as start:
        if start.read(len(POINTER)) == POINTER:
            raise InputError(
                f"{path}: is a pointer of Git LFS instead of the file it stands for; get that with "
                f"git lfs pull"
            )
    try:
        file = ParquetFile(path, read_dictionary=[dictionary] if dictionary else None)
    except (ArrowException, OSError) as error:
        raise InputError(
            f"{path}: cannot be read: it is no whole parquet file ({error}); get it again"
        ) from error
    metadata = file.metadata
    groups = (metadata.row_group(group) for group in range(metadata.num_row_groups))
    _check_growth(path, sum(group.total_byte_size for group in groups))
    return file


def check_images(path: Path, column: str, empty: bool) -> None:
    """Raise InputError if the images of a file take too much room, or one is missing.

    With `empty`, a missing one is no error.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    file, name, total, row = opened(path, f"{column}.bytes"), f"{column}.bytes", 0, 0
    for batch in file.iter_batches(CHUNK, columns=[name]):
        encoded = batch.column(0).field("bytes")
        if encoded.null_count and not empty:
            place = row + pc.index(pc.is_null(encoded), True).as_py()
            raise InputError(
                f"{path}, line {place + 1}: the image of this row has no bytes; embed the images "
                f"in the file"
            )
        if isinstance(encoded, pa.DictionaryArray):
            sizes = pc.binary_length(encoded.dictionary).take(encoded.indices)
        else:
            sizes = pc.binary_length(encoded)
        total += pc.sum(sizes).as_py() or 0
        row += len(batch)
        _check_growth(path, total)


def check_whole_numbers(path: Path, column: str) -> None:
    """Raise InputError if the values of a column are not whole numbers of 32 bits."""
    import pyarrow as pa

    file, row = opened(path), 0
    kind = file.schema_arrow.field(column).type
    if not pa.types.is_integer(kind):
        raise InputError(f"{path}: column {column} is {kind}; it should be whole numbers")
    for batch in file.iter_batches(CHUNK, columns=[column]):
        for place, value in enumerate(batch.column(0).to_pylist(), row + 1):
            if value is not None and not WHOLE.min <= value <= WHOLE.max:
                raise InputError(
                    f"{path}, line {place}: {column} should be a whole number of 32 bits, and is "
                    f"{value}"
                )
        row += len(batch)


def _check_growth(path: Path, size: int) -> None:
    if size > GROWTH * path.stat().st_size + FREE:
        raise InputError(
            f"{path}: its {path.stat().st_size} bytes grow to {size} and more when they are read; "
            f"it is no file of images"
        )
