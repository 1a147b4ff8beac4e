"""Features of images, kept: the backbone is frozen, so each image goes through it once.

The next run, with another partition, seed or learning rate, computes nothing.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from celeba_fl.common.files import hash_key
from celeba_fl.data.images import PREPROCESSING, REDUCING
from celeba_fl.data.table import Table
from celeba_fl.vision.backbones import BACKBONES
from celeba_fl.vision.extractor import FeatureExtractor
from celeba_fl.vision.store import ImageStore, StoredRows
from celeba_fl.vision.views import FP32, LAST, POOLING, View


def preprocessing_hash(view: View) -> str:
    """SHA-256 (hex) of what is made of an image, weights aside; equal on all clients."""
    norm = BACKBONES[view.backbone]
    text = (
        f"{view.backbone}; {PREPROCESSING}; N={view.image_size}; mean={norm.mean}; std={norm.std}"
    )
    if view.features != LAST:
        text += f"; {POOLING}: {view.features}"
    if view.precision != FP32:
        text += f"; {view.precision}; {REDUCING}"
    return hashlib.sha256(text.encode()).hexdigest()


class FeatureStore(ImageStore):
    """The features of a table's images in one view, (dim,) float32 each.

    They go to ``home/features/<key>``. The weights are the SHA-256 (hex) from `resolve_weights`.
    `version` is seed and number of altered versions of the images; None: the images as they are.
    """

    what = "Computing features"

    def __init__(
        self,
        home: Path,
        table: Table,
        view: View,
        weights: str,
        version: tuple[int, int] | None = None,
    ) -> None:
        self._backbone, self.version = (home, view, weights), version
        parts: tuple[object, ...]
        parts = table.fingerprint, weights, preprocessing_hash(view)
        if version:
            from celeba_fl.vision.augmentation import AUGMENTATION

            parts += (AUGMENTATION, *version)
        folder = home / "features" / hash_key(*parts)
        super().__init__(folder, table, (view.dim,), np.float32)

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
        if len(self._parts) == 1:
            return self._parts[0][index]
        version, row = np.divmod(np.arange(len(self))[index], self._each)
        rows = np.empty((len(row), *self.shape[1:]), np.float32)
        for number in np.unique(version):
            rows[version == number] = self._parts[number][row[version == number]]
        return rows
