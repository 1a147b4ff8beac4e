"""Which faces a node holds: what the tasks on tables of faces have in common."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data import partitions, sources
from celeba_fl.data.table import Table
from celeba_fl.vision.store import ImageStore


class ClientData:
    """The tables that a run's server and nodes take faces from, each opened once.

    Parameters
    ----------
    config : RunConfig
        Says which data, and how to deal it.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config, self.home = config, config.home_dir
        self._tables: dict[str, Table] = {}
        self._known: dict[Hashable, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def table(self) -> Table:
        """The images of `dataset`."""
        return self._open(self.config.dataset)

    @property
    def public(self) -> np.ndarray:
        """Rows of the public part of `dataset`."""
        config = self.config
        return partitions.public_rows(self.table, config.public_fraction, config.seed)

    def of(self, node: Mapping[str, Any]) -> Table:
        """The images that a node takes its own from: those at its `data-path`, or of `dataset`."""
        if "data-path" not in node:
            return self.table
        path = str(node["data-path"])
        if not Path(path).expanduser().is_dir():
            raise InputError(f"data-path = {path!r}: there is no such folder on this machine")
        return self._open(path)

    def held(self, node: Mapping[str, Any]) -> np.ndarray:
        """Rows of the images that a node holds: all train images of its own, or its partition."""
        config, table = self.config, self.of(node)
        if "data-path" in node:
            rows = table.rows("train")
            if not len(rows):
                raise InputError(f"data-path = {node['data-path']!r} holds no train images")
            return rows
        if config.dataset == "none" or not {"partition-id", "num-partitions"} <= node.keys():
            raise InputError(
                f"node config {dict(node)}, dataset = {config.dataset!r}: say where its images "
                f'are, with --node-config \'site="hospital-a" data-path="/srv/faces"\', or which '
                f"part of a data set it holds, with --node-config 'partition-id=0 num-partitions=2'"
            )
        return partitions.held(table, node, config, self.home)

    def parts(self, node: Mapping[str, Any], store: ImageStore) -> tuple[np.ndarray, np.ndarray]:
        """Rows that a node trains on, and rows that it validates on; known once they are asked.

        Those that are readable in `store`, which has been filled with what the node holds.
        """
        key = store.folder, *sorted(node.items())
        if key not in self._known:
            rows, config = store.readable(self.held(node)), self.config
            valid = partitions.valid_mask(store.table, rows, config.valid_fraction, config.seed)
            self._known[key] = rows[~valid], rows[valid]
        return self._known[key]

    def provenance(self) -> dict[str, Any]:
        """Of `dataset`, for `run.json`."""
        table = self.table
        sizes = {split: len(table.rows(split)) for split in ("train", "valid", "test")}
        if self.config.public_fraction:
            sizes["public"] = len(self.public)
        return {
            "name": self.config.dataset,
            "fingerprint": table.fingerprint,
            "splits": sizes,
        }

    def _open(self, dataset: str) -> Table:
        if dataset not in self._tables:
            self._tables[dataset] = sources.load(dataset, self.home)
        return self._tables[dataset]
