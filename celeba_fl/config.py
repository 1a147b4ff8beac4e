"""The run config: each key once, with its type, its range and what it means.

The defaults stand in `pyproject.toml` under ``[tool.flwr.app.config]``, where Flower reads them.
"""

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from celeba_fl.common.bundle import pyproject
from celeba_fl.common.errors import InputError
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.vision.backbones import BACKBONES, check_settings

DEFAULT_HOME = "~/.celeba-fl"
# 2^5 = 32 groups: more could neither be filled nor sent.
MAX_GROUPED = 5
# What may differ between a run and its continuation: how long it goes on.
RESUMABLE = ("resume", "num-server-rounds", "target", "patience", "max-seconds")


def _key(
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare a run-config key: its meaning and the values it may take."""
    limits = {"low": low, "high": high, "above": above, "below": below, "choices": choices}
    return dataclasses.field(metadata={"meaning": meaning, **limits})


@dataclass(frozen=True)
class RunConfig:
    """A validated run config; field `learning_rate` is the key `learning-rate`."""

    task: str = _key("what is learned: a name in celeba_fl/task.py, or module:Class of your own")
    dataset: str = _key(
        "drawn, a hub id (flwrlabs/celeba), a folder of the data, or none: clients bring their own"
    )
    partitioner: str = _key("who holds which train images", choices=("iid", "dirichlet", "natural"))
    partition_by: str = _key(
        "attributes, comma-separated, whose combination dirichlet skews (lenet: the class)"
    )
    dirichlet_alpha: float = _key("concentration of dirichlet; small is skewed", above=0)
    min_partition_size: int = _key("fewest images of a client under dirichlet", low=0)
    partition_size: int = _key("images of each client under iid, exactly; 0: all there are", low=0)
    public_fraction: float = _key(
        "part of the train images that no client holds, for init = 'public'", low=0, high=0.9
    )
    valid_fraction: float = _key("part of a client's images that validates", low=0, high=0.9)
    bad_images: str = _key("what an unreadable image does to a run", choices=("skip", "fail"))
    seed: int = _key("of partitions, cohorts, initial head and local training", low=0)
    clients: str = _key("names of those that take part, comma-separated; empty: all there are")
    backbone: str = _key("frozen feature extractor", choices=tuple(BACKBONES))
    weights: str = _key("of the backbone: drawn, imagenet, or a .pt or .safetensors file")
    image_size: int = _key("images are resized to N x N pixels", low=32, high=1024)
    feature_maps: int = _key("of dcgan: width of its networks, 64 in the paper", low=1)
    exchange: str = _key(
        "of dcgan: both networks travel, or the generator and discriminators stay private",
        choices=("both", "generator"),
    )
    num_server_rounds: int = _key("rounds", low=1)
    fraction_train: float = _key("part of the clients that train in a round", above=0, high=1)
    fraction_evaluate: float = _key("part of the clients that evaluate a round", low=0, high=1)
    min_train_clients: int = _key("fewest clients that train in a round", low=1)
    min_evaluate_clients: int = _key("fewest clients that evaluate a round", low=0)
    min_available_clients: int = _key(
        "clients (or nodes, where some are chosen) to wait for before round 1", low=1
    )
    round_timeout: float = _key("seconds to wait for a client's answer", above=0)
    min_replies: float = _key("part of a cohort without whose models a round fails", low=0, high=1)
    round_retries: int = _key("how often a failed round is tried again", low=0)
    watch: str = _key("metric that target, patience and the best checkpoint go by")
    target: float = _key("end once the watched metric is this good; 0: never", low=0)
    patience: int = _key("end after so many rounds without a better value; 0: never", low=0)
    max_seconds: float = _key("end after the round in which so long has passed; 0: never", low=0)
    keep_checkpoints: int = _key("how many checkpoints stay, besides the best", low=1)
    resume: str = _key("go on with this run directory, or with 'latest'; empty: a new run")
    labels: str = _key(
        "what clients learn their train images by", choices=("annotations", "teacher")
    )
    teacher: str = _key("of labels = 'teacher': a file of its answers, or simulated")
    teacher_error: str = _key(
        "share of wrong answers of a simulated teacher: 0.1, or 0.1, Bald=0.02, Male=0"
    )
    teacher_confidence: float = _key(
        "a less sure answer of a teacher counts as none", low=0, high=1
    )
    train_on: str = _key(
        "all pairs of image and attribute, or those where label and received model disagree",
        choices=("all", "disagreements"),
    )
    augmentations: int = _key(
        "altered versions of each train image, besides itself", low=0, high=50
    )
    local_epochs: int = _key("passes of a client over its train images in a round", low=1)
    batch_size: int = _key("images a step of local training", low=1)
    learning_rate: float = _key("of local training", above=0)
    optimizer: str = _key("of local training", choices=("adam", "sgd"))
    dropout: float = _key("probability in front of the head's linear layer", low=0, high=0.9)
    class_weights: bool = _key("weigh positives by negatives / positives over all clients")
    group_weighting: str = _key(
        "attributes whose combinations count equally in the loss: Male,Young; empty: as they come"
    )
    init: str = _key(
        "what round 1 starts from; public: a head of the public-fraction",
        choices=("random", "closed-form", "public"),
    )
    strategy: str = _key(
        "how the server aggregates: a name in celeba_fl/strategy.py, or module:Class of your own"
    )
    weighting: str = _key("of clients in the average", choices=("examples", "uniform"))
    server_learning_rate: float = _key("of fedavgm, fedadam, fedyogi; 0: Flower's default", low=0)
    server_momentum: float = _key("of fedavgm", low=0, high=1)
    beta_1: float = _key("of fedadam and fedyogi: decay of the first moment", low=0, below=1)
    beta_2: float = _key("of fedadam and fedyogi: decay of the second moment", low=0, below=1)
    tau: float = _key("of fedadam and fedyogi: degree of adaptivity", above=0)
    proximal_mu: float = _key("of fedprox: weight of the proximal term", low=0)
    thresholds: str = _key(
        "score above which the final model sees an attribute: 0, or the best on valid",
        choices=("zero", "valid"),
    )
    groupings: str = _key("attributes whose combinations are compared: Male; Young; Male,Young")
    home: str = _key("where data, weights and features are kept; CELEBA_FL_HOME moves it")
    results_dir: str = _key("where run directories go; CELEBA_FL_HOME moves it too")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        check_settings(self.backbone, self.weights, self.image_size)
        unknown = [name for name in self.groupby if name not in ATTRIBUTES]
        if unknown or not self.groupby:
            raise InputError(
                f"partition-by = {self.partition_by!r}: {unknown or 'nothing'} is no attribute of "
                f"CelebA; take one or several of {', '.join(ATTRIBUTES)}"
            )
        for grouping in self.demographics:
            _check_grouping("groupings", self.groupings, grouping)
        if self.group_weighting:
            _check_grouping("group-weighting", self.group_weighting, self.weighted)
        if len(set(self.chosen)) < len(self.chosen) or (self.clients and not self.chosen):
            raise InputError(f"clients = {self.clients!r}: must name each client once, as in '0,2'")
        if self.class_weights and "closed-form" in (self.strategy, self.init):
            raise InputError(
                "class-weights = true: has no closed form (each attribute would need sums of its "
                "own); set it to false, or take another strategy and init"
            )
        if self.init == "public" and not self.public_fraction:
            raise InputError("init = 'public': needs a public-fraction above 0 to learn from")
        if self.partition_size and self.partitioner != "iid":
            raise InputError(
                f"partition-size = {self.partition_size}: clients of one size exist under "
                f"partitioner = 'iid' only, and it is {self.partitioner!r}; set the size to 0"
            )
        self._check_labels()
        if not 0 < len(self.demographics) == len(set(self.demographics)):
            raise InputError(f"groupings = {self.groupings!r}: must name each grouping once")

    def _check_labels(self) -> None:
        """Raise InputError if what clients learn by does not go with how they learn."""
        closed = "closed-form" in (self.strategy, self.init)
        if self.labels == "teacher" and (closed or self.class_weights or self.group_weighting):
            raise InputError(
                "labels = 'teacher': goes neither with class-weights and group-weighting, which "
                "count annotations, nor with the closed form, which has no place for a label that "
                "is not known; set them to their defaults"
            )
        if self.train_on == "disagreements" and closed:
            raise InputError(
                "train-on = 'disagreements': the closed form learns from all; take 'all', or "
                "another strategy and init"
            )
        if self.augmentations and self.strategy == "closed-form":
            raise InputError(
                f"augmentations = {self.augmentations}: the closed form learns from the images "
                f"themselves; set it to 0, or take another strategy"
            )
        _ = self.teacher_errors

    @property
    def teacher_errors(self) -> tuple[float, ...]:
        """The error rate of a simulated teacher for each of `ATTRIBUTES`.

        Raises
        ------
        InputError
            If `teacher-error` is not of the form ``0.1`` or ``0.1, Bald=0.02``.
        """
        rates: dict[str, float] = {}
        for part in _names(self.teacher_error):
            name, _, text = (word.strip() for word in part.rpartition("="))
            try:
                rate = float(text)
            except ValueError:
                rate = math.nan
            if name not in ("", *ATTRIBUTES) or name in rates or not 0 <= rate <= 1:
                raise InputError(
                    f"teacher-error = {self.teacher_error!r}: {part!r} should be a rate from 0 to "
                    f"1, such as 0.1 for all attributes, or one for an attribute, Bald=0.02; "
                    f"each once"
                )
            rates[name] = rate
        return tuple(rates.get(name, rates.get("", 0.0)) for name in ATTRIBUTES)

    @property
    def groupby(self) -> tuple[str, ...]:
        """The attributes named in `partition-by`."""
        return _names(self.partition_by)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The clients named in `clients`; none: all take part."""
        return _names(self.clients)

    @property
    def weighted(self) -> tuple[str, ...]:
        """The attributes named in `group-weighting`; none: off."""
        return _names(self.group_weighting)

    @property
    def demographics(self) -> tuple[tuple[str, ...], ...]:
        """The attributes of each grouping in `groupings`."""
        return tuple(_names(part) for part in self.groupings.split(";") if part.strip())

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

    def to_dict(self) -> dict[str, bool | int | float | str]:
        """All keys as the user writes them, with their values."""
        return {_name(field): getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Check `values`, one for every key, and build the config.

        Raises
        ------
        InputError
            For an unknown key, a missing one, or a value of the wrong type or range; the message
            names the key, the value and what would be right.
        """
        known = {_name(field): field for field in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
                raise InputError(f"unknown run-config key {key!r} = {values[key]!r}: {hint}")
        missing = [key for key in known if key not in values]
        if missing:
            raise InputError(f"run-config keys without a value: {', '.join(missing)}")
        return cls(**{field.name: _coerce(field, values[key]) for key, field in known.items()})

    @classmethod
    def load(cls, overrides: Mapping[str, Any] | None = None) -> "RunConfig":
        """The defaults of `pyproject.toml` with `overrides`, as ``flwr run`` would merge them."""
        return cls.from_dict({**default_values(), **(overrides or {})})


def default_values() -> dict[str, Any]:
    """The run-config keys of `pyproject.toml` with their defaults."""
    return dict(pyproject()["tool"]["flwr"]["app"]["config"])


def meanings() -> dict[str, str]:
    """What each run-config key means."""
    return {_name(field): field.metadata["meaning"] for field in dataclasses.fields(RunConfig)}


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _name(field: "dataclasses.Field[Any]") -> str:
    return field.name.replace("_", "-")


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


def _coerce(field: "dataclasses.Field[Any]", value: Any) -> Any:
    """What people mean by ``learning-rate=1``, ``clients=3`` and ``teacher-error=0.1``."""
    if field.type is float and type(value) is int:
        return float(value)
    return str(value) if field.type is str and type(value) in (int, float) else value


def _check_grouping(key: str, value: str, grouping: tuple[str, ...]) -> None:
    """Raise InputError unless a grouping in the value of a key names some attributes, each once."""
    unknown = [name for name in grouping if name not in ATTRIBUTES]
    wrong: str | None = None
    if unknown or not grouping:
        wrong = (
            f"{unknown or 'nothing'} is no attribute of CelebA; there are {', '.join(ATTRIBUTES)}"
        )
    elif len(set(grouping)) < len(grouping):
        wrong = f"{','.join(grouping)} names an attribute twice"
    elif len(grouping) > MAX_GROUPED:
        wrong = f"{','.join(grouping)} are more than {MAX_GROUPED} attributes"
    if wrong:
        raise InputError(
            f"{key} = {value!r}: {wrong}. Write attributes with commas, such as 'Male,Young', and "
            f"several groupings, in groupings alone, with semicolons: 'Male; Young; Male,Young'"
        )


def _check(field: "dataclasses.Field[Any]", value: Any) -> None:
    """Raise InputError unless `value` has the field's type and lies in its range."""
    rules = field.metadata
    right: str | None = None
    if type(value) is not field.type:
        kind = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
        right = kind[field.type]  # type: ignore[index]
    elif field.type is float and not math.isfinite(value):
        right = "finite"
    elif rules["choices"] and value not in rules["choices"]:
        right = f"one of {', '.join(rules['choices'])}"
    elif rules["low"] is not None and not value >= rules["low"]:
        right = f"at least {rules['low']}"
    elif rules["above"] is not None and not value > rules["above"]:
        right = f"above {rules['above']}"
    elif rules["high"] is not None and not value <= rules["high"]:
        right = f"at most {rules['high']}"
    elif rules["below"] is not None and not value < rules["below"]:
        right = f"below {rules['below']}"
    elif value == "" and field.name not in ("resume", "group_weighting", "clients"):
        right = "a text that is not empty"
    if right:
        raise InputError(f"{_name(field)} = {value!r}: must be {right} ({rules['meaning']})")
