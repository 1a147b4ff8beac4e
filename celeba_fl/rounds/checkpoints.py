"""Checkpoints: all state that a run needs to resume as if it had never been interrupted.

One safetensors file a round, written whole or not at all: the global model as ``model/<key>``,
the strategy's own arrays (momenta and the like) as ``strategy/<attribute>/<key>``, older models
that clients are still at work on as ``older/<round>/<key>``, and the rest as JSON in the metadata.
The order of keys is kept too, since some strategies rely on it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy
from safetensors import SafetensorError, safe_open

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.files import RoundFiles, pack_arrays
from celeba_fl.common.log import LOG
from celeba_fl.rounds.messages import to_arrays, to_record

OLDER = "older/"


@dataclass(frozen=True)
class Checkpoint:
    """A round whose model is there."""

    server_round: int
    arrays: ArrayRecord  # the global model after it
    state: dict[str, Any]  # of the stop rules
    # What is known of its training, as it is not recorded yet; empty where it is, in older runs.
    trained: Mapping[str, Any]
    older: Mapping[int, ArrayRecord]  # models that clients are still at work on, by round


class Checkpoints(RoundFiles):
    """The checkpoints of a run; the best one stays too, however old it is."""

    def save(
        self,
        server_round: int,
        arrays: ArrayRecord,
        strategy: Strategy,
        state: dict[str, Any],
        best: int | None = None,
        trained: Mapping[str, Any] = MappingProxyType({}),
        older: Mapping[int, ArrayRecord] = MappingProxyType({}),
    ) -> None:
        """Write the checkpoint of a round, then remove those that are no longer kept."""
        attributes = {f"strategy/{name}": value for name, value in vars(strategy).items()}
        models = {"model": arrays, **{f"{OLDER}{number}": old for number, old in older.items()}}
        tensors, forms = {}, {}
        for prefix, value in {**models, **attributes}.items():
            form, named = _flatten(value)
            if form:
                forms[prefix] = [form, *named]
                tensors.update({f"{prefix}/{key}": array for key, array in named.items()})
        metadata = {"round": server_round, "state": state, "trained": {**trained}, "forms": forms}
        packed = pack_arrays(tensors, {"checkpoint": json.dumps(metadata)})
        self.write(server_round, packed, best)

    def restore(self, strategy: Strategy, last: int | None = None) -> Checkpoint | None:
        """Read the newest checkpoint and give the strategy its state back; None without any.

        Those that rely on records of rounds after `last` are passed over.
        """
        for server_round in reversed(self.rounds()):
            path = self.path(server_round)
            try:
                with safe_open(path, "numpy") as file:
                    metadata = json.loads(file.metadata()["checkpoint"])
                    values = {}
                    for prefix, (kind, *keys) in metadata["forms"].items():
                        named = {key: file.get_tensor(f"{prefix}/{key}") for key in keys}
                        values[prefix] = _unflatten(kind, named)
                older = {
                    int(prefix.removeprefix(OLDER)): values.pop(prefix)
                    for prefix in list(values)
                    if prefix.startswith(OLDER)
                }
                about = metadata["state"], metadata.get("trained", {}), older
                checkpoint = Checkpoint(server_round, values.pop("model"), *about)
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                LOG.warning("Checkpoint %s cannot be read: %s", path, error)
                continue
            if last is not None and server_round - bool(checkpoint.trained) > last:
                LOG.warning("%s is passed over: the records end with round %d", path, last)
                continue
            for prefix, value in values.items():
                setattr(strategy, prefix.removeprefix("strategy/"), value)
            return checkpoint
        return None


def _flatten(value: Any) -> tuple[str, Arrays]:
    """The container of some arrays, and these by key; nothing of a value that holds no arrays."""
    if isinstance(value, ArrayRecord):
        return "record", to_arrays(value)
    if isinstance(value, list):
        form, named = "list", {str(i): item for i, item in enumerate(value)}
    else:
        form, named = "dict", value if isinstance(value, dict) else {}
    if named and all(isinstance(item, np.ndarray) for item in named.values()):
        return form, named
    return "", {}


def _unflatten(kind: str, named: Arrays) -> Any:
    """Undo `_flatten`."""
    if kind == "record":
        return to_record(named)
    return named if kind == "dict" else list(named.values())
