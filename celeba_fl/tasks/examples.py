"""Faces as a head sees them: features of the frozen backbone, computed once an image."""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from celeba_fl.config import RunConfig
from celeba_fl.data import sources
from celeba_fl.data.table import Table
from celeba_fl.vision.backbones import Backbone
from celeba_fl.vision.features import FeatureStore
from celeba_fl.vision.store import StoredRows
from celeba_fl.vision.views import BF16, FP32, View, make_view
from celeba_fl.vision.weights import resolve_weights

if TYPE_CHECKING:
    from torch import nn


# Parts that the server evaluates, and the splits that they are.
CENTRAL = {"server_valid": "valid", "test": "test"}


@dataclass(frozen=True)
class Examples:
    """Rows (n,) of a table of faces as a head sees them, with their features (n, dim) float32."""

    table: Table
    rows: np.ndarray
    features: StoredRows

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def labels(self) -> np.ndarray:
        """Their annotations, (n, 40) bool."""
        return np.asarray(self.table.labels[self.rows])

    @property
    def celeb_id(self) -> np.ndarray:
        """The identity of each, (n,)."""
        return self.table.celeb_id[self.rows]


class FeatureStores:
    """The features of a run's images; each store is opened once."""

    def __init__(self, config: RunConfig) -> None:
        self.config, self.view = config, view_of(config, config.features)
        self._opened: dict[tuple[str, View, str, int], FeatureStore] = {}

    def settle(self, precision: str) -> None:
        """Compute them in a precision that the server tells all, if this code knows it."""
        if precision in (FP32, BF16):
            self.view = replace(self.view, precision=precision)

    def open(self, table: Table, weights: str, version: int = 0) -> FeatureStore:
        """The features of a version of a table's images, 0 being themselves."""
        key = table.fingerprint, self.view, weights, version
        if key not in self._opened:
            config = self.config
            altered = (config.seed, version) if version else None
            self._opened[key] = FeatureStore(config.home_dir, table, self.view, weights, altered)
        return self._opened[key]

    def compute(self, table: Table, weights: str, rows: np.ndarray) -> Examples:
        """The readable ones of some rows; features that are not there yet are computed."""
        store = self.open(table, weights)
        store.fill(rows, self.config.bad_images)
        readable = store.readable(rows)
        return Examples(table, readable, store.read(readable))


def view_of(config: RunConfig, features: str) -> View:
    """The view of these features, for images and weights of a run config."""
    return make_view(config.backbone, features, config.image_size, config.weights)


def backbone_weights(config: RunConfig) -> str:
    """Make the weights that a run config names for its backbone available; their SHA-256 (hex)."""

    def train(backbone: Backbone) -> "nn.Module":
        # Read when PyTorch is imported; threads that spin would take cores from other processes.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        from celeba_fl.vision.pretrain import pretrain

        return pretrain(backbone, sources.load("drawn", config.home_dir))

    return resolve_weights(config.backbone, config.weights, config.home_dir, train)
