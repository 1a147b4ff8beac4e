"""A task of someone's own, in one file: breast cancer from scikit-learn, logistic regression."""

from collections.abc import Mapping

import numpy as np
from sklearn.datasets import load_breast_cancer

from celeba_fl.common.arrays import Arrays
from celeba_fl.task import Description, Instructions, NodeConfig, Prepared, Tables, Task


class Cancer(Task):
    """Malignant or benign, from 30 measurements; every fifth row is test."""

    count_names = ("benign",)
    metric_names = ("loss", "accuracy")
    reads = ("valid-fraction", "local-epochs", "learning-rate")

    def prepare(self) -> Prepared:
        """Nothing takes long here."""
        return Prepared(instructions={}, provenance={"dataset": {"name": "breast cancer"}})

    def initial_arrays(self) -> Arrays:
        """A weight a measurement, and a bias."""
        return {"weight": np.zeros(30, np.float32), "bias": np.zeros(1, np.float32)}

    def metrics(self, counts: Arrays) -> dict[str, float]:
        """From the sums."""
        n = float(counts["n"][0])
        return {
            name: float(counts[name][0]) / n if n else float("nan") for name in ("loss", "accuracy")
        }

    def evaluate_centrally(self, arrays: Arrays) -> dict[str, dict[str, float]]:
        """On the test rows."""
        return {"test": self.metrics(_count(arrays, *_rows(test=True)))}

    def finish(self, arrays: Arrays, counts: Mapping[str, Arrays]) -> Tables:
        """The test accuracy, and the names of the measurements."""
        accuracy = self.evaluate_centrally(arrays)["test"]["accuracy"]
        names = ",".join(load_breast_cancer().feature_names)
        return Tables(summary={"test_accuracy": accuracy}, model_metadata={"features": names})

    def describe(self, node: NodeConfig, instructions: Instructions) -> Description:
        """Count the rows of this client."""
        (_, y), (_, y_valid) = self._parts(node)
        return Description(len(y), len(y_valid), np.array([y.sum()]))

    def train(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions, seed: int
    ) -> tuple[Arrays, int, float]:
        """Gradient descent on all rows."""
        x, y = self._parts(node)[0]
        weight, bias = arrays["weight"].astype(float), arrays["bias"].astype(float)
        for _ in range(self.config.local_epochs):
            error = _probability(x, weight, bias) - y
            weight = weight - self.config.learning_rate * error @ x / len(y)
            bias = bias - self.config.learning_rate * error.mean()
        trained = {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
        counts = _count(trained, x, y)
        return trained, len(y), float(counts["loss"][0]) / len(y)

    def evaluate(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions
    ) -> tuple[dict[str, Arrays], int]:
        """Sums over the client's train and validation rows."""
        train, valid = self._parts(node)
        return {"train": _count(arrays, *train), "valid": _count(arrays, *valid)}, len(valid[1])

    def _parts(
        self, node: NodeConfig
    ) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        x, y = _rows(test=False)
        mine = slice(int(node["partition-id"]), None, int(node["num-partitions"]))
        x, y = x[mine], y[mine]
        valid = np.random.default_rng(self.config.seed).random(len(y)) < self.config.valid_fraction
        return (x[~valid], y[~valid]), (x[valid], y[valid])


def _rows(test: bool) -> tuple[np.ndarray, np.ndarray]:
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    chosen = (np.arange(len(y)) % 5 == 0) == test
    return x[chosen], y[chosen]


def _probability(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(x @ weight + bias)))


def _count(arrays: Arrays, x: np.ndarray, y: np.ndarray) -> Arrays:
    p = _probability(x, arrays["weight"].astype(float), arrays["bias"].astype(float))
    loss = -np.log(np.where(y == 1, p, 1 - p)).sum()
    right = ((p > 0.5) == y).sum()
    return {"n": np.array([len(y)]), "loss": np.array([loss]), "accuracy": np.array([right])}
