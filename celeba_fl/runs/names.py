"""What a run is called where nobody says: the experiment, and what differs from it."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from celeba_fl.common.keys import written
from celeba_fl.common.names import RUN_NAME_LENGTH
from celeba_fl.config import RunConfig, places
from celeba_fl.launch.experiments import EXPERIMENTS, read_toml

# A directory as a run calls it: start, and Flower's id of the run.
DIRECTORY = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\d+")
EXPERIMENT_LENGTH, DEFAULT_LENGTH, VALUE_LENGTH = 24, 44, 20  # the rest is for numbers
DOTS = "\N{HORIZONTAL ELLIPSIS}"  # for words of a name that are left out

Settings = Mapping[str, Any]


def differing(configs: Sequence[Settings]) -> list[str]:
    """The keys whose values are not the same in all configs, those of where a run is kept aside."""
    keys, kept = dict.fromkeys(key for config in configs for key in config), places()
    return [
        key
        for key in keys
        if key not in kept and len({written(config.get(key)) for config in configs}) > 1
    ]


def default_name(
    config: Settings,
    defaults: Settings,
    experiments: Mapping[str, Settings] | None = None,
) -> str:
    """The experiment that a config is nearest to, and what differs, as in a command.

    ``drawn-iid strategy=closed-form``, for example. `experiments` are ours if there are no others;
    without one of its task, the name begins with that of the task.
    """
    task = str(config.get("task", defaults.get("task")))
    read = {name: value for name, value in {**defaults, **config}.items() if _reads(task, name)}
    apart = {name for name in read if read[name] != defaults.get(name)} - {*places()}
    known = {
        name: {key: _coerced(key, value) for key, value in settings.items()}
        for name, settings in (_ours() if experiments is None else experiments).items()
        if settings.get("task", defaults.get("task")) == task
    }

    def distance(name: str) -> tuple[int, int]:
        """How many settings are others; of experiments that are as near, the plainer one."""
        others = [key for key, value in known[name].items() if read.get(key, value) != value]
        return len(others) + len(apart - known[name].keys()), len(known[name])

    name = min(known, key=distance, default=task.partition(":")[0].partition(".")[0])
    usual = {**{key: defaults.get(key) for key in apart}, **known.get(name, {}), "task": task}
    said = [_said(key, read[key]) for key in differing([read, {**read, **usual}]) if key in read]
    return _joined(_plain(name)[:EXPERIMENT_LENGTH].rstrip() or "run", said)


def numbered(name: str, taken: Collection[str]) -> str:
    """The name, with the first number behind it that makes it nobody else's."""
    names = (f"{name[: RUN_NAME_LENGTH - len(f' {i}')].rstrip()} {i}" for i in count(2))
    return name if name not in taken else next(one for one in names if one not in taken)


def shortened(name: str, width: int) -> str:
    """A name within a width: dots, and its last words, by which runs differ, if it can its first.

    No word is cut but one that is too long by itself.
    """
    if len(name) <= width:
        return name
    first, *words = name.split(" ")
    ends = [words[i:] for i in range(len(words))]
    tried = [*([first, DOTS, *end] for end in ends[1:]), *([DOTS, *end] for end in ends)]
    fitting = (said for said in map(" ".join, tried) if len(said) <= width)
    return next(fitting, f"{name[: width - 1]}{DOTS}")


def _reads(task: str, name: str) -> bool:
    """Whether a task reads a key; one of somebody's own may read all."""
    rules = RunConfig.keys().get(name)
    return ":" in task or rules is None or not rules.of or task in rules.of.split()


def _coerced(key: str, value: Any) -> Any:
    rules = RunConfig.keys().get(key)
    return rules.coerce(value) if rules else value


@cache
def _ours() -> dict[str, Settings]:
    return {path.stem: read_toml(path) for path in sorted(EXPERIMENTS.glob("*.toml"))}


def _joined(name: str, said: Iterable[str]) -> str:
    """A name with as much behind it as there is room for, and how much more there is, as in +2."""
    left = list(said)
    while left and len(f"{name} {left[0]}") <= DEFAULT_LENGTH:
        name = f"{name} {left.pop(0)}"
    return f"{name} +{len(left)}" if left else name


def _said(key: str, value: Any) -> str:
    """A setting in a name: what is on, and what is long, by its key alone; of a path its end."""
    if value is True:
        return key
    text = _plain(Path(value).name if isinstance(value, str) and value else written(value))
    return f"{key}={text}" if len(text) <= VALUE_LENGTH else key


def _plain(text: str) -> str:
    """A text without what no name has in it."""
    shown = "".join(c for c in text if c.isprintable() and c not in "/\\")
    return shown.strip().lstrip("=+-@.~ ")
