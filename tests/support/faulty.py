"""The main task with clients that fail on purpose, for `task = "faulty:Faulty"`."""

import time

import numpy as np

from celeba_fl.common.arrays import Arrays
from celeba_fl.task import Instructions, NodeConfig
from celeba_fl.tasks.attributes import Attributes

HANG_SECONDS = 80


class Faulty(Attributes):
    """Of 50 clients, from round `SINCE` on, 0-9 raise, 10-12 send NaN and 13 hangs."""

    since = 2

    def train(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions, seed: int
    ) -> tuple[Arrays, int, float]:
        """Train, or fail."""
        client = int(node["partition-id"])
        trained, number, loss = super().train(arrays, node, instructions, seed)
        if int(instructions["server-round"]) >= self.since:
            if client < 10:
                raise RuntimeError(f"client {client} has no power")
            if client < 13:
                return {key: array * np.nan for key, array in trained.items()}, number, loss
            if client == 13:
                self.hang()
        return trained, number, loss

    def hang(self) -> None:
        """Answer too late."""
        time.sleep(HANG_SECONDS)


class Impatient(Faulty):
    """The same, but that 13 raises, also at the model before, asked about in the same exchange."""

    def hang(self) -> None:
        """Do not answer."""
        raise RuntimeError("no patience")

    def evaluate(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions
    ) -> tuple[dict[str, Arrays], int]:
        """Evaluate, or do not answer."""
        if instructions["server-round"] == self.since - 1 and node["partition-id"] == 13:
            self.hang()
        return super().evaluate(arrays, node, instructions)


class Broken(Attributes):
    """Of 50 clients, 30 raise in round 2, unless the file `healed` is in the home."""

    def train(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions, seed: int
    ) -> tuple[Arrays, int, float]:
        """Train, or fail."""
        healed = (self.config.home_dir / "healed").exists()
        if instructions["server-round"] == 2 and int(node["partition-id"]) < 30 and not healed:
            raise RuntimeError("no power")
        return super().train(arrays, node, instructions, seed)
