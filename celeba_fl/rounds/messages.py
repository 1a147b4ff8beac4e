"""The messages between the server and its clients: every word of them, and arrays as records.

=========  ==========================  =====================================================
message    the server sends            a client replies with
=========  ==========================  =====================================================
query      ``config``, ``files``       ``client``, ``counts``, ``sums``, ``metrics``;
                                       ``sits-out`` alone from a client that is not chosen
train      ``arrays``, ``config``      ``arrays``, ``metrics``
evaluate   ``arrays``, ``config``      counts in a record for each part, ``metrics``
=========  ==========================  =====================================================

A client that is to do both gets them as one message, see `celeba_fl.rounds.parts`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from math import prod
from typing import Any, TypeVar

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    ConfigRecordValues,
    MetricRecord,
    MetricRecordValues,
    RecordDict,
)
from numpy.lib import format as npy

from celeba_fl.common.arrays import Arrays

# Messages.
QUERY, TRAIN, EVALUATE = "query", "train", "evaluate"
# Records.
ARRAYS, CONFIG, METRICS, FILES, COUNTS = "arrays", "config", "metrics", "files", "counts"
CLIENT, SITS_OUT, PROBE = "client", "sits-out", "probe"
# A record of the query, and a key of `config`: sums that clients send, and which to send.
SUMS = "sums"
# An array of `probe`, and a word of `client`: a client of another runtime has both.
FEATURES, RUNTIME = "features", "runtime"
# Keys of `config`: the round, the name of the run, the final evaluation.
SERVER_ROUND, RUN, FINAL = "server-round", "run", "final"
# Keys of `metrics`; one that begins with EPOCH is a column of `epochs.csv`.
NUM_EXAMPLES, NUM_VALID, LOCAL_LOSS, SECONDS = "num-examples", "num-valid", "local-loss", "seconds"
EPOCH = "epoch-"

NAN = float("nan")
NPY = npy.magic(1, 0)  # what a file of NumPy's begins with; then the length of its header

Record = TypeVar("Record", ArrayRecord, ConfigRecord, MetricRecord)


def of_kind(content: RecordDict, kind: type[Record]) -> dict[str, Record]:
    """The records of one kind by name, to be read.

    `content.array_records` and the like also write back what is changed in them, and check each
    record twice for it: in a round with many clients that takes longer than their arrays.
    """
    return {name: record for name, record in content.items() if isinstance(record, kind)}


def to_record(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    """Arrays as a record."""
    record = ArrayRecord()  # which copies the arrays of a dictionary
    record.update({key: pack(array) for key, array in arrays.items()})
    return record


def to_arrays(record: ArrayRecord) -> Arrays:
    """The arrays of a record."""
    return {key: unpack(array) for key, array in record.items()}


def pack(array: np.ndarray) -> Array:
    """What `Array(array)` is, in a third of its time; see `unpack`."""
    by_columns = array.flags.f_contiguous and not array.flags.c_contiguous
    values = np.ascontiguousarray(array.T if by_columns else array)
    head, name = _head(array.shape, by_columns, array.dtype)
    return Array(name, array.shape, "numpy.ndarray", b"".join((head, values.data)))


@lru_cache(maxsize=256)
def _head(shape: tuple[int, ...], by_columns: bool, dtype: np.dtype) -> tuple[bytes, str]:
    """The first bytes of a file of NumPy's, and the type by name."""
    file, descr = BytesIO(), npy.dtype_to_descr(dtype)
    form = {"descr": descr, "fortran_order": by_columns, "shape": shape}
    npy.write_array_header_1_0(file, form)
    return file.getvalue(), str(dtype)


def unpack(packed: Array) -> np.ndarray:
    """What `packed.numpy()` returns, in a fifth of its time; a ValueError if that is no array."""
    return view(packed).copy("A")


def view(packed: Array) -> np.ndarray:
    """What `unpack` returns, to be read only: where it can be, it lies in the message itself.

    A round reads thousands of small arrays, of which NumPy reads each header as Python.
    """
    data = packed.data
    if packed.stype != "numpy.ndarray" or not data.startswith(NPY):
        return packed.numpy()
    start = 10 + int.from_bytes(data[8:10], "little")
    shape, by_columns, dtype = _form(data[:start])
    number = prod(shape)
    values = np.frombuffer(data, dtype, number, start) if number else np.empty(0, dtype)
    return values.reshape(shape[::-1]).T if by_columns else values.reshape(shape)


@lru_cache(maxsize=256)
def _form(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type in the first bytes of a file of NumPy's."""
    file = BytesIO(head)
    npy.read_magic(file)
    shape, by_columns, dtype = npy.read_array_header_1_0(file)
    if min(shape, default=0) < 0:
        raise ValueError("negative dimensions are not allowed")
    return shape, by_columns, dtype


def received_config(content: RecordDict) -> dict[str, ConfigRecordValues]:
    """The instructions in a message to a client."""
    return dict(of_kind(content, ConfigRecord)[CONFIG])


def received_arrays(content: RecordDict) -> Arrays:
    """The model in a message to a client."""
    return to_arrays(of_kind(content, ArrayRecord)[ARRAYS])


def received_files(content: RecordDict) -> dict[str, bytes]:
    """The files in a query, by their SHA-256."""
    return {sha: unpack(file).tobytes() for sha, file in content.array_records[FILES].items()}


def query(config: ConfigRecord, files: Mapping[str, bytes]) -> RecordDict:
    """The content of a query, with files by their SHA-256 for clients that lack them."""
    arrays = {sha: np.frombuffer(file, np.uint8) for sha, file in files.items()}
    return RecordDict({CONFIG: config, FILES: to_record(arrays)})


def evaluation(arrays: ArrayRecord, config: ConfigRecord, server_round: int) -> RecordDict:
    """The content of a request to evaluate a model."""
    instructions = ConfigRecord({**config, SERVER_ROUND: server_round})
    return RecordDict({ARRAYS: arrays, CONFIG: instructions})


@dataclass(frozen=True)
class Introduction:
    """A client's reply to the query."""

    name: str
    num_train: int
    num_valid: int
    counts: np.ndarray  # (k,) int64, of its train examples
    missing: str  # the hash of a file that it lacks; empty if it lacks none
    code: str  # the hash of the code that it runs
    path: str  # and where that is
    sums: Arrays = field(default_factory=dict)  # exact ones, of its train examples
    runtime: str = ""  # what computes its features, if that is not what the server has
    probe: Arrays = field(default_factory=dict)  # then, its features of the probe picture

    def to_content(self) -> RecordDict:
        """The content of the reply."""
        words = {"name": self.name, "missing": self.missing, "code": self.code, "path": self.path}
        metrics = MetricRecord({NUM_EXAMPLES: self.num_train, NUM_VALID: self.num_valid})
        content = RecordDict({CLIENT: ConfigRecord({**words}), METRICS: metrics})
        content[COUNTS], content[SUMS] = to_record({COUNTS: self.counts}), to_record(self.sums)
        if self.runtime:
            content.config_records[CLIENT][RUNTIME] = self.runtime
            content[PROBE] = to_record(self.probe)
        return content

    @classmethod
    def of(cls, content: RecordDict) -> "Introduction":
        """Read the content of the reply, whose fields may be anything; KeyError if one lacks."""
        said, metrics = content.config_records[CLIENT], content.metric_records[METRICS]
        words: dict[str, Any] = {key: said[key] for key in ("name", "missing", "code", "path")}
        numbers: dict[str, Any] = {
            "num_train": metrics[NUM_EXAMPLES],
            "num_valid": metrics[NUM_VALID],
        }
        counts = to_arrays(content.array_records[COUNTS])[COUNTS]
        words["runtime"] = said.get(RUNTIME, "")
        sums, probe = (
            to_arrays(content.array_records.get(key, ArrayRecord())) for key in (SUMS, PROBE)
        )
        return cls(**words, **numbers, counts=counts, sums=sums, probe=probe)


def sits_out(name: str) -> RecordDict:
    """The reply to the query of a client that is not chosen."""
    return RecordDict({SITS_OUT: ConfigRecord({"name": name})})


def training_reply(
    arrays: Arrays,
    num_examples: int,
    seconds: float,
    loss: float | None = None,
    epochs: Mapping[str, Sequence[float]] | None = None,
) -> RecordDict:
    """The reply to ``train``: a model, or, without a loss, the sums that were asked for."""
    metrics: dict[str, MetricRecordValues] = {NUM_EXAMPLES: num_examples, SECONDS: seconds}
    if loss is not None:
        metrics[LOCAL_LOSS] = loss if num_examples else 0.0
    metrics |= {f"{EPOCH}{column}": list(sums) for column, sums in (epochs or {}).items()}
    return RecordDict({ARRAYS: to_record(arrays), METRICS: MetricRecord(metrics)})


def evaluation_reply(parts: Mapping[str, Arrays], num_examples: int, seconds: float) -> RecordDict:
    """The reply to ``evaluate``: counts by part."""
    content = RecordDict({part: to_record(counts) for part, counts in parts.items()})
    content[METRICS] = MetricRecord({NUM_EXAMPLES: num_examples, SECONDS: seconds})
    return content


def num_examples(content: RecordDict) -> int:
    """``num-examples`` of a reply, -1 if it has none that is a count."""
    first = next(iter(of_kind(content, MetricRecord).values()), MetricRecord())
    number = first.get(NUM_EXAMPLES)
    return number if isinstance(number, int) and number >= 0 else -1


def local_loss(content: RecordDict) -> float:
    """Mean loss of a client's training; NaN without any."""
    metrics = of_kind(content, MetricRecord)[METRICS]
    loss = metrics.get(LOCAL_LOSS) if metrics.get(NUM_EXAMPLES) else None
    return loss if isinstance(loss, int | float) else NAN


def seconds(content: RecordDict) -> float:
    """The time that a reply took the client; NaN if it does not say."""
    taken = of_kind(content, MetricRecord)[METRICS].get(SECONDS)
    return taken if isinstance(taken, float) else NAN


def epochs(content: RecordDict) -> dict[str, list[float]]:
    """Sums over a client's examples after each local epoch, by column of `epochs.csv`."""
    metrics = of_kind(content, MetricRecord)[METRICS]
    return {
        key.removeprefix(EPOCH): values  # type: ignore[misc]
        for key, values in metrics.items()
        if key.startswith(EPOCH)
    }


def counts(content: RecordDict) -> dict[str, Arrays]:
    """The counts of a client's evaluation, by part."""
    return {part: to_arrays(record) for part, record in of_kind(content, ArrayRecord).items()}
