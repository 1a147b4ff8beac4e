"""The images that a node holds, trains on and validates on, for all tasks."""

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.config import RunConfig
from celeba_fl.data import partitions, sources
from celeba_fl.data.draws import public_rows, valid_mask
from celeba_fl.data.table import LabelledImages, Table
from celeba_fl.task import NodeConfig
from celeba_fl.vision.store import ImageStore

Images = TypeVar("Images", bound=LabelledImages)


class ClientData(Generic[Images]):
    """The images that a run's server and nodes take theirs from; each data set is opened once.

    `load` opens a data set by its name, given `home`.
    """

    def __init__(self, config: RunConfig, load: Callable[[str, Path], Images]) -> None:
        self.config, self.home, self._load = config, config.home_dir, load
        self._opened: dict[str, Images] = {}
        self._parts: dict[Hashable, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def table(self) -> Images:
        """The images of `dataset`."""
        return self._open(self.config.dataset)

    @property
    def public(self) -> np.ndarray:
        """Rows of the public part of `dataset`."""
        return public_rows(self.table, self.config.public_fraction, self.config.seed)

    def dealt(self, num_partitions: int) -> np.ndarray:
        """The partition of each row of `dataset`, (n,) int32; -1: of none."""
        config = self.config
        try:
            return partitions.assign(
                self.table,
                partitioner=config.partitioner,
                num_partitions=num_partitions,
                partition_by=config.partition_by,
                alpha=config.dirichlet_alpha,
                min_size=config.min_partition_size,
                size=config.partition_size,
                public=config.public_fraction,
                order=config.dirichlet_order,
                seed=config.seed,
                home=self.home,
            )
        except InputError as error:  # of keys and of how many images there are
            raise InputError(str(error), open_to_all=True) from error

    def of(self, node: NodeConfig) -> Images:
        """The data set that a node takes its images from: at its `data-path`, or `dataset`."""
        if "data-path" not in node:
            return self.table
        path = str(node["data-path"])
        if not Path(path).expanduser().is_dir():
            raise InputError(f"data-path = {path!r}: there is no such folder on this machine")
        return self._open(path)

    def held(self, node: NodeConfig) -> np.ndarray:
        """Rows that a node holds, ascending: all train images of its own, or its partition.

        Raises
        ------
        InputError
            If its node config names neither, or its own data have no train images.
        """
        if "data-path" in node:
            rows = self.of(node).rows("train")
            if not len(rows):
                raise InputError(f"data-path = {node['data-path']!r} holds no train images")
            return rows
        dataset = self.config.dataset
        if dataset == "none" or not {"partition-id", "num-partitions"} <= node.keys():
            raise InputError(
                f"node config {dict(node)}, dataset = {dataset!r}: say where its images are, with "
                f'--node-config \'site="hospital-a" data-path="/srv/images"\', or which part of a '
                f"data set it holds, with --node-config 'partition-id=0 num-partitions=2'"
            )
        return np.flatnonzero(self.dealt(int(node["num-partitions"])) == int(node["partition-id"]))

    def parts(
        self, node: NodeConfig, store: ImageStore | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Train and validation rows of a node; cached.

        With a store, which has been filled with what the node holds, those that are readable.
        """
        table = self.of(node)
        key = store.folder if store else table.fingerprint, *sorted(node.items())
        if key not in self._parts:
            rows = store.readable(self.held(node)) if store else self.held(node)
            valid = held_out(self.config, table, rows)
            self._parts[key] = rows[~valid], rows[valid]
        return self._parts[key]

    def provenance(self, splits: Sequence[str] = ("train", "valid", "test")) -> dict[str, Any]:
        """Record of `dataset` for `run.json`."""
        table = self.table
        sizes = {split: len(table.rows(split)) for split in splits}
        if self.config.public_fraction:
            sizes["public"] = len(self.public)
        said = {"name": table.name, "fingerprint": table.fingerprint, "splits": sizes}
        if isinstance(table, Table) and len(table) and not table.identified:
            LOG.warning(
                "%s does not say who is who: each image is taken for another person", table.name
            )
            said["identities"] = "unknown"
        return said

    def _open(self, dataset: str) -> Images:
        if dataset not in self._opened:
            self._opened[dataset] = self._load(dataset, self.home)
        return self._opened[dataset]


def train_rows(config: RunConfig, nodes: int) -> tuple[Table, np.ndarray]:
    """A table of faces and its rows, ascending, that the clients of an experiment train on."""
    data = ClientData(config, sources.load)
    rows = np.flatnonzero(data.dealt(nodes) >= 0)
    return data.table, rows[~held_out(config, data.table, rows)]


def held_out(config: RunConfig, table: LabelledImages, rows: np.ndarray) -> np.ndarray:
    """The rows on which clients validate instead of training, (k,) bool."""
    return valid_mask(table, rows, config.valid_fraction, config.seed, config.valid_by)
