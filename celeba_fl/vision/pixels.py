"""Small squares of pixels: decoded once an image, and read batch by batch in training."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from celeba_fl.common.files import hash_key
from celeba_fl.data.images import CROPPING, BadImageError, centre_square, decode, encode
from celeba_fl.data.table import Table
from celeba_fl.vision.store import Compute, ImageStore


class PixelStore(ImageStore):
    """The images of a table, cropped and resized, (3, size, size) uint8 each.

    They go to ``home/pixels/<key>``.
    """

    what = "Decoding images"

    def __init__(self, home: Path, table: Table, size: int) -> None:
        self.size, self.key = size, hash_key(table.fingerprint, CROPPING, size)
        super().__init__(home / "pixels" / self.key, table, (3, size, size), np.uint8)

    @contextmanager
    def computing(self) -> Iterator[Compute]:
        """A decoder; it gives None for bytes that are not an image."""

        def decoded(images: Iterator[bytes]) -> Iterator[np.ndarray | None]:
            for data in images:
                try:
                    yield decode(data, self.size, centre_square)
                except BadImageError:
                    yield None

        yield decoded

    def as_table(self) -> Table:
        """The table with its stored pixels as images; the rows must have been filled."""

        def read(row: int) -> bytes:
            return encode(self.read(np.array([row]))[:][0])

        return replace(self.table, fingerprint=self.key, read=read)
