"""Checkpoints: all state that a run needs to resume as if it had never been interrupted.

One safetensors file a round, written whole or not at all: the global model as ``model/<key>``,
the strategy's own arrays (momenta and the like) as ``strategy/<attribute>/<key>``, and the rest as
JSON in the metadata. The order of keys is kept too, since some strategies rely on it.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import Strategy
from safetensors import SafetensorError, safe_open

from celeba_fl.common.files import RoundFiles, pack_arrays
from celeba_fl.common.log import LOG


@dataclass(frozen=True)
class Checkpoint:
    """A finished round."""

    server_round: int
    arrays: ArrayRecord  # the global model after it
    state: dict[str, Any]  # of the stop rules


class Checkpoints(RoundFiles):
    """The checkpoints of a run; the best one stays too, however old it is."""

    def save(
        self,
        server_round: int,
        arrays: ArrayRecord,
        strategy: Strategy,
        state: dict[str, Any],
        best: int | None = None,
    ) -> None:
        """Write the checkpoint of a round, then remove those that are no longer kept."""
        # The strategy's attributes that hold arrays: what it learns from round to round.
        state_of = {f"strategy/{key}": v for key, v in vars(strategy).items() if _form(v)}
        tensors, forms = {}, {}
        for prefix, value in {"model": arrays, **state_of}.items():
            forms[prefix], named = _flatten(value)
            tensors.update({f"{prefix}/{key}": array for key, array in named.items()})
        metadata = {"round": server_round, "state": state, "forms": forms}
        packed = pack_arrays(tensors, {"checkpoint": json.dumps(metadata)})
        self.write(server_round, packed, best)

    def restore(self, strategy: Strategy) -> Checkpoint | None:
        """Read the newest checkpoint and give the strategy its state back; None without any."""
        for server_round in reversed(self.rounds()):
            try:
                with safe_open(self.path(server_round), "numpy") as file:
                    metadata = json.loads(file.metadata()["checkpoint"])
                    values = {}
                    for prefix, (kind, *keys) in metadata["forms"].items():
                        named = {key: file.get_tensor(f"{prefix}/{key}") for key in keys}
                        values[prefix] = _unflatten(kind, named)
                checkpoint = Checkpoint(server_round, values.pop("model"), metadata["state"])
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                LOG.warning("Checkpoint %s cannot be read: %s", self.path(server_round), error)
                continue
            for prefix, value in values.items():
                setattr(strategy, prefix.removeprefix("strategy/"), value)
            return checkpoint
        return None


def _form(value: Any) -> str:
    """The container of some arrays: ``record``, ``dict``, ``list``, or empty for anything else."""
    if isinstance(value, ArrayRecord):
        return "record"
    if isinstance(value, dict) and value and all(isinstance(v, np.ndarray) for v in value.values()):
        return "dict"
    if isinstance(value, list) and value and all(isinstance(v, np.ndarray) for v in value):
        return "list"
    return ""


def _flatten(value: Any) -> tuple[list[str], dict[str, np.ndarray]]:
    """The form and the keys in their order, and the arrays by key."""
    form = _form(value)
    if form == "record":
        named = {key: array.numpy() for key, array in value.items()}
    else:
        named = dict(value) if form == "dict" else {f"{i}": a for i, a in enumerate(value)}
    return [form, *named], named


def _unflatten(kind: str, named: dict[str, np.ndarray]) -> Any:
    """Undo `_flatten`."""
    if kind == "record":
        return ArrayRecord({key: Array(array) for key, array in named.items()})
    return named if kind == "dict" else list(named.values())
