"""The main task with clients that fail on purpose, for `task = "faulty:Faulty"`."""

import time

import numpy as np

from celeba_fl.common.arrays import Arrays
from celeba_fl.task import Instructions, NodeConfig
from celeba_fl.tasks.attributes import Attributes

HANG_SECONDS = 80


class Faulty(Attributes):
    """Of 20 clients, from round `since` on, 0-4 raise, 5 and 6 send NaN and 7 hangs."""

    since = 2

    def train(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions, seed: int
    ) -> tuple[Arrays, int, float]:
        """Train, or fail."""
        client = int(node["partition-id"])
        trained, number, loss = super().train(arrays, node, instructions, seed)
        if int(instructions["server-round"]) >= self.since:
            if client < 5:
                raise RuntimeError(f"client {client} has no power")
            if client < 7:
                return {key: array * np.nan for key, array in trained.items()}, number, loss
            if client == 7:
                self.hang()
        return trained, number, loss

    def hang(self) -> None:
        """Answer too late."""
        time.sleep(HANG_SECONDS)


class Impatient(Faulty):
    """The same, but that 7 raises, also at the model before, asked about in the same exchange."""

    def hang(self) -> None:
        """Do not answer."""
        raise RuntimeError("no patience")

    def evaluate(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions
    ) -> tuple[dict[str, Arrays], int]:
        """Evaluate, or do not answer."""
        if instructions["server-round"] == self.since - 1 and node["partition-id"] == 7:
            self.hang()
        return super().evaluate(arrays, node, instructions)


class Broken(Attributes):
    """Of 20 clients, 12 raise in round 2, unless the file `healed` is in the home."""

    def train(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions, seed: int
    ) -> tuple[Arrays, int, float]:
        """Train, or fail."""
        healed = (self.config.home_dir / "healed").exists()
        if instructions["server-round"] == 2 and int(node["partition-id"]) < 12 and not healed:
            raise RuntimeError("no power")
        return super().train(arrays, node, instructions, seed)
