"""One question to several clients, and their answers: awaited with progress, checked, sorted."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid

from celeba_fl.progress import LOG

POLL_SECONDS = 0.1
LOG_EVERY_SECONDS = 10.0


@dataclass(frozen=True)
class Waiting:
    """An exchange in progress.

    Parameters
    ----------
    round : int
        The round, 0 before training.
    phase : str
        What was asked: ``query``, ``train`` or ``evaluate``.
    asked, replied, failed : int
        Clients.
    since : float
        Unix time of the question.
    """

    round: int
    phase: str
    asked: int
    replied: int
    failed: int
    since: float


@dataclass
class Answers:
    """What came of a question.

    Parameters
    ----------
    usable : dict[str, Message]
        The answers by client, sorted by client.
    failures : dict[str, str]
        Reasons by client.
    bytes_down, bytes_up : int
        Arrays sent and received.
    """

    usable: dict[str, Message] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    bytes_down: int = 0
    bytes_up: int = 0


def ask(
    grid: Grid,
    messages: Iterable[Message],
    names: Mapping[int, str],
    *,
    number: int,
    phase: str,
    timeout: float,
    on_waiting: Callable[[Waiting], None] = lambda waiting: None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Answers:
    """Send messages, and wait until all have answered or time is up.

    Parameters
    ----------
    grid : Grid
        Flower's connection to the nodes.
    messages : Iterable[Message]
        One a node.
    names : Mapping[int, str]
        Client by node id.
    number, phase
        As in `Waiting`.
    timeout : float
        Seconds to wait. A client that has not answered then has failed.
    on_waiting : Callable[[Waiting], None]
        Called as answers arrive.
    meanwhile : Callable[[], None]
        Work of the server's own, done while the clients do theirs.
    """
    messages = list(messages)
    answers = Answers(bytes_down=sum(_num_bytes(message.content) for message in messages))
    silent = {names[message.metadata.dst_node_id] for message in messages}
    since, start = time.time(), time.monotonic()
    pending = set(grid.push_messages(messages))
    meanwhile()
    asked, last_log = len(messages), time.monotonic()
    while True:
        for message in grid.pull_messages(pending):
            pending.discard(message.metadata.reply_to_message_id)
            client = names[message.metadata.src_node_id]
            silent.discard(client)
            if message.has_error():
                answers.failures[client] = str(message.error.reason).strip()
            else:
                answers.usable[client] = message
                answers.bytes_up += _num_bytes(message.content)
        replied, failed, now = len(answers.usable), len(answers.failures), time.monotonic()
        on_waiting(Waiting(number, phase, asked, replied, failed, since))
        if now - last_log >= LOG_EVERY_SECONDS and pending:
            last_log, done = now, replied + failed
            left = f", {(now - start) / done * (asked - done):.0f} s left" if done else ""
            LOG.info("round %d, %s: %d of %d%s", number, phase, done, asked, left)
        if not pending or now - start >= timeout:
            break
        time.sleep(POLL_SECONDS)
    for client in silent:
        answers.failures[client] = f"no answer within {timeout:.0f} s"
    answers.usable = dict(sorted(answers.usable.items()))
    return answers


def reject_unusable(answers: Answers, expected: ArrayRecord | None = None) -> None:
    """Move answers that would spoil an average from `usable` to `failures`.

    An answer must have one MetricRecord with a sensible ``num-examples``, only finite numbers,
    and the same records with the same keys and shapes as most others have.

    Parameters
    ----------
    answers : Answers
        Changed in place.
    expected : ArrayRecord | None
        What trained arrays must look like: the names, shapes and types that were sent.
    """
    forms = {client: _form(message.content) for client, message in answers.usable.items()}
    usual = Counter(forms.values()).most_common(1)[0][0] if forms else None
    for client, message in list(answers.usable.items()):
        reason = _spoils(message.content, expected)
        if reason is None and forms[client] != usual:
            reason = "its records are of another form than those of most clients"
        if reason is not None:
            del answers.usable[client]
            answers.failures[client] = reason


def _spoils(record: RecordDict, expected: ArrayRecord | None) -> str | None:
    """Why this answer alone is unusable, or None."""
    if len(record.metric_records) != 1:
        return f"{len(record.metric_records)} MetricRecords instead of one"
    metrics = next(iter(record.metric_records.values()))
    if not np.isfinite(np.concatenate([np.atleast_1d(v) for v in metrics.values()])).all():
        return "a metric is NaN or infinite"
    number = metrics.get("num-examples")
    if not isinstance(number, int) or number < 0:
        return f"num-examples = {number!r} is no count"
    if expected is not None:
        if len(record.array_records) != 1:
            return f"{len(record.array_records)} ArrayRecords instead of one"
        arrays = next(iter(record.array_records.values()))
        wanted = {key: (array.shape, array.dtype) for key, array in expected.items()}
        found = {key: (array.shape, array.dtype) for key, array in arrays.items()}
        for key in sorted(wanted.keys() | found.keys()):
            if wanted.get(key) != found.get(key):
                return f"array {key!r} is {found.get(key)}, not {wanted.get(key)}"
    for arrays in record.array_records.values():
        for key, array in arrays.items():
            if not np.isfinite(array.numpy()).all():
                return f"array {key!r} has NaN or infinite values"
    return None


def _form(record: RecordDict) -> str:
    """Names of the records and of what is in them, with the arrays' shapes."""
    metrics = {name: sorted(values) for name, values in record.metric_records.items()}
    arrays = {
        name: sorted((key, array.shape) for key, array in values.items())
        for name, values in record.array_records.items()
    }
    return repr((sorted(metrics.items()), sorted(arrays.items())))


def _num_bytes(record: RecordDict) -> int:
    return sum(len(a.data) for arrays in record.array_records.values() for a in arrays.values())
