"""A task in closed form under a privacy budget; its noise is the server's, and so can be left out.

Client i holds the numbers of `held`, of which it sends the sum; the model is their total. What it
says of them besides is all that a client can say.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from adding import Adding, settings

from celeba_fl.client_app import app as client_app
from celeba_fl.common.arrays import Arrays
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.privacy.ledger import Data, Release
from celeba_fl.privacy.noise import noise_multiplier
from celeba_fl.runs.reading import read_runs
from celeba_fl.server_app import app as server_app
from celeba_fl.task import Description, Instructions, NodeConfig, Prepared


class Budgeted(Adding):
    """The numbers are in [-1, 1]."""

    reads: ClassVar = (
        *("init", "privacy-epsilon", "privacy-delta", "privacy-unit", "privacy-noise"),
        *("clipping-norm", "max-images", "partitioner"),
    )
    held: ClassVar[Mapping[int, list[float]]] = {0: [0.5, 0.25], 1: [1.0], 2: [-0.5]}

    def prepare(self) -> Prepared:
        config, known = self.config, super().prepare().provenance
        sigma = noise_multiplier(config.privacy_epsilon, config.privacy_delta)
        release = Release("the sum of numbers", "Gaussian, added by the server", 1.0, sigma)
        return Prepared({}, known, (release,), ("nothing",))

    def public_arrays(self) -> Arrays:
        return self.initial_arrays()

    def of(self, node: NodeConfig) -> np.ndarray:
        return np.array(self.held[int(node["partition-id"])])

    def data_of(self, node: NodeConfig) -> Data:
        return Data(f"here {node['partition-id']}", f"numbers {node['partition-id']}")

    def describe(self, node: NodeConfig, instructions: Instructions) -> Description:
        own = self.of(node)
        self.fault(int(node["partition-id"]), 0)
        sums = {"positives": np.array([(own > 0).sum()])}
        return Description(len(own), len(own), np.array([(own > 0).sum()]), sums=sums)

    def description_sums(self) -> Arrays:
        return {"positives": np.zeros(1, np.int64)}

    def zero_sums(self) -> Arrays:
        return {"s": np.zeros(1, np.int64)}

    def summarise(self, node: NodeConfig, instructions: Instructions) -> tuple[Arrays, int]:
        own = self.of(node)
        self.fault(int(node["partition-id"]), 1)
        return {"s": np.array([round(own.sum() * 2**20)])}, len(own)

    def solve(self, sums: Arrays, instructions: Instructions) -> Arrays:
        return {key: array + sums["s"][0] for key, array in self.initial_arrays().items()}


CLOSED = {
    "strategy": "closed-form",
    "init": "public",
    "privacy-epsilon": 1.0,
    "privacy-unit": "image",
    "privacy-noise": "server",
}
AVERAGED = {
    **CLOSED,
    "strategy": "fedavg",
    "privacy-unit": "client",
    "weighting": "uniform",
    "num-server-rounds": 2,
}


def run_budgeted(
    folder: Path, keys: Mapping[str, Any], nodes: list[dict[str, Any]] | int = 3, **more: Any
) -> Path:
    """Run it inline, with a home beside its runs; the newest run's directory."""
    own = {"home": str(folder.parent / "home"), "task": "budgeted:Budgeted", **keys}
    config = RunConfig.load({**settings(folder), **own, **more})
    run_inline(config, nodes, server_app, client_app)
    return read_runs(folder)[0].path
