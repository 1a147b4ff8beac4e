"""What a task is, and which there are.

A task is everything about a problem that the apps, the round loop and the run directory need not
know: its data, its model, its training and its metrics. Your own task is one class like
`celeba_fl.tasks.attributes.Attributes`; name it in `TASKS`, or in the run config as
``task = "my_package.my_module:MyTask"``.
"""

import hashlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from flwr.app import ConfigRecordValues

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig

TASKS = {
    "attributes": "celeba_fl.tasks.attributes:Attributes",
    "lenet": "celeba_fl.tasks.lenet:Lenet",
    "dcgan": "celeba_fl.tasks.dcgan:Dcgan",
}


NodeConfig = Mapping[str, Any]
# What the server tells every client with every message, and what clients tell of themselves.
Instructions = dict[str, ConfigRecordValues]


@dataclass(frozen=True)
class Description:
    """What a client tells the server of itself before round 1.

    Parameters
    ----------
    num_train, num_valid : int
        Examples that it trains on and that it validates on.
    counts : np.ndarray
        (k,) int64, of its train examples, in the order of the task's `count_names`.
    missing : str
        A hash that the client has no file for; empty once it has everything it needs.
    """

    num_train: int
    num_valid: int
    counts: np.ndarray
    missing: str = ""


@dataclass(frozen=True)
class Prepared:
    """What a task made ready on the server.

    Parameters
    ----------
    instructions : dict
        What goes with every message to the clients.
    provenance : dict
        For `run.json`: where data and weights are from, with their hashes.
    """

    instructions: Instructions
    provenance: dict[str, Any]


class Trained(NamedTuple):
    """What came of training on a client.

    Parameters
    ----------
    arrays : dict[str, np.ndarray]
        The new arrays.
    num_examples : int
        How many examples they were trained on.
    loss : float
        Mean training loss (NaN: none).
    epochs : Mapping[str, Sequence[float]]
        For `epochs.csv`, by column, such as ``valid_accuracy``, after each local epoch: not a mean
        but the sum over the client's examples of the part in front, 0 without any. Which columns,
        and how many epochs, is alike on all clients.
    """

    arrays: Arrays
    num_examples: int
    loss: float
    epochs: Mapping[str, Sequence[float]] = MappingProxyType({})


@dataclass(frozen=True)
class Tables:
    """What a task has to say at the end of a run.

    Parameters
    ----------
    summary : dict[str, float | None]
        The final test metrics, for `summary.json`.
    csv : dict[str, list[dict]]
        Rows of CSV files, by file name.
    parquet : dict[str, dict[str, np.ndarray]]
        Columns of parquet files, by file name.
    model_metadata : dict[str, str]
        What is needed to predict from the final arrays.
    """

    summary: dict[str, Any]
    csv: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    parquet: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    model_metadata: dict[str, str] = field(default_factory=dict)


class Task(ABC):
    """A problem for federated learning. Each process has one instance; none holds a round's state.

    Parameters
    ----------
    config : RunConfig
        The run config.
    """

    # A subclass of RunConfig with keys of the task's own; annotate `config` with it, too.
    config_class: ClassVar[type[RunConfig]] = RunConfig
    # Keys of `RunConfig` that this task reads, besides those of the loop, the strategies and the
    # places, which work for every task; others are refused unless they have their defaults.
    reads: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    # ---- on the server ---------------------------------------------------------------------

    @property
    @abstractmethod
    def count_names(self) -> tuple[str, ...]:
        """What clients count among their train examples: the columns of `partitions.csv`."""

    @property
    @abstractmethod
    def metric_names(self) -> tuple[str, ...]:
        """The keys of `metrics`; with a part in front, columns of `rounds.csv`."""

    @property
    def lower_is_better(self) -> tuple[str, ...]:
        """Those of `metric_names` of which less is better."""
        return ("loss",)

    @property
    def central_parts(self) -> tuple[str, ...]:
        """The parts that `evaluate_centrally` judges where the server has data."""
        return ("test",)

    @abstractmethod
    def prepare(self) -> Prepared:
        """Make everything ready that takes long; called once, before clients are asked."""

    @abstractmethod
    def initial_arrays(self) -> Arrays:
        """The arrays that travel, as training starts."""

    def public_arrays(self) -> Arrays:
        """The arrays that travel, trained on the public part of the train images."""
        raise InputError(f"task {self.config.task}: cannot learn from a public part; change init")

    def instruct(self, counts: np.ndarray, num_train: int) -> Instructions:
        """What clients must be told that depends on all of them.

        Parameters
        ----------
        counts : np.ndarray
            (k,) int64, summed over the clients, in the order of `count_names`.
        num_train : int
            Train examples of all clients.
        """
        return {}

    def deliver(self, missing: str) -> bytes:
        """The file of this hash, for a client that has none."""
        raise InputError(f"there is no file with hash {missing}")

    def zero_sums(self) -> Arrays:
        """Where the sums of `summarise` start, int64; of a task that has a closed form."""
        raise InputError(
            f"task {self.config.task}: has no closed form, so neither strategy nor init can be "
            f"'closed-form'"
        )

    def solve(self, sums: Arrays, instructions: Instructions) -> Arrays:
        """The model from the summed sums of all clients, which were told `instructions`."""
        raise NotImplementedError

    @abstractmethod
    def metrics(self, counts: Arrays) -> dict[str, float]:
        """Metrics by name, NaN if undefined, from the summed counts of `evaluate`."""

    @abstractmethod
    def evaluate_centrally(self, arrays: Arrays) -> dict[str, dict[str, float]]:
        """Metrics of the server's own parts, e.g. ``{"test": {"loss": 0.3}}``; may be empty."""

    def illustrate(self, arrays: Arrays) -> dict[str, bytes]:
        """PNG pictures of what a round's model does, by a name for each kind, e.g. ``samples``."""
        return {}

    @abstractmethod
    def finish(self, arrays: Arrays, counts: Mapping[str, Arrays]) -> Tables:
        """Judge the final model.

        Parameters
        ----------
        arrays : dict[str, np.ndarray]
            The final model.
        counts : Mapping[str, dict[str, np.ndarray]]
            The summed counts of the last evaluation on the clients, by part.
        """

    def compare(self, base: Arrays, arrays: Arrays) -> dict[str, list[dict[str, Any]]]:
        """Rows of CSV files, by file name, on what the rounds changed.

        Parameters
        ----------
        base, arrays : dict[str, np.ndarray]
            The model after round 0, and the final one.
        """
        return {}

    # ---- on a client -----------------------------------------------------------------------

    @abstractmethod
    def describe(self, node: NodeConfig, instructions: Instructions) -> Description:
        """Make the client's data ready and count it."""

    def receive(self, sha256: str, data: bytes) -> None:
        """Keep a file that this client lacked."""
        raise InputError(f"no use for the file {sha256}")

    @abstractmethod
    def train(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions, seed: int
    ) -> tuple[Arrays, int, float] | Trained:
        """Train on the client's examples: what `Trained` holds, `epochs` being optional.

        In a run, the instructions have the keys ``run``, its name, and ``server-round``.
        """

    def summarise(self, node: NodeConfig, instructions: Instructions) -> tuple[Arrays, int]:
        """The client's sums, those that ``instructions["sums"]`` names, and number of examples."""
        raise NotImplementedError

    @abstractmethod
    def evaluate(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions
    ) -> tuple[dict[str, Arrays], int]:
        """Counts that add up over clients, by part, and the number of validation examples.

        The parts are ``{"train": {...}, "valid": {...}}``; the shapes are alike on all clients,
        also where there is nothing to count. The instructions are as for `train`. Once, for the
        final model, they have the key ``final``: then there may be more counts, for `finish`.
        """


def load_task(config: RunConfig) -> Task:
    """The task that a run config names; the same instance as long as the config is the same.

    Raises
    ------
    InputError
        If there is no such task, or a key is set that it does not read.
    """
    return _load(config)


@lru_cache(maxsize=4)
def _load(config: RunConfig) -> Task:
    reference = TASKS.get(config.task, config.task)
    module, _, name = reference.partition(":")
    try:
        task = getattr(importlib.import_module(module), name)
        if not issubclass(task, Task):
            raise TypeError(f"{reference} is not a Task")
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise InputError(
            f"task = {config.task!r}: {error}; there are {', '.join(TASKS)}, or name your own "
            f"as module:Class"
        ) from error
    own, values = config.own_keys(), config.to_dict()
    ignored = [
        f"{key} = {values[key]!r}"
        for key, rules in config.keys().items()
        if rules.of and key not in (*task.reads, *own) and values[key] != rules.default
    ]
    if ignored:
        cure = "leave it out" + (", or name it in the task's `reads`" if ":" in config.task else "")
        raise InputError(f"{', '.join(ignored)}: not read by the task {config.task}; {cure}")
    made: Task = task(config)
    return made


def starting_arrays(task: Task) -> Arrays:
    """The arrays that a run starts from, by its `init`; the closed form comes after them."""
    return task.public_arrays() if task.config.init == "public" else task.initial_arrays()


def client_name(node: NodeConfig) -> str:
    """The one name of a client: its `site`, else its partition id.

    Raises
    ------
    InputError
        If the node config has neither, or the name cannot stand in a list of names.
    """
    for key in ("site", "partition-id"):
        if key in node:
            name = str(node[key])
            if name.strip() != name or not name or "," in name:
                raise InputError(
                    f"{key} = {name!r}: a client's name has no comma in it and no space around it, "
                    f"so that `clients` can name it"
                )
            return name
    raise InputError(
        "this node has no name: start it with --node-config 'partition-id=0 num-partitions=2' "
        'or with \'site="hospital-a" data-path="/srv/faces"\''
    )


def derived_seed(*parts: object) -> int:
    """A seed (63 bits) that is a function of `parts` alone, on every machine."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
