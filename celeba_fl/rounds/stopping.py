"""Stop rules: when a run ends before its last round, and which round was its best.

The rules judge validation examples, never test: the server's own or, if it has none, the clients'.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from celeba_fl.common.log import LOG

# Parts whose validation examples decide: the first one with a value.
PARTS = ("server_valid", "valid")


@dataclass
class Memory:
    """The state of the rules; part of every checkpoint."""

    round: int = -1  # the last one that was noted
    name: str = ""  # the watched metric as a column of `rounds.csv`
    value: float | None = None  # its value in the last round
    best_round: int | None = None  # the round with its best value so far
    best_value: float | None = None
    seconds: float = 0.0  # wall time up to the newest model, without interruptions


@dataclass
class StopRules:
    """The rules, each switched off by its 0."""

    watch: str = "loss"  # the metric that decides about the next two and the best checkpoint
    target: float = 0.0  # end once the metric is this good
    patience: int = 0  # end after this many rounds without a better value
    max_seconds: float = 0.0  # end after the round in which the run has taken this long
    lower_is_better: Collection[str] = ("loss",)  # metrics of which less is better
    memory: Memory = field(default_factory=Memory)

    @property
    def by_metric(self) -> bool:
        """Whether a metric can end the run."""
        return bool(self.target or self.patience)

    def decided_by(self, metrics: Mapping[str, Any]) -> bool:
        """Whether these metrics of the server's own have the value that the rules judge."""
        return self._watched(metrics)[0].startswith(PARTS[0])

    def note(self, server_round: int, metrics: Mapping[str, Any]) -> None:
        """Record a round, and warn while there is no value to judge.

        The metrics are those of `rounds.csv`, named ``<part>_<metric>``.
        """
        memory = self.memory
        memory.round = server_round
        memory.name, memory.value = self._watched(metrics)
        if memory.value is not None and self._better(memory.value, memory.best_value):
            memory.best_round, memory.best_value = server_round, memory.value
        if memory.best_round is None and self.by_metric:
            LOG.warning(
                "round %d: %s has had no value on validation examples, so neither target nor "
                "patience can end the run, and no checkpoint is the best; metrics with a value: %s",
                *(server_round, self.watch, ", ".join(_validated(metrics)) or "none"),
            )

    def reason(self, server_round: int) -> str:
        """The reason to end the run after a round; empty if there is none.

        Before the round has been noted, only time can tell.
        """
        memory, name, value = self.memory, self.memory.name, self.memory.value
        noted = memory.round == server_round
        if noted and self.target and value is not None and not self._better(self.target, value):
            return f"target: {name} is {value:.4f}, {self.target} was asked for"
        waited = server_round - (memory.best_round or 0) if noted else 0
        if self.patience and memory.best_round is not None and waited >= self.patience:
            best = f"{memory.best_value:.4f} of round {memory.best_round}"
            return f"patience: {name} has not been better than the {best} for {waited} rounds"
        if self.max_seconds and memory.seconds >= self.max_seconds:
            return f"max-seconds: {memory.seconds:.0f} s of {self.max_seconds:.0f} s are over"
        return ""

    def state(self) -> dict[str, Any]:
        """The memory, for a checkpoint."""
        return asdict(self.memory)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the memory of a checkpoint."""
        self.memory = Memory(**state)

    def _watched(self, metrics: Mapping[str, Any]) -> tuple[str, float | None]:
        """The watched metric on the server's validation part, else on the clients'."""
        for part in PARTS:
            value = metrics.get(f"{part}_{self.watch}", math.nan)
            if not math.isnan(value):
                return f"{part}_{self.watch}", value
        return f"valid_{self.watch}", None

    def _better(self, value: float, than: float | None) -> bool:
        if than is None:
            return True
        return value < than if self.watch in self.lower_is_better else value > than


def _validated(metrics: Mapping[str, Any]) -> dict[str, None]:
    """The metrics that have a value on validation examples, each once."""
    return dict.fromkeys(
        name.removeprefix(f"{part}_")
        for part in PARTS
        for name, value in metrics.items()
        if name.startswith(f"{part}_") and not math.isnan(value)
    )
