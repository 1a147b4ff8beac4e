"""What the methods of a task give back; `celeba_fl.task` has them all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from flwr.app import ConfigRecordValues

from celeba_fl.common.arrays import Arrays

if TYPE_CHECKING:
    from celeba_fl.privacy.ledger import Release

# What the server sends to every client with every message.
Instructions = dict[str, ConfigRecordValues]


@dataclass(frozen=True)
class Description:
    """A client as it describes itself before round 1.

    Parameters
    ----------
    num_train, num_valid : int
        Numbers of examples that it trains on and that it validates on.
    counts : np.ndarray
        (k,) int64, counts among its train examples, in the order of the task's `count_names`.
    missing : str (default: "")
        Hash of a file that the client lacks; empty once it has everything it needs.
    sums : dict[str, np.ndarray] (default: {})
        Exact sums over its train examples, of the names, types and shapes of the task's
        `description_sums`, also where it holds nothing or lacks a file.
    """

    num_train: int
    num_valid: int
    counts: np.ndarray
    missing: str = ""
    sums: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """Results of a task's preparation on the server.

    Parameters
    ----------
    instructions : dict
        Sent with every message to the clients.
    provenance : dict
        Origin and hashes of data and weights, for `run.json`.
    releases : Sequence[Release] (default: ())
        Under a privacy budget for people or images, what a round of training lets out.
    public : Sequence[str] (default: ())
        In plain words, what such a budget does not cover.
    """

    instructions: Instructions
    provenance: dict[str, Any]
    releases: Sequence["Release"] = ()
    public: Sequence[str] = ()


class Trained(NamedTuple):
    """Results of training on a client.

    Parameters
    ----------
    arrays : dict[str, np.ndarray]
        The new arrays.
    num_examples : int
        Number of examples that they were trained on.
    loss : float
        Mean training loss; NaN if there is none.
    epochs : Mapping[str, Sequence[float]] (default: {})
        Values after each local epoch, for `epochs.csv`, by column, such as ``valid_accuracy``: not
        a mean but the sum over the client's examples of the part that the name begins with; 0
        without any. All clients have the same columns and the same number of epochs.
    """

    arrays: Arrays
    num_examples: int
    loss: float
    epochs: Mapping[str, Sequence[float]] = MappingProxyType({})


@dataclass(frozen=True)
class Tables:
    """Final metrics and tables of a run.

    Parameters
    ----------
    summary : dict[str, float | None]
        The final test metrics, for `summary.json`.
    csv : dict[str, list[dict]]
        Rows of CSV files, by file name.
    parquet : dict[str, dict[str, np.ndarray]]
        Columns of parquet files, by file name.
    model_metadata : dict[str, str]
        Whatever is needed to predict with the final arrays.
    model : dict[str, np.ndarray] (default: {})
        The arrays to keep, where they are not those that were judged.
    """

    summary: dict[str, Any]
    csv: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    parquet: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    model_metadata: dict[str, str] = field(default_factory=dict)
    model: Arrays = field(default_factory=dict)
