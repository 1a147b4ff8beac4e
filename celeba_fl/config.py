"""The run config: all keys of `celeba_fl/keys/`, checked, and what follows from them.

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
from celeba_fl.common.keys import Key, Value, split_names
from celeba_fl.keys.data import DataKeys
from celeba_fl.keys.judging import JudgingKeys
from celeba_fl.keys.model import ModelKeys
from celeba_fl.keys.naming import LABELS, NamingKeys
from celeba_fl.keys.places import DEFAULT_HOME, PlaceKeys
from celeba_fl.keys.privacy import PrivacyKeys, check_budget
from celeba_fl.keys.robust import RobustKeys
from celeba_fl.keys.rounds import RoundKeys
from celeba_fl.keys.training import TrainingKeys

# What may differ between a run and its continuation: how long it goes on.
RESUMABLE = ("resume", "num-server-rounds", "target", "patience", "max-seconds")
# What a run did that is older than a key, where that is not the key's default.
BEFORE: Mapping[str, Value] = {"features": "last", "scaling": "none", "init": "random"} | {
    "dirichlet-order": "rows", "allow-drawn-weights": True
}  # fmt: skip

# The strategies that asynchronous rounds are tried with.
BUFFERED = ("fedavg", "fedprox")


# Python takes fields of the last parent first.
@dataclass(frozen=True)
class RunConfig(
    NamingKeys,
    PlaceKeys,
    JudgingKeys,
    PrivacyKeys,
    RobustKeys,
    TrainingKeys,
    RoundKeys,
    ModelKeys,
    DataKeys,
):
    """A validated run config; field `learning_rate` is the key `learning-rate`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.chosen)) < len(self.chosen) or (self.clients and not self.chosen):
            raise InputError(f"clients = {self.clients!r}: must name each client once, as in '0,2'")
        usual = self.defaults()["max-update-norm"]
        if self.secure_aggregation and self.max_update_norm not in (0.0, usual):
            raise InputError(
                f"max-update-norm = {self.max_update_norm}: nobody sees the update of a client "
                f"under secure-aggregation; leave it out"
            )
        if self.secure_aggregation:
            self._check_same_clients()
        if self.robust != "none" and not self.keep_sums:
            raise InputError(
                f"robust = {self.robust!r}: judges each client's sums of strategy = 'closed-form'; "
                f"set keep-sums = true, too, or robust to none"
            )
        if self.keep_sums:
            self._check_each_has_sums()
        self._check_scheduler()
        if self.min_cohort == 1 or (self.min_cohort and not self.secure_aggregation):
            raise InputError(
                f"min-cohort = {self.min_cohort}: is the number of clients in a total of "
                f"secure-aggregation, which takes two or more; set secure-aggregation = true, or "
                f"leave it out"
            )
        check_budget(self)
        if (self.joining or self.stay_open) and not self.join:
            raise InputError(
                f"joining = {self.joining!r}, stay-open = {self.stay_open}: say which run clients "
                f"join, as in join = 'latest', or leave them out"
            )
        if self.join and self.resume:
            raise InputError(
                f"join = {self.join!r}, resume = {self.resume!r}: a run either is joined or goes "
                f"on; leave one of them out"
            )
        self._check_robust()

    def _check_scheduler(self) -> None:
        """Raise InputError where a key does not go with when the server aggregates."""
        if self.scheduler == "synchronous":
            if self.buffer_size:
                raise InputError(
                    f"buffer-size = {self.buffer_size}: makes a round under scheduler = "
                    f"'asynchronous' alone; leave it out"
                )
            return
        why = ""
        if self.secure_aggregation:
            why = "secure-aggregation = true: masks are for those who answer at the same time"
        elif self.strategy not in BUFFERED:
            why = f"strategy = {self.strategy!r}: not every strategy may average older models"
        elif self.private:
            why = f"privacy-epsilon = {self.privacy_epsilon:g}: bounds rounds of all clients alone"
        elif self.pre_aggregation != "none" or self.attack != "none":
            why = (
                f"pre-aggregation = {self.pre_aggregation!r}, attack = {self.attack!r}: take the "
                f"models of one round together"
            )
        elif self.fraction_train < 1:
            why = f"fraction-train = {self.fraction_train}: all clients are at work all the time"
        if why:
            raise InputError(
                f"{why}; under scheduler = 'asynchronous' take secure-aggregation = false, "
                f"privacy-epsilon = 0, pre-aggregation and attack = none, fraction-train = 1, and "
                f"a strategy of {', '.join(BUFFERED)}"
            )

    def _check_same_clients(self) -> None:
        """Raise InputError where totals over changing clients would differ by numbers of one.

        The same images are counted in every evaluation, and in the closed form as in the roll call.
        """
        same = "takes the same clients every time: totals over others would differ by what one has"
        if 0 < self.fraction_evaluate < 1:
            raise InputError(
                f"fraction-evaluate = {self.fraction_evaluate}: under secure-aggregation it {same}"
                f"; set it to 1, or to 0 to evaluate the last model alone"
            )
        if self.fraction_train < 1 and "closed-form" in (self.strategy, self.init):
            raise InputError(
                f"fraction-train = {self.fraction_train}: under secure-aggregation the closed form "
                f"{same}; set it to 1"
            )

    @property
    def private(self) -> bool:
        """Whether a budget bounds what the run tells."""
        return self.privacy_epsilon > 0

    def _check_each_has_sums(self) -> None:
        """Raise InputError unless the server sees sums of each client that are its own matter."""
        why = ""
        if self.secure_aggregation:
            why = "under secure-aggregation the server sees the sums of no client; choose one"
        elif self.private:
            why = "under privacy-epsilon what a client sends is noisy, and is released once"
        elif self.strategy != "closed-form":
            why = f"strategy = {self.strategy!r} has no sums; take strategy = 'closed-form'"
        elif self.group_weighting:
            why = (
                f"with group-weighting = {self.group_weighting!r} a client's sums are weighted by "
                f"what all clients hold, so that none can be taken out exactly; leave it empty"
            )
        if why:
            raise InputError(f"keep-sums = true: {why}")

    def _check_robust(self) -> None:
        """Raise InputError at a defence or an attack that has nothing to work on."""
        mixing, attack = self.pre_aggregation, self.attack
        unseen = "has to see what each client sends, and under secure-aggregation nobody does"
        for key, value in (("pre-aggregation", mixing), ("attack", attack)):
            if self.secure_aggregation and value != "none":
                raise InputError(f"{key} = {value!r}: {unseen}; set it to none")
        closed = "closed-form" in (self.strategy, self.init)
        wrong = ""
        if mixing != "none" and self.strategy == "closed-form":
            raise InputError(
                f"pre-aggregation = {mixing!r}: mixes models, and the closed form adds up sums; "
                f"set it to none"
            )
        if attack == "sums" and not closed:
            wrong = "falsifies sums, and there are none; take strategy = 'closed-form'"
        elif attack == "sums" and self.fair_groups:
            wrong = f"falsifies no sums of groups (fair-groups = {self.fair_groups!r})"
        elif attack == "sums" and self.task != "attributes":
            wrong = "is known of the task attributes alone"
        elif attack not in ("none", "sums") and self.strategy == "closed-form":
            wrong = "falsifies models, and for the closed form clients send sums; take sums"
        elif attack == "label-flip" and self.task not in ("attributes", "lenet"):
            wrong = "is known of the tasks attributes and lenet alone"
        if wrong:
            raise InputError(f"attack = {attack!r}: {wrong}, or set it to none")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The clients named in `clients`; none: all take part."""
        return split_names(self.clients)

    @property
    def may_join(self) -> tuple[str, ...]:
        """The clients named in `joining`; none: whoever is new and has not withdrawn."""
        return split_names(self.joining)

    @property
    def groupby(self) -> tuple[str, ...]:
        """The attributes named in `partition-by`."""
        return split_names(self.partition_by)

    @property
    def weighted(self) -> tuple[str, ...]:
        """The attributes named in `group-weighting`; none: off."""
        return split_names(self.group_weighting)

    @property
    def fair(self) -> tuple[str, ...]:
        """The attributes named in `fair-groups`; none: off."""
        return split_names(self.fair_groups)

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
    """The keys that say where a run is kept and what it is called, not what it computes."""
    kept = (name for name, rules in RunConfig.keys().items() if rules.kind in ("place", "run"))
    return *LABELS, *kept


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()
