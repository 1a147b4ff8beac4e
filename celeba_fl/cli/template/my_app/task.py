"""The task: logistic regression, in NumPy, on examples that each client makes up from the seed.

Replace the data, the model and the metrics by yours; celeba_fl/tasks/README.md of celeba-fl goes
through the methods in the order in which one writes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from celeba_fl.common.arrays import Arrays
from celeba_fl.common.keys import key
from celeba_fl.config import RunConfig
from celeba_fl.task import (
    Description,
    Instructions,
    NodeConfig,
    Prepared,
    Tables,
    Task,
    client_name,
    derived_seed,
)

EXAMPLES = 200

Examples = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Keys(RunConfig):
    """Keys of this task, beside those of celeba-fl; `celeba-fl keys` lists all."""

    inputs: int = key("number of measurements of an example", 8, low=1, high=1000)
    noise: float = key("standard deviation of the noise in the labels", 0.5, low=0)


class MyTask(Task):
    """Whether a weighted sum of measurements, and some noise, is above zero."""

    config_class = Keys
    config: Keys
    # The keys of celeba-fl that this task reads, besides those that work for every task.
    reads = ("valid-fraction", "local-epochs", "learning-rate")
    # What clients count among their train examples: columns of partitions.csv.
    count_names = ("positive",)
    # Columns of rounds.csv, as train_loss, valid_loss, test_loss and so on.
    metric_names = ("loss", "accuracy")

    # ---- on the server ---------------------------------------------------------------------

    def prepare(self) -> Prepared:
        """Whatever takes long; what all clients need to know goes into the instructions."""
        return Prepared(instructions={}, provenance={"dataset": {"name": "made-up measurements"}})

    def initial_arrays(self) -> Arrays:
        """The model that round 1 starts from; arrays by name, all of which travel."""
        return {"weight": np.zeros(self.config.inputs), "bias": np.zeros(1)}

    def metrics(self, counts: Arrays) -> dict[str, float]:
        """Metrics from counts that were added up over clients."""
        number = float(counts["number"][0]) or float("nan")
        return {name: float(counts[name][0]) / number for name in self.metric_names}

    def evaluate_centrally(self, arrays: Arrays) -> dict[str, dict[str, float]]:
        """Metrics on the server's own test examples; {} if it has none."""
        return {"test": self.metrics(_count(arrays, self._make_up("test")))}

    def finish(self, arrays: Arrays, counts: Mapping[str, Arrays]) -> Tables:
        """The last word on the final model: summary.json, and a table of this task's own."""
        metrics = self.evaluate_centrally(arrays)["test"]
        true = self._true_weights()
        rows = [
            {"feature": i, "weight": float(weight), "true_weight": float(true[i])}
            for i, weight in enumerate(arrays["weight"])
        ]
        summary = {f"test_{name}": value for name, value in metrics.items()}
        return Tables(summary, csv={"weights.csv": rows})

    # ---- on a client -----------------------------------------------------------------------

    def describe(self, node: NodeConfig, instructions: Instructions) -> Description:
        """How many examples a client has, before round 1."""
        train, valid = self._parts(node)
        return Description(len(train[1]), len(valid[1]), np.array([int(train[1].sum())]))

    def train(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions, seed: int
    ) -> tuple[Arrays, int, float]:
        """Gradient descent on the client's train examples."""
        x, y = self._parts(node)[0]
        weight, bias = arrays["weight"], arrays["bias"]
        for _ in range(self.config.local_epochs if len(y) else 0):
            error = _probability(x, weight, bias) - y
            weight = weight - self.config.learning_rate * error @ x / len(y)
            bias = bias - self.config.learning_rate * error.mean()
        trained = {"weight": weight, "bias": bias}
        return trained, len(y), self.metrics(_count(trained, (x, y)))["loss"]

    def evaluate(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions
    ) -> tuple[dict[str, Arrays], int]:
        """Counts of the client's train and validation examples, never means of them."""
        train, valid = self._parts(node)
        return {"train": _count(arrays, train), "valid": _count(arrays, valid)}, len(valid[1])

    # ---- data ------------------------------------------------------------------------------

    def _parts(self, node: NodeConfig) -> tuple[Examples, Examples]:
        """The client's train and validation examples: `node` says which client this is."""
        x, y = self._make_up(client_name(node))
        valid = np.arange(len(y)) < self.config.valid_fraction * len(y)
        return (x[~valid], y[~valid]), (x[valid], y[valid])

    def _make_up(self, name: str) -> Examples:
        random = np.random.default_rng(derived_seed(self.config.seed, name))
        x = random.normal(size=(EXAMPLES, self.config.inputs))
        noise = self.config.noise * random.normal(size=EXAMPLES)
        return x, (x @ self._true_weights() + noise > 0).astype(float)

    def _true_weights(self) -> np.ndarray:
        return np.random.default_rng(self.config.seed).normal(size=self.config.inputs)


def _probability(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(x @ weight + bias)))


def _count(arrays: Arrays, examples: Examples) -> Arrays:
    x, y = examples
    p = _probability(x, arrays["weight"], arrays["bias"])
    return {
        "number": np.array([len(y)]),
        "loss": np.array([-np.log(np.where(y == 1, p, 1 - p)).sum()]),
        "accuracy": np.array([((p > 0.5) == y).sum()]),
    }
