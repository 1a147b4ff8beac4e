"""What a task is, and which there are.

A task is everything about a problem that the apps, the round loop and the run directory need not
know: its data, its model, its training and its metrics. `celeba-fl new` starts an app with a task
of your own, ``task = "my_app.task:MyTask"``; celeba_fl/tasks/README.md explains the methods.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.common.names import client_name as client_name
from celeba_fl.common.seeds import derived_seed as derived_seed
from celeba_fl.config import RunConfig
from celeba_fl.results import Description as Description
from celeba_fl.results import Instructions as Instructions
from celeba_fl.results import Prepared as Prepared
from celeba_fl.results import Tables as Tables
from celeba_fl.results import Trained as Trained
from celeba_fl.rounds.checking import Client, Expectations

if TYPE_CHECKING:
    from celeba_fl.privacy.ledger import Data

TASKS = {
    "attributes": "celeba_fl.tasks.attributes:Attributes",
    "lenet": "celeba_fl.tasks.lenet:Lenet",
    "dcgan": "celeba_fl.tasks.dcgan:Dcgan",
}

NodeConfig = Mapping[str, Any]


class Task(Expectations, ABC):
    """A problem for federated learning. A process has one instance, without a round's state.

    Its `Expectations` of clients' replies may be stricter than the defaults.
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
        """Names of what clients count among train examples: columns of `partitions.csv`."""

    @property
    @abstractmethod
    def metric_names(self) -> tuple[str, ...]:
        """The keys of `metrics`; columns of `rounds.csv`, after the name of a part."""

    @property
    def lower_is_better(self) -> tuple[str, ...]:
        """The metrics that are better when they are lower."""
        return ("loss",)

    @property
    def central_parts(self) -> tuple[str, ...]:
        """The parts that `evaluate_centrally` evaluates where the server has data."""
        return ("test",)

    @abstractmethod
    def prepare(self) -> Prepared:
        """Do whatever takes long; called once, before the clients are asked."""

    @abstractmethod
    def initial_arrays(self) -> Arrays:
        """The arrays that travel, at the start of training."""

    def public_arrays(self) -> Arrays:
        """The arrays that travel, trained on the public part of the train images."""
        raise InputError(f"task {self.config.task}: cannot learn from a public part; change init")

    def instruct(self, counts: np.ndarray, num_train: int) -> Instructions:
        """Instructions that depend on the totals over all clients, such as class weights.

        Those are the counts, (k,) int64 in the order of `count_names`, and the train examples.
        """
        return {}

    def description_sums(self) -> Arrays:
        """Zeros of the shapes of `Description.sums`, int64; a client with others is refused."""
        return {}

    def instruct_from_sums(self, sums: Arrays) -> Instructions:
        """More instructions, from the total of `Description.sums`; called before any arrays.

        What the server needs of it later is state of the run, replaced at the next call. A run that
        resumes has the total of its start, whichever clients are there.
        """
        return {}

    def deliver(self, missing: str) -> bytes:
        """The file with this hash, for a client that lacks it."""
        raise InputError(f"there is no file with hash {missing}")

    def zero_sums(self) -> Arrays:
        """Zeros of the shapes of `summarise`'s sums, int64, if the task has a closed form."""
        raise InputError(
            f"task {self.config.task}: has no closed form, so neither strategy nor init can be "
            f"'closed-form'"
        )

    def solve(self, sums: Arrays, instructions: Instructions) -> Arrays:
        """The model from the total sums of all clients, which had these instructions."""
        raise NotImplementedError

    def sums_to_keep(self, sums: Arrays, instructions: Instructions) -> Arrays:
        """What the run directory keeps of the sums of `solve`, for its owner's eyes alone."""
        return {}

    def review(self, kept: Arrays) -> dict[str, list[dict[str, Any]]]:
        """Rows of CSV files, by file name, about what else could be made of the kept sums."""
        return {}

    @abstractmethod
    def metrics(self, counts: Arrays) -> dict[str, float]:
        """Metrics by name, NaN if undefined, from the total counts of `evaluate`."""

    def client_metrics(self, counts: Arrays) -> dict[str, float]:
        """Those that a row of `clients.csv` is made of, of one client: ``loss``, ``accuracy``."""
        return self.metrics(counts)

    def check_counts(self, client: Client, counts: Mapping[str, Arrays], final: bool) -> None:
        """Make metrics of a client's counts, as the run will."""
        for of_part in counts.values():
            self.metrics(of_part)

    @abstractmethod
    def evaluate_centrally(self, arrays: Arrays) -> dict[str, dict[str, float]]:
        """Metrics of the server's own parts, e.g. ``{"test": {"loss": 0.3}}``; may be empty."""

    def illustrate(self, arrays: Arrays) -> dict[str, bytes]:
        """PNG pictures that show a round's model at work, by kind, such as ``samples``."""
        return {}

    def kept_arrays(self, arrays: Arrays) -> Arrays:
        """The model for `model.safetensors`, of the arrays that travel; by default these."""
        return arrays

    @abstractmethod
    def finish(self, arrays: Arrays, counts: Mapping[str, Arrays]) -> Tables:
        """Evaluate the final model, as `kept_arrays` made it.

        `counts` are the totals of all clients for it, by part.
        """

    def finish_by_clients(
        self, arrays: Arrays, counts: Mapping[str, Arrays], each: Iterable[Mapping[str, Arrays]]
    ) -> Tables:
        """As `finish`, where the counts of each client, one after the other, tell more."""
        return self.finish(arrays, counts)

    def compare(self, base: Arrays, arrays: Arrays) -> dict[str, list[dict[str, Any]]]:
        """Rows of CSV files, by file name, that compare the final model with that after round 0.

        Both as `kept_arrays` made them.
        """
        return {}

    def best_central(
        self, node: NodeConfig, instructions: Instructions
    ) -> tuple[Arrays, dict[str, Any]] | None:
        """The best model of the examples of a node that holds all, for `celeba-fl baseline`.

        The arrays that travel, and how they were chosen. None: the best of its rounds is taken.
        """
        return None

    # ---- on a client -----------------------------------------------------------------------

    @abstractmethod
    def describe(self, node: NodeConfig, instructions: Instructions) -> Description:
        """Prepare the client's data and count it."""

    def data_of(self, node: NodeConfig) -> "Data":
        """What a client's own privacy ledger takes for the same data; by default all it has."""
        from celeba_fl.privacy.ledger import Data  # of use under a budget alone

        return Data("", "")

    def receive(self, sha256: str, data: bytes) -> None:
        """Store a file that this client lacked."""
        raise InputError(f"no use for the file {sha256}")

    @abstractmethod
    def train(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions, seed: int
    ) -> tuple[Arrays, int, float] | Trained:
        """Train on the client's examples; the fields of `Trained`, of which `epochs` is optional.

        In a run, the instructions have the keys ``run``, its name, and ``server-round``.
        """

    def summarise(self, node: NodeConfig, instructions: Instructions) -> tuple[Arrays, int]:
        """The sums that ``instructions["sums"]`` names, and the client's number of examples."""
        raise NotImplementedError

    @abstractmethod
    def evaluate(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions
    ) -> tuple[dict[str, Arrays], int]:
        """Counts that add up over clients, by part, and the number of validation examples.

        The parts are ``{"train": {...}, "valid": {...}}``; the shapes are the same on all clients,
        also where there is nothing to count. The instructions are as for `train`. For the final
        model they have the key ``final``: then there may be more counts, for `finish`.
        """


@lru_cache(maxsize=4)
def load_task(config: RunConfig) -> Task:
    """The task that a run config names; the same instance as long as the config is the same.

    Raises
    ------
    InputError
        If there is no such task, or a key is set that it does not read.
    """
    task, values, defaults = task_class(config.task), config.to_dict(), config.defaults()
    ignored = [f"{key} = {values[key]!r}" for key in unread(task) if values[key] != defaults[key]]
    if ignored:
        cure = "leave it out" + (", or name it in the task's `reads`" if ":" in config.task else "")
        raise InputError(f"{', '.join(ignored)}: not read by the task {config.task}; {cure}")
    return task(config)


def task_class(task: str) -> type[Task]:
    """The class of a task; InputError if there is none of this name."""
    reference = TASKS.get(task, task)
    module, _, name = reference.partition(":")
    try:
        found: type[Task] = getattr(importlib.import_module(module), name)
        if not issubclass(found, Task):
            raise TypeError(f"{reference} is not a Task")
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise InputError(
            f"task = {task!r}: {error}; there are {', '.join(TASKS)}, or name your own "
            f"as module:Class"
        ) from error
    return found


def unread(task: type[Task]) -> list[str]:
    """The keys of celeba-fl that a task does not read."""
    own = task.config_class.own_keys()
    keys = task.config_class.keys().items()
    return [key for key, rules in keys if rules.of and key not in (*task.reads, *own)]


def starting_arrays(task: Task) -> Arrays:
    """The arrays that a run starts from, by its `init`; the closed form comes after them."""
    return task.public_arrays() if task.config.init == "public" else task.initial_arrays()
