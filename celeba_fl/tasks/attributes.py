"""The main task: CelebA's 40 attributes from the features of a frozen, pretrained backbone."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.common.files import write_bytes
from celeba_fl.common.log import LOG
from celeba_fl.config import RunConfig, keys_of
from celeba_fl.data import sources
from celeba_fl.data.schema import ATTRIBUTES, group_names, membership
from celeba_fl.data.table import Table
from celeba_fl.data.teacher import Answers, Teacher, teacher_provenance
from celeba_fl.evaluation import corrections, fairness, metrics
from celeba_fl.evaluation.metrics import (
    Counts,
    best_thresholds,
    exact_auroc,
    exact_average_precision,
)
from celeba_fl.models import ridge
from celeba_fl.models.heads import initial_head, scores
from celeba_fl.task import (
    Description,
    Instructions,
    NodeConfig,
    Prepared,
    Tables,
    Task,
)
from celeba_fl.tasks.examples import ClientData
from celeba_fl.tasks.settings import check_head
from celeba_fl.vision.backbones import BACKBONES
from celeba_fl.vision.features import FeatureStore, Versions, preprocessing_hash
from celeba_fl.vision.weights import resolve_weights, weights_path

# Parts that the server evaluates, and the splits that they are.
CENTRAL = {"server_valid": "valid", "test": "test"}
METRICS = ("loss", "accuracy", "majority_accuracy", "balanced_accuracy", "macro_f1", "auroc")
AGREEMENT = "teacher_agreement"


class Attributes(Task):
    """40 binary attributes by one linear head on frozen features; only the head travels."""

    reads = keys_of("attributes")

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        check_head(config)
        self.home = config.home_dir
        self.faces = ClientData(config)
        self._weights = ""
        self._central: dict[str, tuple[FeatureStore, np.ndarray]] = {}
        self._stores: dict[tuple[str, str, int], FeatureStore] = {}
        self._teachers: dict[tuple[str, str], Teacher] = {}

    @property
    def count_names(self) -> tuple[str, ...]:
        """The groups of `partition-by`, those of `group-weighting`, then the attributes."""
        return *(name for one in self._counted for name in group_names(one)), *ATTRIBUTES

    @property
    def _counted(self) -> list[tuple[str, ...]]:
        """The groupings whose groups are counted."""
        return [one for one in dict.fromkeys((self.config.groupby, self.config.weighted)) if one]

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Means over the attributes; of the teacher's answers, the share that the model gives."""
        return (*METRICS, AGREEMENT) if self.config.labels == "teacher" else METRICS

    @property
    def central_parts(self) -> tuple[str, ...]:
        """The official validation and test splits."""
        return tuple(CENTRAL)

    # ---- on the server ---------------------------------------------------------------------

    def prepare(self) -> Prepared:
        """Data, weights, and the features of the server's own splits."""
        table = self.table
        backbone = self.config.backbone
        weights = resolve_weights(
            backbone, self.config.weights, self.home, lambda: sources.load("drawn", self.home)
        )
        self._weights = weights
        store = self._store(table, weights)
        for part, split in CENTRAL.items():
            rows = table.rows(split)
            store.fill(rows, self.config.bad_images)
            self._central[part] = store, store.readable(rows)
        provenance = {
            "dataset": self.faces.provenance(),
            "weights": {"name": self.config.weights, "sha256": weights},
        }
        if self.config.labels == "teacher":
            provenance["teacher"] = teacher_provenance(self.config.teacher)
        return Prepared(
            instructions={
                "weights": weights,
                "preprocessing": preprocessing_hash(backbone, self.config.image_size),
            },
            provenance=provenance,
        )

    def initial_arrays(self) -> Arrays:
        """A head with random weights, by the run's seed."""
        return initial_head(BACKBONES[self.config.backbone].dim, len(ATTRIBUTES), self.config.seed)

    def public_arrays(self) -> Arrays:
        """The closed form on the public part of the train images.

        Lambda and calibration are by the official validation split; see `celeba_fl.models.ridge`.
        """
        store, valid = self._central["server_valid"]
        if not len(valid) or not len(self.faces.public):
            raise InputError(
                f"init = 'public': {self.config.dataset} has {len(self.faces.public)} public train "
                f"images (public-fraction = {self.config.public_fraction}) and {len(valid)} of the "
                f"official validation split; both are needed"
            )
        store.fill(self.faces.public, self.config.bad_images)
        sums = [
            ridge.sums_of(store.read(rows), self._labels(self.table, rows), np.ones(len(rows)))
            for rows in (store.readable(self.faces.public), valid)
        ]
        head, ratio = ridge.solve(*sums)
        LOG.info("Learned from %d public images, lambda = %.3g", len(self.faces.public), ratio)
        return head

    def instruct(self, counts: np.ndarray, num_train: int) -> Instructions:
        """What `class-weights` and `group-weighting` ask for.

        With `class-weights` negatives / positives over all clients, 1 if there are no two. With
        `group-weighting` N / (G N_g) for each of the G groups that has examples, N_g of all N: so
        groups count equally in the loss. That tuning the last layer alone is enough for fairness
        is due to Mao et al., "Last-Layer Fairness Fine-tuning is Simple and Effective for Neural
        Networks", 2023, arXiv 2304.03935.
        """
        told: Instructions = {}
        if self.config.class_weights:
            positives = counts[-len(ATTRIBUTES) :]
            weights = metrics.ratio(num_train - positives, positives)
            told["positive-weight"] = np.where(weights > 0, weights, 1.0).tolist()
        if self.config.weighted:
            by_name = dict(zip(self.count_names, counts, strict=True))
            sizes = np.array([by_name[name] for name in group_names(self.config.weighted)])
            weights = metrics.ratio(np.array(num_train), sizes * (sizes > 0).sum())
            told["group-weights"] = np.nan_to_num(weights).tolist()
        return told

    def deliver(self, missing: str) -> bytes:
        """The backbone's weights."""
        return weights_path(self.home, missing).read_bytes()

    def zero_sums(self) -> Arrays:
        """Of `ridge`; those of validation too where the server has no validation split."""
        zeros = ridge.zero_sums(BACKBONES[self.config.backbone].dim, len(ATTRIBUTES))
        _, rows = self._central["server_valid"]
        parts = ("train",) if len(rows) else ("train", "valid")
        return {f"{part}_{key}": array for part in parts for key, array in zeros.items()}

    def solve(self, sums: Arrays, instructions: Instructions) -> Arrays:
        """Ridge regression, with lambda and the calibration to logits by validation examples."""
        valid = _part(sums, "valid")
        if not valid:
            store, rows = self._central["server_valid"]
            labels = self._labels(self.table, rows)
            weights = self._example_weight(labels, instructions)
            valid = ridge.sums_of(store.read(rows), labels, weights)
        if not valid["xx"][-1]:
            raise InputError(
                "the closed form chooses lambda on validation examples, and neither the server "
                f"nor the clients have any (valid-fraction = {self.config.valid_fraction})"
            )
        head, ratio = ridge.solve(_part(sums, "train"), valid)
        LOG.info("Solved with lambda = %.3g of the mean diagonal", ratio)
        return head

    def metrics(self, counts: Arrays) -> dict[str, float]:
        """Means over the attributes, AUROC from score bins."""
        total = Counts.from_arrays(counts)
        told = {AGREEMENT: corrections.agreement(counts)} if "teacher_asked" in counts else {}
        return {**_means(total, total.auroc()), **told}

    def evaluate_centrally(self, arrays: Arrays) -> dict[str, dict[str, float]]:
        """Metrics of the official validation and test splits, AUROC exact."""
        result = {}
        for part, (store, rows) in self._central.items():
            if len(rows):
                outputs, labels = scores(arrays, store.read(rows)), self._labels(self.table, rows)
                result[part] = _means(Counts.of(outputs, labels), exact_auroc(outputs, labels))
        return result

    def finish(self, arrays: Arrays, counts: Mapping[str, Arrays]) -> Tables:
        """Judge every attribute on every split and in every group, and keep the test scores."""
        config = self.config
        thresholds = self._thresholds(arrays, counts)
        rows, groups, gaps = [], [], []
        teacher: dict[str, list[dict[str, Any]]] = {}
        for part, total in counts.items():
            if "teacher_asked" in total:
                teacher["teacher.csv"] = corrections.teacher_rows(part, total, ATTRIBUTES)
            judged = Counts.from_arrays(total).at(thresholds)
            rows += _attribute_rows(part, judged, _binned_curves(judged))
            if "group_positives" in total:
                grouped = _grouped(total).at(thresholds)
                more = fairness.compare_clients(part, grouped, ATTRIBUTES, config.demographics)
                groups += more[0]
                gaps += more[1]
        summary: dict[str, float] = {}
        parquet = {}
        store, test = self._central["test"]
        if len(test):
            outputs, labels = scores(arrays, store.read(test)), self._labels(self.table, test)
            judged = Counts.of(outputs, labels).at(thresholds)
            curves = _exact_curves(outputs, labels)
            rows += _attribute_rows("test", judged, curves)
            precision = metrics.mean(curves["average_precision"])
            summary = {**_means(judged, curves["auroc"]), "average_precision": precision}
            parquet["test_scores.parquet"] = self._score_columns(test, outputs, labels)
            more = fairness.compare_test(
                outputs > thresholds,
                labels,
                self.table.celeb_id[test],
                ATTRIBUTES,
                config.demographics,
            )
            groups += more[0]
            gaps += more[1]
        return Tables(
            summary={f"test_{name}": value for name, value in summary.items()},
            csv={"attributes.csv": rows, "groups.csv": groups, "fairness.csv": gaps, **teacher},
            parquet=parquet,
            model_metadata={
                "attributes": json.dumps(ATTRIBUTES),
                "backbone": config.backbone,
                "weights": str(self._weights),
                "image-size": str(config.image_size),
                "thresholds": json.dumps(thresholds.tolist()),
            },
        )

    def compare(self, base: Arrays, arrays: Arrays) -> dict[str, list[dict[str, Any]]]:
        """What the rounds fixed and broke on the test images, unless they started from chance.

        Each head with the thresholds that are its own; so nothing where those were chosen on the
        clients' validation images, which know the final head only.
        """
        store, rows = self._central["test"]
        by_clients = self.config.thresholds == "valid" and not len(self._central["server_valid"][1])
        if self.config.init == "random" or by_clients or not len(rows):
            return {}
        base_yes, yes = (
            scores(head, store.read(rows)) > self._thresholds(head, {}) for head in (base, arrays)
        )
        labels, people = self._labels(self.table, rows), self.table.celeb_id[rows]
        groupings = self.config.demographics
        changed = corrections.compare(base_yes, yes, labels, people, ATTRIBUTES, groupings)
        return {"corrections.csv": changed}

    def _thresholds(self, arrays: Arrays, counts: Mapping[str, Arrays]) -> np.ndarray:
        """The scores above which the final model sees an attribute, (attributes,).

        With ``thresholds = "valid"`` those of the best balanced accuracy on the official validation
        split, or where the server has none of it, on the clients' validation images.
        """
        if self.config.thresholds == "zero":
            return np.zeros(len(ATTRIBUTES))
        store, rows = self._central["server_valid"]
        if len(rows):
            labels = self._labels(self.table, rows)
            return best_thresholds(Counts.of(scores(arrays, store.read(rows)), labels))
        if "valid" in counts:
            return best_thresholds(Counts.from_arrays(counts["valid"]))
        return np.zeros(len(ATTRIBUTES))

    def _score_columns(
        self, rows: np.ndarray, outputs: np.ndarray, labels: np.ndarray
    ) -> dict[str, np.ndarray]:
        names = {"image": self.table.image[rows], "celeb_id": self.table.celeb_id[rows]}
        truth = {name: labels[:, i] for i, name in enumerate(ATTRIBUTES)}
        return {**names, **truth, **{f"{n}_score": outputs[:, i] for i, n in enumerate(ATTRIBUTES)}}

    # ---- on a client -----------------------------------------------------------------------

    def describe(self, node: NodeConfig, instructions: Instructions) -> Description:
        """Compute the features that are not there yet, and count the train images."""
        ours = preprocessing_hash(self.config.backbone, self.config.image_size)
        if instructions["preprocessing"] != ours:
            raise InputError(
                "this client prepares images in another way than the server (another version of "
                "the app?); heads on different features must not be averaged"
            )
        weights = str(instructions["weights"])
        if not weights_path(self.home, weights).exists():
            return Description(0, 0, np.zeros(len(self.count_names), np.int64), missing=weights)
        table, config = self.faces.of(node), self.config
        self._store(table, weights).fill(self.faces.held(node), config.bad_images)
        train, valid = self._parts(node, weights)
        for version in range(1, config.augmentations + 1):
            self._store(table, weights, version).fill(train, config.bad_images)
        self._answers(node, train)  # a teacher that is of no use is found here
        labels = self._labels(table, train)
        members = [membership(labels, ATTRIBUTES, grouping) for grouping in self._counted]
        counts = np.concatenate([*members, labels], axis=1).sum(axis=0)
        return Description(len(train), len(valid), counts)

    def receive(self, sha256: str, data: bytes) -> None:
        """Keep the backbone's weights; their hash is checked when they are loaded."""
        write_bytes(weights_path(self.home, sha256), data)

    def train(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions, seed: int
    ) -> tuple[Arrays, int, float]:
        """Train the head; a client without anything to learn from returns it as it came.

        Under `group-weighting` a client counts by the weights of its examples: a factor of all of
        them, as where they are of one group, changes nothing in its own weighted mean. Under
        `train-on = "disagreements"` it counts by the images of which it learns something.
        """
        from celeba_fl.models.head_training import train_head

        weights, table = str(instructions["weights"]), self.faces.of(node)
        config, store = self.config, self._store(table, weights)
        rows, _ = self._parts(node, weights)
        labels, answers, predicted = self._labels(table, rows), self._answers(node, rows), None
        if config.train_on == "disagreements":
            predicted = scores(arrays, store.read(rows)) > 0
        taught, counted = corrections.targets(labels, answers, predicted)
        chosen = counted.any(axis=1)
        if not chosen.any():
            return arrays, 0, float("nan")
        weight = self._example_weight(labels[chosen], instructions)
        positive_weight = instructions.get("positive-weight")
        copies = config.augmentations + 1
        versions = [self._store(table, weights, v).read(rows[chosen]) for v in range(copies)]
        trained, loss = train_head(
            arrays,
            Versions(versions),
            np.tile(taught[chosen], (copies, 1)),
            epochs=config.local_epochs,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            optimizer=config.optimizer,
            dropout=config.dropout,
            positive_weight=None if positive_weight is None else np.array(positive_weight),
            example_weight=np.tile(weight, copies),
            counted=None if counted.all() else np.tile(counted[chosen], (copies, 1)),
            proximal_mu=float(instructions.get("proximal-mu", 0.0)),  # type: ignore[arg-type]
            seed=seed,
        )
        return trained, max(1, round(weight.sum())), loss

    def summarise(self, node: NodeConfig, instructions: Instructions) -> tuple[Arrays, int]:
        """Of the train images, and of the validation images if those are asked for."""
        weights, table = str(instructions["weights"]), self.faces.of(node)
        parts = dict(zip(("train", "valid"), self._parts(node, weights), strict=True))
        sums: Arrays = {}
        for part, rows in parts.items():
            if f"{part}_xx" in instructions["sums"]:  # type: ignore[operator]
                labels = self._labels(table, rows)
                weight = self._example_weight(labels, instructions)
                own = ridge.sums_of(self._store(table, weights).read(rows), labels, weight)
                sums |= {f"{part}_{key}": array for key, array in own.items()}
        return sums, len(parts["train"])

    def _example_weight(self, labels: np.ndarray, instructions: Instructions) -> np.ndarray:
        """The weight of each example's group, (n,); all 1 without `group-weighting`."""
        weights = np.array(instructions.get("group-weights", [1.0]))
        return membership(labels, ATTRIBUTES, self.config.weighted) @ weights

    def evaluate(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions
    ) -> tuple[dict[str, Arrays], int]:
        """Counts over the client's train and validation images; per group of the final model."""
        weights, table = str(instructions["weights"]), self.faces.of(node)
        store = self._store(table, weights)
        train, valid = self._parts(node, weights)
        counts = {}
        for part, rows in (("train", train), ("valid", valid)):
            outputs, labels = scores(arrays, store.read(rows)), self._labels(table, rows)
            counts[part] = Counts.of(outputs, labels).to_arrays()
            answers = self._answers(node, rows)
            if part == "train" and answers is not None:
                counts[part] |= corrections.count_answers(answers, labels, outputs > 0)
            if "final" in instructions:
                counts[part] |= self._count_groups(outputs, labels)
        return counts, len(valid)

    def _count_groups(self, outputs: np.ndarray, labels: np.ndarray) -> Arrays:
        """Score histograms of the groups of all groupings, (groups, attributes, bins).

        Histograms, so that thresholds can be chosen after they are here. No losses: that of a
        group of one image would tell its score to the last digit.
        """
        members = [membership(labels, ATTRIBUTES, one) for one in self.config.demographics]
        counts = [Counts.of(outputs[m], labels[m]) for m in np.concatenate(members, axis=1).T]
        sent = Counts.stack(counts).to_arrays()
        return {f"group_{key}": sent[key] for key in ("positives", "negatives")}

    # ---- data ------------------------------------------------------------------------------

    @property
    def table(self) -> Table:
        """The images of `dataset`."""
        return self.faces.table

    def _store(self, table: Table, weights: str, version: int = 0) -> FeatureStore:
        """The features of a version of the images, 0 being themselves."""
        key = table.fingerprint, weights, version
        if key not in self._stores:
            config = self.config
            altered = (config.seed, version) if version else None
            self._stores[key] = FeatureStore(
                self.home, table, config.backbone, weights, config.image_size, altered
            )
        return self._stores[key]

    def _answers(self, node: NodeConfig, rows: np.ndarray) -> Answers | None:
        """What a node's teacher says of its images; None where annotations are learned from."""
        if self.config.labels != "teacher":
            return None
        table = self.faces.of(node)
        key = table.fingerprint, str(node.get("teacher", self.config.teacher))
        if key not in self._teachers:
            self._teachers[key] = Teacher(replace(self.config, teacher=key[1]), table, self.home)
        return self._teachers[key](rows)

    def _labels(self, table: Table, rows: np.ndarray) -> np.ndarray:
        return np.asarray(table.labels[rows])

    def _parts(self, node: NodeConfig, weights: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows that a node trains on, and rows that it validates on."""
        return self.faces.parts(node, self._store(self.faces.of(node), weights))


def _means(counts: Counts, auroc: np.ndarray) -> dict[str, float]:
    """The metrics of `rounds.csv`: means over the attributes for which they are defined."""
    values = (
        counts.mean_loss(),
        counts.accuracy(),
        counts.majority_accuracy(),
        counts.balanced_accuracy(),
        counts.f1(),
        auroc,
    )
    return {name: metrics.mean(value) for name, value in zip(METRICS, values, strict=True)}


def _part(sums: Arrays, part: str) -> Arrays:
    """The sums of one part, empty if there are none."""
    return {key: sums[f"{part}_{key}"] for key in ("xx", "xy") if f"{part}_{key}" in sums}


def _grouped(total: Arrays) -> Counts:
    """The clients' histograms per group."""
    positives, negatives = (
        total[f"group_{key}"].astype(np.int64) for key in ("positives", "negatives")
    )
    return Counts(positives, negatives, np.full(positives.shape[:-1], np.nan))


def _attribute_rows(
    split: str, counts: Counts, curves: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Rows of `attributes.csv`."""
    columns = {
        "n": counts.n,
        "positives": counts.p,
        "majority_accuracy": counts.majority_accuracy(),
        "accuracy": counts.accuracy(),
        "balanced_accuracy": counts.balanced_accuracy(),
        "f1": counts.f1(),
        **curves,
        "threshold": counts.thresholds,
    }
    return [
        {"split": split, "attribute": name, **{key: col[i] for key, col in columns.items()}}
        for i, name in enumerate(ATTRIBUTES)
    ]


def _binned_curves(counts: Counts) -> dict[str, np.ndarray]:
    return {
        "auroc": counts.auroc(),
        "auroc_error": counts.auroc_error(),
        "average_precision": counts.average_precision(),
        "average_precision_error": counts.average_precision_error(),
    }


def _exact_curves(outputs: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    area, precision = exact_auroc(outputs, labels), exact_average_precision(outputs, labels)
    return {
        "auroc": area,
        "auroc_error": 0 * area,
        "average_precision": precision,
        "average_precision_error": 0 * precision,
    }
