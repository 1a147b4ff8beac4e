"""A task for small devices: classes of small images, by LeNet-5, all of it trained and sent."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from celeba_fl.attacks.labels import flipped
from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.common.files import pack_arrays, write_bytes
from celeba_fl.common.keys import split_names
from celeba_fl.common.log import LOG
from celeba_fl.config import RunConfig, keys_of
from celeba_fl.data import cifar10
from celeba_fl.data.cifar10 import Pictures
from celeba_fl.evaluation import metrics
from celeba_fl.evaluation.checking import check_confusion, check_names, check_parts, check_total
from celeba_fl.models.lenet import MEAN, STD, initial_arrays, scores, train_lenet
from celeba_fl.rounds.checking import Client
from celeba_fl.task import (
    Description,
    Instructions,
    NodeConfig,
    Prepared,
    Tables,
    Task,
    Trained,
    client_name,
)
from celeba_fl.tasks.client_data import ClientData
from celeba_fl.tasks.settings import check_partitions

METRICS = ("loss", "accuracy", "majority_accuracy", "balanced_accuracy", "macro_f1")
EACH_EPOCH = ("loss", "accuracy")
# The others would take a step of their own on running variances, below zero too.
STRATEGIES = ("fedavg", "fedprox", "krum", "multikrum", "bulyan", "fedmedian", "fedtrimmedavg")


class Lenet(Task):
    """Classes by LeNet-5; `celeba_fl.models.lenet` describes batch norm here."""

    reads = keys_of("lenet")

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        check_partitions(config)
        self.home = config.home_dir
        self.data = ClientData(config, cifar10.load)
        if config.strategy not in STRATEGIES:
            raise InputError(
                f"strategy = {config.strategy!r}: the task lenet averages batch-norm statistics, "
                f"which {config.strategy} would treat as weights; take one of "
                f"{', '.join(STRATEGIES)}"
            )

    @property
    def count_names(self) -> tuple[str, ...]:
        """Train images of each class."""
        return tuple(f"label={name}" for name in self.classes)

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names: those of the key `classes`, else of the images; of CIFAR-10 without any."""
        return split_names(self.config.classes) or tuple(self.images.classes.tolist())

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Balanced accuracy and F1 are means over the classes that occur."""
        return METRICS

    # ---- on the server ---------------------------------------------------------------------

    def prepare(self) -> Prepared:
        """Decode the images."""
        self.images.report_unreadable(self.config.bad_images)
        if len(self.images):
            _check_classes(self.images, self.classes)
            if not len(self.images.rows("test")):
                LOG.warning(
                    "%s has no test images, so no figure will be of images that no client holds; "
                    "put some into a folder test, a file test-*.parquet, or rows of split test",
                    self.images.name,
                )
        dataset = self.data.provenance(cifar10.PARTS)
        return Prepared(
            instructions={"classes": json.dumps(self.classes)}, provenance={"dataset": dataset}
        )

    def initial_arrays(self) -> Arrays:
        """Random weights, by the run's seed."""
        return initial_arrays(self.config.seed, len(self.classes))

    def metrics(self, counts: Arrays) -> dict[str, float]:
        """From the summed confusion counts."""
        confusion, by_class = counts["confusion"], _by_class(counts["confusion"])
        sums = [counts["loss"][0], np.trace(confusion), confusion.sum(axis=1).max()]
        values = metrics.ratio(np.array(sums), np.full(len(sums), confusion.sum()))
        means = [metrics.mean(by_class[name]) for name in ("recall", "f1")]
        return dict(zip(METRICS, [*values.tolist(), *means], strict=True))

    def check_description(self, client: Client) -> None:
        """Every train image is of one class."""
        check_total("classes", client.counts.sum(), client.num_train)

    def check_epochs(self, client: Client, epochs: Mapping[str, Sequence[float]]) -> None:
        """Loss and accuracy of each epoch on both parts, by no more images than there are."""
        numbers = {"train": client.num_train, "valid": client.num_valid}
        check_names(epochs, [f"{part}_{name}" for part in numbers for name in EACH_EPOCH])
        for sums in epochs.values():
            check_total("local epochs", len(sums), self.config.local_epochs)
        if any(max(epochs[f"{part}_accuracy"]) > n for part, n in numbers.items()):
            raise InputError("accuracy of local epochs: more is right than there is")

    def check_counts(self, client: Client, counts: Mapping[str, Arrays], final: bool) -> None:
        """Counts of the client's own images, of the classes that it has."""
        check_parts(counts)
        known = {"train": client.counts, "valid": None}
        for part, n in (("train", client.num_train), ("valid", client.num_valid)):
            numbers = known[part], n, len(self.count_names)
            names = check_confusion(counts[part], *numbers, client.at_most)
            check_names(counts[part], names)

    def evaluate_centrally(self, arrays: Arrays) -> dict[str, dict[str, float]]:
        """Metrics of the official test split."""
        return {part: self.metrics(counts) for part, counts in self._judge(arrays).items()}

    def finish(self, arrays: Arrays, counts: Mapping[str, Arrays]) -> Tables:
        """Judge every class on every split."""
        judged = self._judge(arrays)
        rows = []
        for part, total in {**counts, **judged}.items():
            columns = _by_class(total["confusion"])
            for i, name in enumerate(self.classes):
                row = {key: column[i] for key, column in columns.items()}
                rows.append({"split": part, "class": name, **row})
        summary = self.metrics(judged["test"]) if judged else {}
        return Tables(
            summary={f"test_{name}": value for name, value in summary.items()},
            csv={"classes.csv": rows},
            model_metadata=_metadata(self.classes),
        )

    def _judge(self, arrays: Arrays) -> dict[str, Arrays]:
        """Counts of the test split, if there is one."""
        rows = self.images.rows("test")
        return {"test": _count(arrays, *_examples(self.images, rows))} if len(rows) else {}

    # ---- on a client -----------------------------------------------------------------------

    def describe(self, node: NodeConfig, instructions: Instructions) -> Description:
        """Decode the images, and count those of each class."""
        images, train, valid = self._parts(node)
        images.report_unreadable(self.config.bad_images)
        own = images.classes.tolist()
        _check_classes(images, json.loads(str(instructions.get("classes", json.dumps(own)))))
        counts = np.bincount(images.labels[train], minlength=len(own))
        return Description(len(train), len(valid), counts)

    def train(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions, seed: int
    ) -> Trained:
        """Train the network; after each epoch log and report how good it is, and keep the best."""
        config, name = self.config, client_name(node)
        images, train, valid = self._parts(node)
        parts = {"train": _examples(images, train), "valid": _examples(images, valid)}
        epochs: dict[str, list[float]] = {
            f"{part}_{name}": [0.0] * config.local_epochs for part in parts for name in EACH_EPOCH
        }
        if not len(train):
            return Trained(arrays, 0, float("nan"), epochs)

        def on_epoch(epoch: int, model: Arrays) -> None:
            counts = {part: _count(model, *examples) for part, examples in parts.items()}
            for part, count in counts.items():
                epochs[f"{part}_loss"][epoch - 1] = float(count["loss"][0])
                epochs[f"{part}_accuracy"][epoch - 1] = float(np.trace(count["confusion"]))
            measured = {part: self.metrics(count) for part, count in counts.items()}
            figures = ", ".join(
                f"{part} loss {m['loss']:.3f} accuracy {m['accuracy']:.3f}"
                for part, m in measured.items()
                if len(parts[part][1])
            )
            server_round = instructions["server-round"]
            place = f"round {server_round!s}, epoch {epoch} of {config.local_epochs}"
            LOG.info("client %s, %s: %s", name, place, figures)
            if "run" in instructions:
                path = own_model_path(self.home, str(instructions["run"]), name)
                _keep_best(path, model, place, measured["valid"], images.classes.tolist())

        trained, loss = train_lenet(
            arrays,
            parts["train"][0],
            flipped(parts["train"][1], config, instructions, len(images.classes)),
            epochs=config.local_epochs,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            optimizer=config.optimizer,
            proximal_mu=float(instructions.get("proximal-mu", 0.0)),  # type: ignore[arg-type]
            seed=seed,
            on_epoch=on_epoch,
        )
        return Trained(trained, len(train), loss, epochs)

    def evaluate(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions
    ) -> tuple[dict[str, Arrays], int]:
        """Confusion counts over the client's train and validation images."""
        images, train, valid = self._parts(node)
        parts = {"train": train, "valid": valid}
        counts = {part: _count(arrays, *_examples(images, rows)) for part, rows in parts.items()}
        return counts, len(valid)

    # ---- data ------------------------------------------------------------------------------

    @property
    def images(self) -> Pictures:
        """The images of `dataset`."""
        return self.data.table

    def _parts(self, node: NodeConfig) -> tuple[Pictures, np.ndarray, np.ndarray]:
        """A node's images, and the rows that it trains on and that it validates on."""
        return self.data.of(node), *self.data.parts(node)


def own_model_path(home: Path, run: str, client: str) -> Path:
    """File in which a device keeps the best model that it has trained in a run.

    It is the global model after some local epochs, of all rounds the one with the lowest loss on
    the device's own validation images (without any, the newest). It is what the device can use
    without a network or before the run ends, and what it still has after a restart. It takes no
    part in the federation: every round starts from the global model.
    """
    # A dot is quoted too: ".." would be the folder above.
    folder = quote(run, safe="").replace(".", "%2E")
    return home / "lenet" / folder / f"{quote(client, safe='')}.safetensors"


def _keep_best(
    path: Path, model: Arrays, place: str, valid: Mapping[str, float], classes: Sequence[str]
) -> None:
    from safetensors import SafetensorError, safe_open

    best = float("inf")
    if path.exists():
        try:
            with safe_open(path, "numpy") as file:
                best = float(file.metadata()["valid-loss"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            LOG.warning("%s cannot be read and is replaced: %s", path, error)
    if not valid["loss"] >= best:
        figures = {f"valid-{name}": repr(valid[name]) for name in ("loss", "accuracy")}
        write_bytes(path, pack_arrays(model, {**_metadata(classes), "trained": place, **figures}))


def _check_classes(images: Pictures, classes: Sequence[str]) -> None:
    """Raise InputError if images are of other classes than those of the run."""
    own = images.classes.tolist()
    if own != [*classes]:
        raise InputError(
            f"{images.name}: its classes are {', '.join(own)}, and those of this run are others; "
            f"the key classes names them where clients bring their own images"
        )


def _metadata(classes: Sequence[str]) -> dict[str, str]:
    """Metadata that is needed to predict from the arrays."""
    return {
        "network": "celeba_fl.models.lenet:lenet5",
        "classes": json.dumps(classes),
        "pixels": "(n, 3, 32, 32) RGB, (x / 255 - mean) / std",
        "mean": json.dumps(MEAN),
        "std": json.dumps(STD),
    }


def _examples(images: Pictures, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and classes."""
    return np.asarray(images.pixels[rows]), np.asarray(images.labels[rows])


def _count(arrays: Arrays, pixels: np.ndarray, labels: np.ndarray) -> Arrays:
    """Count images by true and predicted class, and add up the cross-entropy in nats."""
    logits = scores(arrays, pixels)
    classes = logits.shape[1]
    cells = labels * classes + logits.argmax(axis=1)
    confusion = np.bincount(cells, minlength=classes**2).reshape(classes, classes)
    log_sum = np.logaddexp.reduce(logits, axis=1)
    loss = (log_sum - logits[np.arange(len(labels)), labels]).sum()
    return {"confusion": confusion, "loss": np.array([loss])}


def _by_class(confusion: np.ndarray) -> dict[str, Any]:
    """Columns of `classes.csv`, from images by true and predicted class."""
    n, predicted, right = confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()
    f1 = metrics.ratio(2 * right, n + predicted)
    return {
        "n": n,
        "predicted": predicted,
        "recall": metrics.ratio(right, n),
        "precision": metrics.ratio(right, predicted),
        "f1": np.where(n > 0, f1, np.nan),
    }
