"""A task that generates: faces by a DCGAN, trained where the images are.

What travels is the key `exchange`. With ``both``, generator and discriminator are averaged, as in
FedGAN (Rasouli, Sun and Rajagopal, 2020, arXiv 2006.07228). With ``generator``, each client keeps
its discriminator, on its own disk: one of the synchronisations that Fan and Liu, "Federated
Generative Adversarial Learning", 2020 (arXiv 2005.03793) compare. MD-GAN (Hardy, Le Merrer and
Sericola, IPDPS 2019) keeps discriminators on the clients too, but has one generator only, on the
server, and sends images and gradients every step instead of weights every round.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.config import RunConfig, keys_of
from celeba_fl.data import sources
from celeba_fl.data.images import encode, tile
from celeba_fl.data.schema import ATTRIBUTES, group_names, membership
from celeba_fl.data.table import Table
from celeba_fl.evaluation.checking import (
    FRACTION,
    check_form,
    check_names,
    check_parts,
    check_total,
)
from celeba_fl.evaluation.metrics import ratio
from celeba_fl.models import dcgan
from celeba_fl.models.dcgan import Losses
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
    derived_seed,
)
from celeba_fl.tasks.client_data import ClientData
from celeba_fl.tasks.client_files import ClientFiles
from celeba_fl.tasks.examples import CENTRAL, view_of
from celeba_fl.tasks.judging import DISTANCE, REAL_DISTANCE, Judge
from celeba_fl.tasks.settings import check_backbone, check_faces
from celeba_fl.vision.pixels import PixelStore
from celeba_fl.vision.views import LAST

LOSSES = ("generator_loss", "discriminator_loss")
SAMPLES = 64


class Dcgan(Task):
    """Faces from noise; `celeba_fl.models.dcgan` says what becomes of batch norm and of Adam."""

    reads = keys_of("dcgan")

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        check_faces(config)
        if config.dataset != "none":  # else there are no images to judge by
            check_backbone(config, config.dataset)
        self.home, self.view = config.home_dir, view_of(config, LAST)
        self.faces = ClientData(config, partial(sources.load, plain=True))
        self._stores: dict[str, PixelStore] = {}
        self._judge: Judge | None = None
        if config.strategy != "fedavg":
            raise InputError(
                f"strategy = {config.strategy!r}: the task dcgan trains two networks against each "
                f"other and averages batch-norm statistics, for which {config.strategy} is not "
                f"meant; take fedavg"
            )

    @property
    def count_names(self) -> tuple[str, ...]:
        """The groups of `partition-by`."""
        return tuple(group_names(self.config.groupby))

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Both losses on the clients; on the server the distance, and that of real to real."""
        return *LOSSES, DISTANCE, REAL_DISTANCE

    @property
    def lower_is_better(self) -> tuple[str, ...]:
        """All of them."""
        return self.metric_names

    @property
    def central_parts(self) -> tuple[str, ...]:
        """The official validation and test splits."""
        return tuple(CENTRAL)

    # ---- on the server ---------------------------------------------------------------------

    def prepare(self) -> Prepared:
        """Held-out faces, and where there are some, the backbone and their features."""
        self._judge = Judge.prepare(self.config, self.view, self._store(self.faces.table))
        provenance: dict[str, Any] = {"dataset": self.faces.provenance()}
        if self._judge:
            weights = {"name": self.config.weights, "sha256": self._judge.weights}
            provenance |= {"weights": weights, "judged_faces": self._judge.number}
        return Prepared(instructions={}, provenance=provenance)

    def initial_arrays(self) -> Arrays:
        """Random networks, or generator, by the run's seed."""
        return self._travels(self._initial)

    def metrics(self, counts: Arrays) -> dict[str, float]:
        """The mean losses, in nats an image."""
        return {name: float(ratio(counts[name], counts["n"])[0]) for name in LOSSES}

    def check_description(self, client: Client) -> None:
        """Every train image is in one group, or nothing is known of any."""
        if client.counts.any():
            check_total("groups", client.counts.sum(), client.num_train)

    def check_epochs(self, client: Client, epochs: Mapping[str, Sequence[float]]) -> None:
        """The two losses of each epoch."""
        check_names(epochs, [f"train_{loss}" for loss in LOSSES])
        for sums in epochs.values():
            check_total("local epochs", len(sums), self.config.local_epochs)

    def check_counts(self, client: Client, counts: Mapping[str, Arrays], final: bool) -> None:
        """Losses of the client's own images."""
        check_parts(counts)
        for part, n in (("train", client.num_train), ("valid", client.num_valid)):
            names = check_form(counts[part], ("n",), (1,))
            check_names(counts[part], names + check_form(counts[part], LOSSES, (1,), FRACTION))
            check_total("n", counts[part]["n"], np.array([n]), client.at_most)

    def evaluate_centrally(self, arrays: Arrays) -> dict[str, dict[str, float]]:
        """The distance of generated faces to each held-out split, and of those to each other."""
        if not self._judge:
            return {}
        noise = dcgan.noise(self._judge.number, derived_seed(self.config.seed, "judged"))
        return self._judge.distances(dcgan.generate(arrays, noise))

    def illustrate(self, arrays: Arrays) -> dict[str, bytes]:
        """A grid of faces, in all rounds from the same noise."""
        noise = dcgan.noise(SAMPLES, derived_seed(self.config.seed, "samples"))
        return {"samples": encode(tile(np.stack([*dcgan.generate(arrays, noise)])))}

    def finish(self, arrays: Arrays, counts: Mapping[str, Arrays]) -> Tables:
        """The distance to the test split, and what is needed to generate."""
        distances = self.evaluate_centrally(arrays).get("test", {})
        return Tables(
            summary={f"test_{name}": value for name, value in distances.items()},
            model_metadata={
                "network": dcgan.NETWORK,
                "feature-maps": str(self.config.feature_maps),
                "noise": f"(n, {dcgan.NOISE}) standard normal",
                "pixels": f"(n, 3, {dcgan.SIZE}, {dcgan.SIZE}) RGB within [-1, 1]",
            },
        )

    # ---- on a client -----------------------------------------------------------------------

    def describe(self, node: NodeConfig, instructions: Instructions) -> Description:
        """Decode the images that are not there yet, and count the train images of each group."""
        table = self.faces.of(node)
        self._store(table).fill(self.faces.held(node), self.config.bad_images)
        train, valid = self._parts(node)
        counts = np.zeros(len(self.count_names), np.int64)
        if table.labelled:
            labels = np.asarray(table.labels[train])
            counts = membership(labels, ATTRIBUTES, self.config.groupby).sum(axis=0)
        return Description(len(train), len(valid), counts)

    def train(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions, seed: int
    ) -> Trained:
        """Train both networks, and keep the discriminator here if it does not travel."""
        config, name = self.config, client_name(node)
        number = int(instructions["server-round"])  # type: ignore[arg-type]
        rows, _ = self._parts(node)
        epochs = {f"train_{loss}": [0.0] * config.local_epochs for loss in LOSSES}
        if not len(rows):
            return Trained(arrays, 0, float("nan"), epochs)

        def on_epoch(epoch: int, sums: Losses) -> None:
            for loss, value in zip(epochs.values(), sums, strict=True):
                loss[epoch - 1] = value
            LOG.info(
                "client %s, round %d, epoch %d of %d: generator loss %.3f, discriminator loss %.3f",
                *(name, number, epoch, config.local_epochs, *(value / len(rows) for value in sums)),
            )

        trained = dcgan.train_dcgan(
            self._completed(arrays, node, instructions, number - 1, trains=True),
            self._store(self.faces.of(node)).read(rows),
            epochs=config.local_epochs,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            optimizer=config.optimizer,
            seed=seed,
            on_epoch=on_epoch,
        )
        travels = self._travels(trained)
        kept = {key: array for key, array in trained.items() if key not in travels}
        figures = map(np.asarray, (*trained.values(), *epochs.values()))
        # The server refuses a model that diverged, and nothing can be learned from there either.
        if kept and all(np.isfinite(values).all() for values in figures):
            self._private(node, instructions).save(number, kept)
        loss = epochs["train_discriminator_loss"][-1] / len(rows)
        return Trained(travels, len(rows), loss, epochs)

    def evaluate(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions
    ) -> tuple[dict[str, Arrays], int]:
        """The summed losses on the client's images, and on as many generated ones."""
        number = int(instructions.get("server-round", 0))  # type: ignore[arg-type]
        arrays = self._completed(arrays, node, instructions, number)
        store, counts = self._store(self.faces.of(node)), {}
        train, valid = self._parts(node)
        for part, rows in (("train", train), ("valid", valid)):
            seed = derived_seed(self.config.seed, client_name(node), part)
            sums = dcgan.judge(arrays, store.read(rows), seed)
            losses = {loss: np.array([value]) for loss, value in zip(LOSSES, sums, strict=True)}
            counts[part] = {**losses, "n": np.array([len(rows)])}
        return counts, len(valid)

    # ---- what travels and what does not ------------------------------------------------------

    @cached_property
    def _initial(self) -> Arrays:
        """Both networks as training starts, alike on server and clients."""
        return dcgan.initial_arrays(self.config.feature_maps, self.config.seed)

    def _travels(self, arrays: Arrays) -> Arrays:
        """Arrays that server and clients exchange."""
        if self.config.exchange == "both":
            return arrays
        return {key: array for key, array in arrays.items() if key.startswith("generator/")}

    def _completed(
        self,
        arrays: Arrays,
        node: NodeConfig,
        instructions: Instructions,
        number: int,
        trains: bool = False,
    ) -> Arrays:
        """Add the client's own discriminator, of round `number` or before, if none came along."""
        if self.config.exchange == "both":
            return arrays
        private = self._private(node, instructions)
        own = private.load(number)
        if own is None and trains and number:
            LOG.warning(
                "client %s, round %d: it trains against the untrained discriminator, since %s has "
                "none of an earlier round; unless it has not trained before, that was lost",
                *(client_name(node), number + 1, private.folder),
            )
        return {**self._initial, **(own or {}), **arrays}

    def _private(self, node: NodeConfig, instructions: Instructions) -> ClientFiles:
        if "run" not in instructions:
            raise InputError(
                "exchange = 'generator': a discriminator is kept by its client for one run, and "
                "outside of a run there is none to train against; take a run of exchange = 'both'"
            )
        run, kept = str(instructions["run"]), self.config.keep_checkpoints
        return ClientFiles.of(self.home, "dcgan", run, client_name(node), kept)

    # ---- data ------------------------------------------------------------------------------

    def _store(self, table: Table) -> PixelStore:
        if table.fingerprint not in self._stores:
            self._stores[table.fingerprint] = PixelStore(self.home, table, dcgan.SIZE)
        return self._stores[table.fingerprint]

    def _parts(self, node: NodeConfig) -> tuple[np.ndarray, np.ndarray]:
        """Rows that a node trains on, and rows that it validates on."""
        return self.faces.parts(node, self._store(self.faces.of(node)))
