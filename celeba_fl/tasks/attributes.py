"""The main task: CelebA's 40 attributes from the features of a frozen, pretrained backbone."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from celeba_fl.attacks.labels import flipped
from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig, keys_of
from celeba_fl.data import sources
from celeba_fl.data.schema import ATTRIBUTES, group_names, membership
from celeba_fl.data.teacher import teacher_provenance
from celeba_fl.evaluation import corrections, fairness
from celeba_fl.evaluation.answers import Answers, decide
from celeba_fl.evaluation.attribute_tables import final_tables
from celeba_fl.evaluation.curves import ExactCurves
from celeba_fl.evaluation.metrics import EACH_ROUND, METRICS, Counts, means
from celeba_fl.evaluation.resampling import Scores
from celeba_fl.models.head_training import train_head
from celeba_fl.models.heads import scores
from celeba_fl.models.scaling import fold, scaled
from celeba_fl.task import Description, Instructions, NodeConfig, Prepared, Tables
from celeba_fl.tasks import central, private, start, weighting
from celeba_fl.tasks.client_data import ClientData
from celeba_fl.tasks.examples import CENTRAL, Examples, FeatureStores, backbone_weights
from celeba_fl.tasks.settings import check_backbone, check_head
from celeba_fl.tasks.solved_faces import SolvedFaces
from celeba_fl.tasks.teaching import Teachers, targets
from celeba_fl.vision.features import Versions, preprocessing_hash
from celeba_fl.vision.precision import resolve
from celeba_fl.vision.views import FP32
from celeba_fl.vision.weights import keep_weights, weights_path

AGREEMENT = "teacher_agreement"
LOSS_AND_ACCURACY = [metric for metric in EACH_ROUND if metric.name in ("loss", "accuracy")]


class Attributes(SolvedFaces):
    """40 binary attributes by one linear head on frozen features; only the head travels."""

    reads = keys_of("attributes")

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        check_head(config)
        self.faces = ClientData(config, sources.load)
        self.teachers = Teachers(config)
        self.features = FeatureStores(config)
        self._weights = ""
        self._scaling = None
        self._sums = self.description_sums()
        self._central = {}
        self._base_rates: float | np.ndarray = np.nan

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
        """Means over the attributes; with a teacher, how often the model agrees with it."""
        names = tuple(metric.name for metric in EACH_ROUND)
        return (*names, AGREEMENT) if self.config.labels == "teacher" else names

    @property
    def lower_is_better(self) -> tuple[str, ...]:
        """The loss."""
        return tuple(metric.name for metric in METRICS if metric.lower_is_better)

    @property
    def central_parts(self) -> tuple[str, ...]:
        """The official validation and test splits."""
        return tuple(CENTRAL)

    # ---- on the server ---------------------------------------------------------------------

    def prepare(self) -> Prepared:
        """Data, weights, and the features of the server's own splits."""
        config, table = self.config, self.faces.table
        self.features.settle(resolve(config.precision))
        view = self.features.view
        self._weights = weights = backbone_weights(config)
        for part, split in CENTRAL.items():
            self._central[part] = self.features.compute(table, weights, table.rows(split))
        if config.private:
            self._statistics = private.learn(config, self.public_images())
        provenance = {
            "dataset": self.faces.provenance(),
            "weights": {"name": config.weights, "sha256": weights},
            "features": {
                "name": config.features,
                "spec": view.features,
                "image_size": view.image_size,
                "dim": view.dim,
                # As it was in runs from before there was another.
                **({} if view.precision == FP32 else {"precision": view.precision}),
            },
        }
        if config.labels == "teacher":
            provenance["teacher"] = teacher_provenance(config.teacher)
        told = {"preprocessing": preprocessing_hash(view), "precision": view.precision}
        return Prepared({"weights": weights, **told}, provenance, *self.promised())

    def initial_arrays(self) -> Arrays:
        """The head of the base rates of what is learned from, or a random one."""
        return start.initial(self.config, self.features.view.dim, self._sums)

    def instruct(self, counts: np.ndarray, num_train: int) -> Instructions:
        """The weights that `class-weights` and `group-weighting` ask for."""
        self._base_rates = self.base_rates(counts, num_train)
        by_name = dict(zip(self.count_names, counts.tolist(), strict=True))
        return weighting.instruct(self.config, by_name, num_train)

    def description_sums(self) -> Arrays:
        """Those that `scaling` and `init` need."""
        return start.zero_sums(self.config, self.features.view.dim)

    def instruct_from_sums(self, sums: Arrays) -> Instructions:
        """The scale of features, which heads have on the way; under a budget, of public images."""
        told: Instructions = {}
        if self.config.private:
            images = self.public_images()
            sums = start.sums_of(
                self.config, images.features, images.labels, np.ones_like(images.labels)
            )
            if self.config.strategy == "closed-form":
                told = {private.PUBLIC: self._statistics.to_bytes()}
        public = self._public() if self.config.scaling == "public" else None
        self._sums, self._scaling = sums, start.scale(self.config, sums, public)
        return told | ({start.SCALING: self._scaling.to_bytes()} if self._scaling else {})

    def deliver(self, missing: str) -> bytes:
        """The backbone's weights."""
        return weights_path(self.config.home_dir, missing).read_bytes()

    def metrics(self, counts: Arrays) -> dict[str, float]:
        """Means over the attributes, AUROC from score bins."""
        total = Counts.from_arrays(counts, self._base_rates)
        taught = {AGREEMENT: corrections.agreement(counts)} if "teacher_asked" in counts else {}
        return {**means(total, total, EACH_ROUND), **taught}

    def client_metrics(self, counts: Arrays) -> dict[str, float]:
        """The loss and the accuracy."""
        of_client = Counts.from_arrays(counts)
        return means(of_client, of_client, LOSS_AND_ACCURACY)

    def evaluate_centrally(self, arrays: Arrays) -> dict[str, dict[str, float]]:
        """Metrics of the official validation and test splits, AUROC exact."""
        result, head = {}, self.kept_arrays(arrays)
        for part, examples in self._central.items():
            if len(examples):
                outputs, labels = scores(head, examples.features), examples.labels
                counts = replace(Counts.of(outputs, labels), base_rates=self._base_rates)
                result[part] = means(counts, ExactCurves(outputs, labels), EACH_ROUND)
        return result

    def kept_arrays(self, arrays: Arrays) -> Arrays:
        """The head on features as they are, whatever their scale on the way."""
        return fold(arrays, self._scaling)

    def finish(self, arrays: Arrays, counts: Mapping[str, Arrays]) -> Tables:
        """Judge every attribute on every split and in every group, and keep the test scores."""
        return self.finish_by_clients(arrays, counts, ())

    def finish_by_clients(
        self, arrays: Arrays, counts: Mapping[str, Arrays], each: Iterable[Mapping[str, Arrays]]
    ) -> Tables:
        """The same; clients that share no person tell how sure the rates of groups are."""
        config, view = self.config, self.features.view
        answers = self._answers(arrays, counts)
        head = answers.head(arrays)
        apart = config.partitioner == "natural" or config.dataset == "none"
        test, judged, parquet = self._central["test"], None, {}
        if len(test):
            image, outputs = self.faces.table.image[test.rows], scores(head, test.features)
            judged = Scores(image, test.celeb_id, ATTRIBUTES, test.labels, outputs)
            parquet["test_scores.parquet"] = judged.columns()
        told = counts, judged, answers, self._base_rates, ATTRIBUTES, config.demographics
        summary, csv = final_tables(*told, each if apart else ())
        return Tables(
            summary={f"test_{name}": value for name, value in summary.items()},
            csv=csv,
            parquet=parquet,
            model=head,
            model_metadata={
                "attributes": json.dumps(ATTRIBUTES),
                "backbone": view.backbone,
                "weights": str(self._weights),
                "features": view.features,
                "image-size": str(view.image_size),
                "precision": view.precision,
                **answers.metadata(),
            },
        )

    def compare(self, base: Arrays, arrays: Arrays) -> dict[str, list[dict[str, Any]]]:
        """Compare both models on the test images, unless the rounds started from chance.

        Each head with the thresholds and the calibration that are its own; so nothing where those
        were chosen on the clients' validation images, which know the final head only.
        """
        test, config = self._central["test"], self.config
        chosen = config.thresholds != "zero" or config.calibration != "none"
        by_clients = chosen and not len(self._central["server_valid"])
        if config.init in ("base-rates", "random") or by_clients or not len(test):
            return {}
        base_yes, yes = (
            scores(answers.head(head), test.features) > answers.thresholds
            for head in (base, arrays)
            for answers in [self._answers(head, {})]
        )
        rows = corrections.compare(
            base_yes, yes, test.labels, test.celeb_id, ATTRIBUTES, config.demographics
        )
        return {"corrections.csv": rows}

    def _answers(self, arrays: Arrays, counts: Mapping[str, Arrays]) -> Answers:
        """What becomes of the scores of a final model, by `calibration` and `thresholds`.

        The official validation split decides, or where the server does not have it, the clients'
        validation images.
        """
        config, valid, parts = self.config, self._central["server_valid"], {}
        if len(valid):
            parts["server_valid"] = Counts.of(scores(arrays, valid.features), valid.labels)
        if "valid" in counts:
            parts["valid"] = Counts.from_arrays(counts["valid"])
        rules = config.calibration == "valid", config.thresholds, config.accuracy_cost / 100
        return decide(parts, len(ATTRIBUTES), *rules)

    def best_central(
        self, node: NodeConfig, instructions: Instructions
    ) -> tuple[Arrays, dict[str, Any]] | None:
        """Logistic regression with one L2."""
        train, valid = self._parts(node, instructions).values()
        answers = self.teachers.answers(node, train.table, train.rows)
        public = self._public() if self.config.init == "public" else None
        judge = self._central["server_valid"] or valid
        return central.fit(train, answers, public, judge, start.told(instructions))

    # ---- on a client -----------------------------------------------------------------------

    def describe(self, node: NodeConfig, instructions: Instructions) -> Description:
        """Compute the features that are not there yet, and count the train images."""
        self.features.settle(str(instructions["precision"]))
        if instructions["preprocessing"] != preprocessing_hash(self.features.view):
            raise InputError(
                "this client prepares images in another way than the server (another version of "
                "the app?); heads on different features must not be averaged"
            )
        weights, config = str(instructions["weights"]), self.config
        check_backbone(config, str(node.get("data-path", config.dataset)))
        held = self.faces.held(node)
        if not weights_path(config.home_dir, weights).exists():
            counts, sums = np.zeros(len(self.count_names), np.int64), self.description_sums()
            return Description(0, 0, counts, weights, sums)
        table = self.faces.of(node)
        self.features.open(table, weights).fill(held, config.bad_images)
        train, valid = self._parts(node, instructions).values()
        for version in range(1, config.augmentations + 1):
            self.features.open(table, weights, version).fill(train.rows, config.bad_images)
        answers = self.teachers.answers(node, table, train.rows)
        taught, counted = targets(train.labels, answers, None)
        sums = start.sums_of(config, train.features, taught, counted)
        members = [membership(train.labels, ATTRIBUTES, one) for one in self._counted]
        counts = np.concatenate([*members, train.labels], axis=1).sum(axis=0)
        return Description(len(train), len(valid), counts, sums=sums)

    def receive(self, sha256: str, data: bytes) -> None:
        """Keep the backbone's weights."""
        keep_weights(self.config.home_dir, sha256, data)

    def train(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions, seed: int
    ) -> tuple[Arrays, int, float]:
        """Train the head; a client without anything to learn from returns it as it came.

        Under `group-weighting` a client counts by the weights of its examples: a factor of all of
        them, as where they are of one group, changes nothing in its own weighted mean. Under
        `train-on = "disagreements"` it counts by the images of which it learns something.
        """
        config, train = self.config, self._parts(node, instructions)["train"]
        answers, predicted = self.teachers.answers(node, train.table, train.rows), None
        scaling = start.told(instructions)
        if config.train_on == "disagreements":
            predicted = scores(fold(arrays, scaling), train.features) > 0
        taught, counted = targets(train.labels, answers, predicted)
        chosen = counted.any(axis=1)
        if not chosen.any():
            return arrays, 0, float("nan")
        weight = weighting.weigh(config, instructions)(train.labels[chosen])
        positive_weight, weights = instructions.get("positive-weight"), str(instructions["weights"])
        copies, rows = config.augmentations + 1, train.rows if chosen.all() else train.rows[chosen]
        stores = [self.features.open(train.table, weights, version) for version in range(copies)]
        trained, loss = train_head(
            arrays,
            scaled(Versions([store.read(rows) for store in stores]), scaling),
            np.tile(flipped(taught[chosen], config, instructions), (copies, 1)),
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

    def evaluate(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions
    ) -> tuple[dict[str, Arrays], int]:
        """Counts over the client's train and validation images; per group of the final model."""
        counts, parts = {}, self._parts(node, instructions)
        head = fold(arrays, start.told(instructions))
        for part, examples in parts.items():
            outputs, labels = scores(head, examples.features), examples.labels
            counts[part] = Counts.of(outputs, labels).to_arrays()
            if part == "train":
                answers = self.teachers.answers(node, examples.table, examples.rows)
                if answers is not None:
                    counts[part] |= corrections.count_answers(answers, labels, outputs > 0)
            if "final" in instructions:
                groupings = self.config.demographics
                counts[part] |= fairness.count_groups(outputs, labels, ATTRIBUTES, groupings)
        return counts, len(parts["valid"])

    # ---- data ------------------------------------------------------------------------------

    def _parts(self, node: NodeConfig, instructions: Instructions) -> dict[str, Examples]:
        """A node's train and validation images, whose features are there."""
        table = self.faces.of(node)
        self.features.settle(str(instructions["precision"]))
        store = self.features.open(table, str(instructions["weights"]))
        parts = zip(("train", "valid"), self.faces.parts(node, store), strict=True)
        return {part: Examples(table, rows, store.read(rows)) for part, rows in parts}
