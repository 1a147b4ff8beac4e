"""What a client may say: every field of a reply by one rule, before anything is made of it.

Whatever a client sends, it is refused by name and the others go on. What holds of any client's
replies is here; what holds of those of a task, it says itself: `Expectations`.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from celeba_fl.common.arrays import FULL, Arrays, add_exactly, overflow
from celeba_fl.common.errors import InputError, OwnError, printable
from celeba_fl.rounds import messages
from celeba_fl.rounds.messages import METRICS, NUM_EXAMPLES, SUMS, TRAIN, Introduction

# No honest weight, loss or count is larger; squares of such numbers, added up, are finite still.
LARGEST = 1e15
MOST_EXAMPLES = 10**9
HASH = re.compile("[0-9a-f]{64}")
RUNTIME = re.compile("[ -~]{0,80}")  # printable ASCII
EPOCH_COLUMN = re.compile("(train|valid)_[A-Za-z0-9_]{1,60}")


@dataclass(frozen=True)
class Client:
    """A client that takes part: what it said in the roll call, to which it is held."""

    node_id: int  # Flower's, in this run only
    num_train: int
    num_valid: int
    counts: np.ndarray  # (k,) int64, in the order of the task's `count_names`
    sums: Arrays = field(default_factory=dict)  # int64, exact, of its train examples
    # Whether it may hold less than that, as clients together do that are some of those counted.
    at_most: bool = False
    runtime: str = ""  # what computes its features, if that is not what the server has
    probe: Arrays = field(default_factory=dict)  # then, its features of the probe picture


def total_client(clients: Iterable[Client], zeros: Arrays) -> Client:
    """The client that all are together; `zeros` are sums of the shapes of theirs."""
    of = [*clients]
    for client in of:
        add_exactly(zeros, client.sums)
    counts = sum((client.counts for client in of), np.zeros((), np.int64))
    numbers = sum(client.num_train for client in of), sum(client.num_valid for client in of)
    return Client(0, *numbers, counts, zeros)


class Expectations:
    """What is known of honest replies: each check raises an error, of any kind, at others.

    Shapes, types and sizes of trained models and of sums are checked before. A client that is
    several together may have less than it counted, if `at_most`. These defaults say what holds of
    any task.
    """

    def probe(self) -> np.ndarray:
        """The features of the probe picture, to which clients of other runtimes are held."""
        raise InputError("it computes in another runtime, and this task takes native ones alone")

    def check_description(self, client: Client) -> None:
        """Check the counts and the sums of a client in the roll call."""

    def most_examples(self, client: Client, instructions: Mapping[str, Any]) -> int:
        """The most examples that a model of this client can count for in an average."""
        return client.num_train

    def check_epochs(self, client: Client, epochs: Mapping[str, Sequence[float]]) -> None:
        """Check what became of each local epoch, which has columns and a length already."""

    def check_sums(self, client: Client, sums: Arrays, instructions: Mapping[str, Any]) -> None:
        """Check the sums for the closed form."""

    def accused(
        self,
        sums: Arrays,
        instructions: Mapping[str, Any],
        clients: Sequence[str],
        read: Callable[[str], Arrays],
    ) -> list[str]:
        """The clients who spoil the total of their `sums`, each one's of which can be `read`."""
        return []

    def check_counts(self, client: Client, counts: Mapping[str, Arrays], final: bool) -> None:
        """Check the counts of an evaluation, by part; those of the final one, if it is."""


# Raises an error at the reply of a client in a phase.
Check = Callable[[str, str, RecordDict], None]
FINAL_EVALUATION = "final evaluation"


@dataclass(frozen=True)
class Judge:
    """The `Check` of a run: replies of these clients are held to the roll call and to the task."""

    expects: Expectations
    clients: Mapping[str, Client]
    instructions: Mapping[str, Any]  # that they had

    def __call__(self, name: str, phase: str, content: RecordDict) -> None:
        self.check(self.clients[name], phase, content)

    def check(self, client: Client, phase: str, content: RecordDict, number: int = 1) -> None:
        """Check a reply; or the total of so many, by the total of what they said of themselves."""
        records = messages.of_kind(content, MetricRecord)
        if {*records} != {METRICS} or messages.of_kind(content, ConfigRecord):
            raise InputError("it does not have the records of a reply")
        epochs = messages.epochs(content)
        known = {NUM_EXAMPLES, messages.SECONDS, messages.LOCAL_LOSS}
        known |= {f"{messages.EPOCH}{column}" for column in epochs}
        if strange := {*records[METRICS]} - known:
            raise InputError(f"nobody asked for the metrics {printable(sorted(strange))}")
        most = client.num_valid
        if phase == TRAIN:
            most = self.expects.most_examples(client, self.instructions)
            check_epochs(epochs)
            self.expects.check_epochs(client, epochs)
        elif phase == SUMS:
            most = client.num_train
            (sums,) = content.array_records.values()
            views = {key: messages.view(array) for key, array in sums.items()}
            self.expects.check_sums(client, views, self.instructions)
        else:
            final = phase == FINAL_EVALUATION
            self.expects.check_counts(client, messages.counts(content), final)
        # The most of each may be rounded.
        if (said := messages.num_examples(content)) > most + number - 1:
            raise InputError(f"{NUM_EXAMPLES} = {said}: by the roll call it has {most} at most")


def fault(check: Callable[..., object], *arguments: Any) -> str:
    """What a check finds wrong, in words; empty if nothing is.

    Any error is the client's fault, but an `OwnError`, which is raised.
    """
    try:
        check(*arguments)
    except OwnError:
        raise
    except InputError as error:
        return printable(error)
    except Exception as error:  # a client may send anything
        return f"nothing can be made of it: {printable(repr(error))}"
    return ""


def check_reply(
    content: RecordDict, expected: Mapping[str, Any] | None = None, largest: float = LARGEST
) -> None:
    """Raise InputError at a reply that would spoil a sum.

    It must have one MetricRecord with a valid ``num-examples``, only finite numbers, and none of
    `largest` or beyond. Trained arrays must have the names, shapes and types of the `expected`
    ones, which were sent.
    """
    reported = messages.of_kind(content, MetricRecord)
    records = messages.of_kind(content, ArrayRecord).values()
    if len(reported) != 1:
        raise InputError(f"{len(reported)} MetricRecords instead of one")
    metrics = next(iter(reported.values()))
    for values in metrics.values():
        _check_size("a metric", np.asarray(values), LARGEST)
    if messages.num_examples(content) < 0:
        raise InputError(f"{NUM_EXAMPLES} = {metrics.get(NUM_EXAMPLES)!r} is not a count")
    if expected is not None:
        if len(records) != 1:
            raise InputError(f"{len(records)} ArrayRecords instead of one")
        (received,) = records
        if different := difference(received, expected):
            raise InputError(different)
    for arrays in records:
        check_arrays(arrays, largest)


def check_arrays(arrays: ArrayRecord, largest: float = LARGEST) -> None:
    """Raise InputError unless all arrays can be read and hold numbers, finite and not too large."""
    for key, array in arrays.items():
        name = f"array {printable(repr(key))}"
        try:
            values = messages.view(array)
            form = values.shape, str(values.dtype)
        except Exception as error:  # a client may send anything
            raise InputError(f"{name} cannot be read: {error}") from error
        if form != (array.shape, array.dtype):
            raise InputError(f"{name} does not have the shape and type that its record states")
        _check_size(name, values, largest)


def _check_size(name: str, values: np.ndarray, largest: float) -> None:
    if values.dtype.kind not in "biuf":
        raise InputError(f"{name} holds no numbers")
    size = max(float(values.max(initial=0)), -float(values.min(initial=0)))
    if not np.isfinite(size):
        raise InputError(f"{name} has NaN or infinite values")
    if not size < largest and largest > LARGEST:  # as only exact sums may be
        raise overflow()
    if not size < largest:
        raise InputError(
            f"{name} has a number of size {size:.3g}; no honest one reaches {largest:.3g}"
        )


def check_introduction(
    client: Introduction,
    num_counts: int,
    sums: Mapping[str, np.ndarray],
    told: Collection[str],
) -> None:
    """Raise InputError at a reply to the query that no honest client gives.

    It has so many counts, sums like these in name, shape and type, and lacks no file but those
    whose hashes it was `told`.
    """
    for key, number in ((NUM_EXAMPLES, client.num_train), (messages.NUM_VALID, client.num_valid)):
        if type(number) is not int or not 0 <= number <= MOST_EXAMPLES:
            raise InputError(f"{key} = {printable(number)}: should be from 0 to {MOST_EXAMPLES}")
    counts = client.counts
    if counts.shape != (num_counts,) or counts.dtype.kind not in "iu" or (counts < 0).any():
        raise InputError(f"its counts should be {num_counts} whole numbers, none below 0")
    if client.missing and client.missing not in told:
        raise InputError(f"it asks for {printable(repr(client.missing))}, which it was not told of")
    if not isinstance(client.code, str) or not isinstance(client.path, str):
        raise InputError("it does not say what code it runs")
    if not isinstance(client.runtime, str) or not RUNTIME.fullmatch(client.runtime):
        raise InputError(f"its runtime is {printable(repr(client.runtime))}")
    if different := difference(client.sums, sums):
        raise InputError(f"it sent other sums than were asked for: {different}")


def check_epochs(epochs: Mapping[str, Any]) -> None:
    """Raise InputError unless these are columns of figures, one for each local epoch."""
    for column, values in epochs.items():
        if not EPOCH_COLUMN.fullmatch(column) or not isinstance(values, list):
            raise InputError(f"{printable(repr(column))} is no column of figures of local epochs")
    if len({len(values) for values in epochs.values()}) > 1:
        raise InputError("its figures are of more local epochs in one column than in another")


def told_hashes(instructions: Mapping[str, Any]) -> set[str]:
    """The SHA-256 (hex) in some instructions: those of files that a client may lack."""
    said = (value for of in instructions.values() for value in (of if type(of) is list else [of]))
    return {value for value in said if isinstance(value, str) and HASH.fullmatch(value)}


def difference(received: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """The first array that has not the shape and type of the expected one, in words; or nothing."""
    forms = [{k: (a.shape, str(a.dtype)) for k, a in of.items()} for of in (received, expected)]
    for key in sorted(forms[0].keys() | forms[1].keys()):
        there, right = (form.get(key) for form in forms)
        if there != right:
            return f"array {printable(repr(key))} is {there}, not {right}"
    return ""


def largest_sum(num_clients: int) -> float:
    """The size below which exact sums must be, so that those of all clients fit into int64."""
    return FULL / max(num_clients, 1)
