"""One row an image, computed once, kept on disk, shared by every process.

The rows are a NumPy file, read where they are needed; a second one says which of them are there.
Several processes may fill and read a store at once, and be killed at any moment: a row counts as
there only after it was written, and is computed again otherwise.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from celeba_fl.common.files import keep
from celeba_fl.common.log import Progress
from celeba_fl.data.table import READABLE, Table, report_unreadable

EMPTY, DONE, BAD = 0, 1, 2
CHUNK = 256
# Rows that are read once, and what is kept of them.
FEW_BYTES, KEPT_BYTES = 4 * 2**20, 32 * 2**20
# Present once no row is from before images were decoded to what a viewer shows.
AS_SHOWN = "as-shown"

# Encoded images in, their rows out in the same order; None for an image that cannot be read.
Compute = Callable[[Iterator[bytes]], Iterator[np.ndarray | None]]


class ImageStore(ABC):
    """Rows of one shape and type, computed from the images of a table.

    They are kept in `folder`, whose name must tell all that they depend on.
    """

    what = "Computing rows"  # for the log

    def __init__(
        self, folder: Path, table: Table, shape: tuple[int, ...], dtype: DTypeLike
    ) -> None:
        self.table = table

        def create(new: Path) -> None:
            """Make files of the right size; rows are a hole until they are filled in."""
            new.mkdir()
            np.lib.format.open_memmap(new / "rows.npy", "w+", dtype, (len(table), *shape))
            np.save(new / "state.npy", np.full(len(table), EMPTY, np.uint8))
            (new / AS_SHOWN).touch()

        self.folder = keep(folder, create)
        self._rows = np.load(self.folder / "rows.npy", mmap_mode="r")
        self._state = np.load(self.folder / "state.npy", mmap_mode="r+")
        self._opened: dict[int, StoredRows] = {}  # the one opened last is the last
        self._kept = 0  # bytes of them
        keep(self.folder / AS_SHOWN, self._forget_stored)

    def _forget_stored(self, marker: Path) -> None:
        """Empty the rows of older code, once, where it was blind to what a viewer shows."""
        from celeba_fl.data.images import is_plain

        for row in np.flatnonzero(self._state == DONE).tolist():
            if not is_plain(self.table.read(row)):
                self._state[row] = EMPTY
        marker.touch()

    @abstractmethod
    def computing(self) -> AbstractContextManager[Compute]:
        """A function that computes rows, for as long as the context lasts."""

    def fill(self, rows: np.ndarray, bad_images: str) -> None:
        """Compute the rows that are not there yet.

        An image that cannot be read is logged and left out; under ``fail`` it is an InputError.
        """
        missing = rows[self._state[rows] == EMPTY]
        if len(missing):
            progress = Progress(self.what, len(missing))
            with self.computing() as compute, (self.folder / "rows.npy").open("r+b") as file:
                for start in range(0, len(missing), CHUNK):
                    chunk = missing[start : start + CHUNK]
                    state = np.full(len(chunk), DONE, np.uint8)
                    for i, row in enumerate(compute(map(self.table.read, chunk))):
                        if row is None:
                            state[i] = BAD
                        else:
                            # Not through the map: on a full disk that ends the process by SIGBUS.
                            file.seek(self._rows.offset + chunk[i] * row.nbytes)
                            file.write(row.tobytes())
                        progress.advance()
                    file.flush()
                    os.fsync(file.fileno())
                    self._state[chunk] = state
        bad = self.table.image[rows[self._state[rows] == BAD]]
        cure = f"delete them, and only then put whole ones in their place ({READABLE})"
        report_unreadable(self.table.name, bad, bad_images, cure)

    def readable(self, rows: np.ndarray) -> np.ndarray:
        """Rows that are there, out of `rows`: all but those of unreadable images."""
        if (self._state[rows] == EMPTY).any():
            raise RuntimeError("rows are read before they are filled")
        return rows[self._state[rows] == DONE]

    def read(self, rows: np.ndarray) -> "StoredRows":
        """Open the given rows, to be indexed like an array (k, ...).

        Those opened last are kept, up to 32 MB of what they have read: a client reads the same
        again in each round, and a process that simulates clients has those of many.
        """
        opened = self._opened.pop(id(rows), None)
        if opened is None:
            opened = StoredRows(self.folder / "rows.npy", self._rows, rows)
            self._kept += opened.kept
        if opened.kept:
            self._opened[id(rows)] = opened
        while self._kept > KEPT_BYTES:
            self._kept -= self._opened.pop(next(iter(self._opened))).kept
        return opened


class StoredRows:
    """Rows of a store, read from disk when they are asked for, by slice or positions.

    So a process that trains on many images holds one batch of them; few are read once. (Pages of a
    mapped file would be memory of each process that has ever read them.)
    """

    def __init__(self, path: Path, mapped: np.memmap, rows: np.ndarray) -> None:
        self._path, self._offset, self.rows, self._dtype = path, mapped.offset, rows, mapped.dtype
        self.shape = (len(rows), *mapped.shape[1:])
        size = prod(self.shape) * self._dtype.itemsize
        self.kept = size if size <= FEW_BYTES else 0  # bytes that stay in memory once they are read
        self._few: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        if not self.kept:
            return self._read(self.rows[index])
        if self._few is None:
            self._few = self._read(self.rows)
        chosen = self._few[index]
        return chosen.copy() if chosen.base is self._few else chosen

    def _read(self, rows: np.ndarray) -> np.ndarray:
        read = np.empty((len(rows), *self.shape[1:]), self._dtype)
        with self._path.open("rb", buffering=0) as file:
            for values, row in zip(read, rows.tolist(), strict=True):
                os.preadv(file.fileno(), [values.data], self._offset + row * values.nbytes)
        return read
