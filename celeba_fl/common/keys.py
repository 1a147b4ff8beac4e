"""Keys of a config: declared once, with type, range, default and meaning.

A key is written `learning-rate` by users, and is the field `learning_rate` of a frozen dataclass.
The validator is ours, since a cold client should not wait for a library to be imported.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, get_type_hints

from celeba_fl.common.errors import InputError

TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}

# Messages hold whole numbers below this size.
WHOLE = 2**63

Value = bool | int | float | str


@dataclass(frozen=True)
class Key:
    """What a key means and which values it takes; its type is that of its default.

    A key of kind ``path`` is a file or folder to read, which `celeba-fl run` makes absolute if it
    exists; ``place`` says where a run is kept, not what it computes, and is always made absolute;
    ``run`` is such a place that can also be the name of a run.
    """

    meaning: str  # for tables and error messages
    default: Value  # where nobody sets it
    low: float | None = None  # smallest and largest value
    high: float | None = None
    above: float | None = None  # the same, but the limit itself is not a value
    below: float | None = None
    choices: tuple[str, ...] = ()  # the only values
    of: str = ""  # tasks of this package that read it, with spaces between; empty: every task
    kind: str = ""
    words: tuple[str, ...] = ()  # values of such a key that are not paths
    empty: bool = False  # whether a text may be empty

    @property
    def range(self) -> str:
        """Type and range in words, for a table."""
        if self.choices:
            return " or ".join(f"`{choice}`" for choice in self.choices)
        limits = {"at least": self.low, "above": self.above, "at most": self.high}
        limits["below"] = self.below
        words = [f"{word} {limit}" for word, limit in limits.items() if limit is not None]
        return ", ".join([TYPES[type(self.default)], *words])

    def coerce(self, value: Any) -> Any:
        """What people mean by ``learning-rate=1``, ``clients=3`` and ``teacher-error=0.1``."""
        if type(self.default) is float and type(value) is int and abs(value) < WHOLE:
            return float(value)
        return str(value) if type(self.default) is str and type(value) in (int, float) else value

    def check(self, name: str, value: Any) -> None:
        """Raise InputError unless `value` has the key's type and lies in its range."""
        right, number = "", value
        if type(value) is not type(self.default):
            right = TYPES[type(self.default)]
        elif isinstance(value, float) and not math.isfinite(value):
            right = "finite"
        elif type(value) is int and abs(value) >= WHOLE:
            right = "a whole number of 64 bits"
        elif self.choices and value not in self.choices:
            right = f"one of {', '.join(self.choices)}"
        elif self.low is not None and not number >= self.low:
            right = f"at least {self.low}"
        elif self.above is not None and not number > self.above:
            right = f"above {self.above}"
        elif self.high is not None and not number <= self.high:
            right = f"at most {self.high}"
        elif self.below is not None and not number < self.below:
            right = f"below {self.below}"
        elif value == "" and not self.empty:
            right = "a text that is not empty"
        if right:
            raise InputError(f"{name} = {value!r}: must be {right} ({self.meaning})")


def key(meaning: str, default: Value, **rules: Any) -> Any:
    """Declare a key as a field of a run config; `rules` are the other parameters of `Key`."""
    return dataclasses.field(default=default, metadata={"key": Key(meaning, default, **rules)})


@cache
def declared_keys(config: Any) -> dict[str, Key]:
    """The keys that a dataclass declares, its parents' included, by their names.

    Raises
    ------
    InputError
        If one is declared in a way that is not understood.
    """
    forgotten = [n for n, value in vars(config).items() if isinstance(value, dataclasses.Field)]
    if forgotten:
        raise InputError(f"{config.__qualname__}: needs @dataclass(frozen=True) for {forgotten}")
    hints, keys = get_type_hints(config), {}
    for field in dataclasses.fields(config):
        rules = field.metadata.get("key")
        if rules is None or hints[field.name] is not type(rules.default):
            raise InputError(
                f"{config.__qualname__}.{field.name}: must be declared as in "
                f"'{field.name}: int = key(\"what it means\", 3)', with a default of its "
                f"type: bool, int, float or str"
            )
        keys[field.name.replace("_", "-")] = rules
    return keys


@dataclass(frozen=True)
class Keyed:
    """The parent of a config: a frozen dataclass each field of which is a declared key."""

    def __post_init__(self) -> None:
        for name, rules in self.keys().items():
            rules.check(name, getattr(self, field_of(name)))

    @classmethod
    def keys(cls) -> dict[str, Key]:
        """All keys by their names, those of subclasses included."""
        return declared_keys(cls)  # type: ignore[arg-type]  # a class has a hash

    @classmethod
    def defaults(cls) -> dict[str, Value]:
        """All keys with their defaults."""
        return {name: rules.default for name, rules in cls.keys().items()}

    def to_dict(self) -> dict[str, Value]:
        """All keys as the user writes them, with their values."""
        return {name: getattr(self, field_of(name)) for name in self.keys()}

    @classmethod
    def fields(cls, values: Mapping[str, Any], trouble: str = "") -> dict[str, Any]:
        """Arguments for the constructor from values by key.

        Raises
        ------
        InputError
            For an unknown key; the message names the near miss, or the `trouble` if there is one.
        """
        known = cls.keys()
        for name, value in values.items():
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
                raise InputError(f"unknown run-config key {name!r} = {value!r}: {trouble or hint}")
        return {field_of(name): known[name].coerce(value) for name, value in values.items()}


def describe(keys: Mapping[str, Key]) -> dict[str, dict[str, Value]]:
    """Default and meaning of keys, by their names: `own_keys` of `run.json`."""
    return {name: {"default": of.default, "meaning": of.meaning} for name, of in keys.items()}


def field_of(name: str) -> str:
    """The field of a key: `learning_rate` of ``learning-rate``."""
    return name.replace("-", "_")


def written(value: Any) -> str:
    """A setting, as it is given in a command."""
    if isinstance(value, bool):
        return str(value).lower()
    return "empty" if value == "" else str(value)


def split_names(text: str) -> tuple[str, ...]:
    """Names that are separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
