"""A closed form in which everything depends on who takes part, and which costs nothing.

Client i has a sum of 10^i, and says 10 (i + 1) of itself in the roll call. The model's weights are
the total of the sums, its noise that of the roll call.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from adding import Adding, outcome, settings
from safetensors.numpy import load_file

from celeba_fl.client_app import app as client_app
from celeba_fl.common.arrays import Arrays
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs
from celeba_fl.server_app import app as server_app
from celeba_fl.task import Description, Instructions, NodeConfig


class Late(Adding):
    """The task; what tests change are the class attributes."""

    asked: ClassVar[list[int]] = []  # who has been asked for sums
    held: Callable[[int], int] = staticmethod(lambda client: client + 1)
    total = 0

    def description_sums(self) -> Arrays:
        return {"d": np.zeros(1, np.int64)}

    def instruct_from_sums(self, sums: Arrays) -> Instructions:
        self.total = int(sums["d"][0])
        return {}

    def initial_arrays(self) -> Arrays:
        start = super().initial_arrays()
        return {**start, "noise": start["noise"] + np.float32(self.total)}

    def describe(self, node: NodeConfig, instructions: Instructions) -> Description:
        client = int(node["partition-id"])
        self.fault(client, 0)
        said = {"d": np.array([10 * self.held(client)])}
        return Description(self.held(client), 1, np.array([client % 2]), sums=said)

    def zero_sums(self) -> Arrays:
        return {"s": np.zeros(1, np.int64)}

    def summarise(self, node: NodeConfig, instructions: Instructions) -> tuple[Arrays, int]:
        client = int(node["partition-id"])
        self.asked.append(client)
        self.fault(client, 1)
        return {"s": np.array([10**client])}, self.held(client)

    def solve(self, sums: Arrays, instructions: Instructions) -> Arrays:
        start = self.initial_arrays()
        return {**start, "weight": start["weight"] + np.float32(sums["s"][0])}


def nodes(*clients: int, of: int = 4) -> list[dict[str, Any]]:
    """The node configs of these partitions."""
    return [{"partition-id": client, "num-partitions": of} for client in clients]


def keys(folder: Path, **more: Any) -> dict[str, Any]:
    """Run-config keys of a run of the task in `folder`."""
    own = {"task": "late:Late", "strategy": "closed-form", "keep_sums": True}
    return settings(folder, **{**own, "min_available_clients": 1, **more})


def solve(folder: Path, at: Sequence[int | dict[str, Any]], **more: Any) -> Path:
    """Run it with these clients, or nodes; the run's directory, whatever others there are."""
    of = [one if isinstance(one, dict) else nodes(one)[0] for one in at]
    before = {run.path for run in read_runs(folder)}
    run_inline(RunConfig.load(keys(folder, **more)), of, server_app, client_app)
    (path,) = {run.path for run in read_runs(folder)} - before or {Path(str(more.get("resume")))}
    return path


def join(path: Path, at: Sequence[int], **more: Any) -> Path:
    """Let clients join a run while these are there."""
    config = RunConfig.load(keys(path.parent, join=str(path), **more))
    run_inline(config, nodes(*at), server_app, client_app)
    return path


def figures(path: Path) -> dict[str, Any]:
    """All that a run recorded, traffic aside, with the files of arrays that clients change."""
    found = without_traffic(outcome(path))
    for name in ("base", "sums"):
        found[name] = (path / f"{name}.safetensors").read_bytes()
    return found


def without_traffic(found: dict[str, Any]) -> dict[str, Any]:
    """What a run recorded, but not how much it sent, nor how clients stand out as they train."""
    for row in found["rounds.csv"]:
        row.pop("bytes_up"), row.pop("bytes_down")
    for row in found["clients.csv"]:
        row.pop("loss_before"), row.pop("loss_before_z"), row.pop("suspected")
    return found


def weight(path: Path) -> float:
    """The model's weight: a digit for each client that is in it."""
    return float(load_file(path / "model.safetensors")["weight"][0])
