"""The run config: each key with its type, range, default, meaning and readers, in one place.

A key is written `learning-rate` by users and is the field `learning_rate` here. A task from outside
this package brings keys of its own: a subclass of `RunConfig`, see `celeba_fl.task.Task`.
"""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celeba_fl.common.errors import InputError
from celeba_fl.common.keys import Key, Keyed, Value, key, split_names

DEFAULT_HOME = "~/.celeba-fl"
# Tasks that read a key.
IMAGES, FACES, HEAD = "attributes lenet dcgan", "attributes dcgan", "attributes"
# What may differ between a run and its continuation: how long it goes on.
RESUMABLE = ("resume", "num-server-rounds", "target", "patience", "max-seconds")
# What a run did that is older than a key, where that is not the key's default.
BEFORE: Mapping[str, Value] = {"features": "last", "scaling": "none", "init": "random"} | {
    "dirichlet-order": "rows", "allow-drawn-weights": True
}  # fmt: skip


@dataclass(frozen=True)
class RunConfig(Keyed):
    """A validated run config; field `learning_rate` is the key `learning-rate`."""

    task: str = key("what is learned: attributes, lenet, dcgan, or module:Class", "attributes")
    dataset: str = key(
        "`drawn`, a hub id (`flwrlabs/celeba`), a folder, or `none` (clients bring their own)",
        "drawn",
        of=IMAGES,
        kind="path",
        words=("drawn", "none"),
    )
    partitioner: str = key(
        "how images are divided among clients",
        "iid",
        choices=("iid", "dirichlet", "natural"),
        of=IMAGES,
    )
    partition_by: str = key(
        "attributes whose combinations dirichlet skews (lenet: the class)", "Male,Young", of=FACES
    )
    dirichlet_alpha: float = key(
        "concentration of dirichlet; small values are skewed", 0.1, above=0, of=IMAGES
    )
    dirichlet_order: str = key(
        "order in which dirichlet deals images", "shuffled", choices=("shuffled", "rows"), of=IMAGES
    )
    min_partition_size: int = key("fewest images of a client under dirichlet", 0, low=0, of=IMAGES)
    partition_size: int = key(
        "images of each client under iid, exactly; 0: all are dealt", 0, low=0, of=IMAGES
    )
    public_fraction: float = key(
        "fraction of images that no client holds, for init or scaling = 'public'",
        0.0,
        low=0,
        high=0.9,
        of=HEAD,
    )
    valid_fraction: float = key(
        "fraction of a client's images that it validates on", 0.2, low=0, high=0.9, of=IMAGES
    )
    bad_images: str = key(
        "whether a run skips an unreadable image or fails", "skip", choices=("skip", "fail")
    )
    seed: int = key("seed for partitions, cohorts, the initial model and local training", 42, low=0)
    clients: str = key(
        "names of the clients that take part, comma-separated; empty: all of them", "", empty=True
    )
    backbone: str = key("frozen feature extractor", "mobilenet_v2", of=FACES)
    weights: str = key(
        "`drawn`, `imagenet`, or a .pt or .safetensors file",
        "drawn",
        of=FACES,
        kind="path",
        words=("drawn", "imagenet"),
    )
    allow_drawn_weights: bool = key(
        "whether `drawn` weights may see other images than drawn faces", False, of=FACES
    )
    features: str = key(
        "what the head sees of an image: `last`, a name such as `balanced`, or stages on grids",
        "balanced",
        of=HEAD,
    )
    image_size: int = key(
        "edge in pixels to which images are resized, 32 or more; 0: what goes with the features",
        0,
        low=0,
        high=1024,
        of=FACES,
    )
    precision: str = key(
        "how exactly features are computed; bf16 is faster; auto: bf16 where the server can",
        "fp32",
        choices=("fp32", "bf16", "auto"),
        of=HEAD,
    )
    classes: str = key(
        "names of the classes, comma-separated; empty: the data's own", "", of="lenet", empty=True
    )
    feature_maps: int = key("width of both networks; 64 in the paper", 64, low=1, of="dcgan")
    exchange: str = key(
        "networks that travel: both, or the generator alone",
        "both",
        choices=("both", "generator"),
        of="dcgan",
    )
    num_server_rounds: int = key("number of rounds", 10, low=1)
    fraction_train: float = key(
        "fraction of the clients that train in a round", 1.0, above=0, high=1
    )
    fraction_evaluate: float = key(
        "fraction of the clients that evaluate the model of a round", 1.0, low=0, high=1
    )
    min_train_clients: int = key("smallest number of clients that train", 1, low=1)
    min_evaluate_clients: int = key("smallest number of clients that evaluate", 1, low=0)
    min_available_clients: int = key(
        "number of clients (nodes, if `clients` names some) to wait for before round 1", 2, low=1
    )
    wait_seconds: float = key(
        "seconds to wait for so many nodes in a deployment before the run fails", 3600.0, above=0
    )
    round_timeout: float = key("seconds to wait for a client's reply", 3600.0, above=0)
    min_replies: float = key(
        "smallest fraction of the cohort that must return a usable model for the round to count",
        0.5,
        low=0,
        high=1,
    )
    max_update_norm: float = key(
        "norm of a client's update, in medians of its cohort, beyond which it is left out; 0: none",
        100.0,
        low=0,
    )
    round_retries: int = key("number of times a failed round is tried again", 1, low=0)
    watch: str = key("metric that target, patience and the best checkpoint are judged by", "loss")
    target: float = key("value of the watched metric at which the run ends; 0: none", 0.0, low=0)
    patience: int = key(
        "number of rounds without a better value after which the run ends; 0: no limit", 0, low=0
    )
    max_seconds: float = key(
        "seconds after which the run ends with its current round; 0: no limit", 0.0, low=0
    )
    keep_checkpoints: int = key("number of latest checkpoints to keep, besides the best", 2, low=1)
    resume: str = key(
        "run directory to continue, or `latest`; empty: none",
        "",
        kind="run",
        words=("latest",),
        empty=True,
    )
    labels: str = key(
        "labels to train on", "annotations", choices=("annotations", "teacher"), of=HEAD
    )
    teacher: str = key(
        "file of the teacher's answers, or `simulated`",
        "simulated",
        of=HEAD,
        kind="path",
        words=("simulated",),
    )
    teacher_error: str = key(
        "error rate of a simulated teacher: 0.1, or 0.1, Bald=0.02, Male=0", "0.1", of=HEAD
    )
    teacher_confidence: float = key(
        "confidence below which a teacher's answer is ignored", 0.0, low=0, high=1, of=HEAD
    )
    train_on: str = key(
        "pairs to train on: all, or those where label and received model disagree",
        "all",
        choices=("all", "disagreements"),
        of=HEAD,
    )
    augmentations: int = key(
        "number of altered copies of each train image", 0, low=0, high=50, of=HEAD
    )
    local_epochs: int = key(
        "number of passes over a client's train images in a round", 5, low=1, of=IMAGES
    )
    batch_size: int = key("number of images in a step of local training", 16, low=1, of=IMAGES)
    learning_rate: float = key("step size of local training", 0.002, above=0, of=IMAGES)
    optimizer: str = key("optimizer of local training", "adam", choices=("adam", "sgd"), of=IMAGES)
    dropout: float = key(
        "dropout probability before the linear layer", 0.2, low=0, high=0.9, of=HEAD
    )
    class_weights: bool = key(
        "whether positives are weighted by negatives / positives of all clients", False, of=HEAD
    )
    group_weighting: str = key(
        "attributes whose combinations count equally in the loss; empty: none",
        "",
        of=HEAD,
        empty=True,
    )
    scaling: str = key(
        "images whose features give mean 0 and deviation 1: the clients' or the public ones",
        "clients",
        choices=("clients", "public", "none"),
        of=HEAD,
    )
    init: str = key(
        "model that round 1 starts from",
        "base-rates",
        choices=("base-rates", "random", "closed-form", "public"),
        of=HEAD,
    )
    strategy: str = key(
        "how the server aggregates: a name in celeba_fl/strategy.py, or module:Class", "fedavg"
    )
    weighting: str = key(
        "weight of a client in the average", "examples", choices=("examples", "uniform")
    )
    server_learning_rate: float = key(
        "server's step size for fedavgm, fedadam, fedyogi; 0: Flower's default", 0.0, low=0
    )
    server_momentum: float = key("momentum of fedavgm", 0.9, low=0, high=1)
    beta_1: float = key("decay of the first moment of fedadam and fedyogi", 0.9, low=0, below=1)
    beta_2: float = key("decay of the second moment of fedadam and fedyogi", 0.99, low=0, below=1)
    tau: float = key("degree of adaptivity of fedadam and fedyogi", 0.001, above=0)
    proximal_mu: float = key("weight of the proximal term of fedprox", 0.01, low=0)
    thresholds: str = key(
        "score above which an attribute is predicted: 0, or the best on validation",
        "zero",
        choices=("zero", "valid"),
        of=HEAD,
    )
    groupings: str = key(
        "attributes whose combinations are compared for fairness",
        "Male; Young; Male,Young",
        of=HEAD,
    )
    home: str = key(
        "folder for data, weights and features; CELEBA_FL_HOME moves it", DEFAULT_HOME, kind="place"
    )
    results_dir: str = key(
        "folder for run directories; CELEBA_FL_HOME moves it too",
        f"{DEFAULT_HOME}/runs",
        kind="place",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.chosen)) < len(self.chosen) or (self.clients and not self.chosen):
            raise InputError(f"clients = {self.clients!r}: must name each client once, as in '0,2'")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The clients named in `clients`; none: all take part."""
        return split_names(self.clients)

    @property
    def groupby(self) -> tuple[str, ...]:
        """The attributes named in `partition-by`."""
        return split_names(self.partition_by)

    @property
    def weighted(self) -> tuple[str, ...]:
        """The attributes named in `group-weighting`; none: off."""
        return split_names(self.group_weighting)

    @property
    def demographics(self) -> tuple[tuple[str, ...], ...]:
        """The attributes of each grouping in `groupings`."""
        return tuple(split_names(part) for part in self.groupings.split(";") if part.strip())

    @property
    def home_dir(self) -> Path:
        """Absolute `home`; the environment variable CELEBA_FL_HOME replaces the default."""
        moved = os.environ.get("CELEBA_FL_HOME")
        return _absolute(moved if moved and self.home == DEFAULT_HOME else self.home)

    @property
    def runs_dir(self) -> Path:
        """Absolute `results-dir`; CELEBA_FL_HOME replaces the default by its folder `runs`."""
        moved = os.environ.get("CELEBA_FL_HOME")
        if moved and self.results_dir == f"{DEFAULT_HOME}/runs":
            return _absolute(moved) / "runs"
        return _absolute(self.results_dir)

    @classmethod
    def own_keys(cls) -> dict[str, Key]:
        """The keys that a task of its own adds, or declares anew."""
        ours = RunConfig.keys()
        return {name: rules for name, rules in cls.keys().items() if ours.get(name) is not rules}

    @classmethod
    def load(cls, values: Mapping[str, Any] | None = None) -> "RunConfig":
        """Check values by key and build the config of the task that they name.

        Raises
        ------
        InputError
            For an unknown key, or a value of the wrong type or range; the message names the key,
            the value and what would be right.
        """
        values = dict(values or {})
        made, trouble = cls, ""
        if cls is RunConfig:
            made, trouble = config_class(str(values.get("task", "")))
        return made(**made.fields(values, trouble))


def config_class(task: str) -> tuple[type[RunConfig], str]:
    """The config class of a task ``module:Class``, and why there is none if it cannot be imported.

    Raises
    ------
    InputError
        If the task declares keys in a way that is not understood.
    """
    module, colon, name = task.partition(":")
    if not colon:
        return RunConfig, ""
    try:
        declared = getattr(importlib.import_module(module), name).config_class
    except Exception as error:  # anything may happen in a module of others; load_task shows it
        return RunConfig, f"task = {task!r} cannot be imported: {error}"
    if not (isinstance(declared, type) and issubclass(declared, RunConfig)):
        raise InputError(f"task = {task!r}: config_class = {declared!r}: must be a RunConfig class")
    return declared, ""


def keys_of(task: str) -> tuple[str, ...]:
    """The keys that a task of this package reads, besides those that every task reads."""
    return tuple(name for name, rules in RunConfig.keys().items() if task in rules.of.split())


def places() -> tuple[str, ...]:
    """The keys that say where a run is kept, not what it computes."""
    return tuple(name for name, rules in RunConfig.keys().items() if rules.kind in ("place", "run"))


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()
