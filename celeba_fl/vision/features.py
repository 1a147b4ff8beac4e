"""Features of images, kept: the backbone is frozen, so each image goes through it once.

The next run, with another partition, seed or learning rate, computes nothing.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from celeba_fl.common.files import hash_key
from celeba_fl.data.images import PREPROCESSING
from celeba_fl.data.table import Table
from celeba_fl.vision.backbones import BACKBONES
from celeba_fl.vision.extractor import FeatureExtractor
from celeba_fl.vision.store import ImageStore, StoredRows


def preprocessing_hash(backbone: str, image_size: int) -> str:
    """SHA-256 (hex) of what happens to an image before the backbone; equal on all clients."""
    norm = BACKBONES[backbone]
    text = f"{backbone}; {PREPROCESSING}; N={image_size}; mean={norm.mean}; std={norm.std}"
    return hashlib.sha256(text.encode()).hexdigest()


class FeatureStore(ImageStore):
    """The features of a table's images under one backbone, (dim,) float32 each.

    They go to ``home/features/<key>``. The backbone is a key of `BACKBONES`, and its weights are
    the SHA-256 (hex) from `resolve_weights`; the size of an image is its edge in pixels. `version`
    is seed and number of altered versions of the images; None: the images as they are.
    """

    what = "Computing features"

    def __init__(
        self,
        home: Path,
        table: Table,
        backbone: str,
        weights: str,
        image_size: int,
        version: tuple[int, int] | None = None,
    ) -> None:
        self._backbone, self.version = (home, backbone, weights, image_size), version
        parts: tuple[object, ...]
        parts = table.fingerprint, weights, preprocessing_hash(backbone, image_size)
        if version:
            from celeba_fl.vision.augmentation import AUGMENTATION

            parts += (AUGMENTATION, *version)
        folder = home / "features" / hash_key(*parts)
        super().__init__(folder, table, (BACKBONES[backbone].dim,), np.float32)

    def computing(self) -> FeatureExtractor:
        """The backbone."""
        return FeatureExtractor(*self._backbone, self.version)


class Versions:
    """Several sets of rows, (n, dim) each, as one: those of versions of the same images."""

    def __init__(self, parts: Sequence[StoredRows]) -> None:
        self._parts, self._each = parts, len(parts[0])
        self.shape = (len(parts) * self._each, *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        version, row = np.divmod(np.arange(len(self))[index], self._each)
        rows = np.empty((len(row), *self.shape[1:]), np.float32)
        for number in np.unique(version):
            rows[version == number] = self._parts[number][row[version == number]]
        return rows
