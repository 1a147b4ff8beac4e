"""What the task attributes adds under a privacy budget, where clients tell of nothing."""

import numpy as np

from celeba_fl.common.arrays import Floats, Ints
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.data.table import Table
from celeba_fl.privacy.ledger import Data
from celeba_fl.task import NodeConfig
from celeba_fl.tasks.client_data import ClientData
from celeba_fl.tasks.examples import Examples
from celeba_fl.tasks.honest_faces import HonestFaces


class BudgetedFaces(HonestFaces):
    """A task that knows whose data a ledger is about, and base rates that no client has told."""

    faces: ClientData[Table]
    _central: dict[str, Examples]  # by part

    def data_of(self, node: NodeConfig) -> Data:
        """The images that a node takes its own from."""
        fingerprint = self.faces.of(node).fingerprint
        if path := node.get("data-path"):
            return Data(str(path), fingerprint)
        part = f"partition {node.get('partition-id')}"
        return Data(f"{self.config.dataset}, {part}", f"{fingerprint}, {part}")

    def base_rates(self, counts: Ints, num_train: int) -> Floats:
        """The share of each attribute among the clients' train images, by what they have counted.

        Under a privacy budget it is that of the official validation split.
        """
        positives = counts[-len(ATTRIBUTES) :]
        if self.config.private:
            labels = self._central["server_valid"].labels
            positives, num_train = labels.sum(axis=0), len(labels)
        rates: Floats = (np.asarray(positives) + 0.5) / (num_train + 1)
        return rates
