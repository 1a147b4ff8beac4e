"""One exchange with several clients: messages sent, replies awaited, checked and sorted."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid

from celeba_fl.common.log import LOG
from celeba_fl.rounds.messages import NUM_EXAMPLES, num_examples

POLL_SECONDS = 0.1
# Messages expire shortly after our own timeout: a node never works on a reply that nobody awaits,
# and the timeout is reported by us, not by Flower.
GRACE_SECONDS = 10.0
LOG_EVERY_SECONDS = 10.0


@dataclass(frozen=True)
class PhaseProgress:
    """An exchange in progress."""

    round: int  # 0 before training
    phase: str  # ``query``, ``train``, ``evaluate`` or ``final evaluation``
    asked: int  # number of clients
    replied: int
    failed: int
    since: float  # Unix time at which the messages were sent


@dataclass
class Replies:
    """The outcome of an exchange."""

    usable: dict[str, Message] = field(default_factory=dict)  # by client, sorted by client
    failures: dict[str, str] = field(default_factory=dict)  # reasons by client
    bytes_down: int = 0  # size of the arrays that were sent
    bytes_up: int = 0  # and of those that were received


def send_and_wait(
    grid: Grid,
    messages: Iterable[Message],
    names: Mapping[int, str],
    *,
    server_round: int,
    phase: str,
    timeout: float,
    on_progress: Callable[[PhaseProgress], None] = lambda _: None,
    meanwhile: Callable[[], None] = lambda: None,
    take: Callable[[RecordDict], str | None] | None = None,
) -> Replies:
    """Send messages, one for each node, and wait until all have replied or time is up.

    Parameters
    ----------
    names : Mapping[int, str]
        Client by node id.
    timeout : float
        Seconds to wait. A client that has not replied by then counts as failed.
    meanwhile : Callable[[], None]
        Work of the server's own, done while the clients do theirs.
    take : Callable[[RecordDict], str | None] | None (default: None)
        Called with the content of each reply as it arrives, from which it may delete what it used;
        returns the reason if the reply is unusable. Replies are then pulled one by one.
    """
    messages = sorted(messages, key=lambda message: names[message.metadata.dst_node_id])
    for message in messages:
        message.metadata.ttl = timeout + GRACE_SECONDS
    replies = Replies(bytes_down=sum(_num_bytes(message.content) for message in messages))
    since, start = time.time(), time.monotonic()
    sent = set(grid.push_messages(messages))
    # By message, as the SuperLink replies in its own name for a node that is gone.
    pending = {m.metadata.message_id: names[m.metadata.dst_node_id] for m in messages}
    for unsent in pending.keys() - sent:
        replies.failures[pending.pop(unsent)] = "the message could not be sent"
    meanwhile()
    asked, last_log, reported = len(messages), time.monotonic(), None
    while True:
        pulls = [[key] for key in pending] if take else [list(pending)]
        for message in chain.from_iterable(map(grid.pull_messages, pulls)):
            client = pending.pop(message.metadata.reply_to_message_id)
            if message.has_error():
                replies.failures[client] = _words(str(message.error.reason))
                continue
            replies.bytes_up += _num_bytes(message.content)
            if take and (reason := take(message.content)):
                replies.failures[client] = reason
            else:
                replies.usable[client] = message
        replied, failed, now = len(replies.usable), len(replies.failures), time.monotonic()
        progress = PhaseProgress(server_round, phase, asked, replied, failed, since)
        if progress != reported:
            on_progress(progress)
            reported = progress
        if now - last_log >= LOG_EVERY_SECONDS and pending:
            last_log, done = now, replied + failed
            left = f", {(now - start) / done * (asked - done):.0f} s left" if done else ""
            LOG.info("round %d, %s: %d of %d%s", server_round, phase, done, asked, left)
        if not pending or now - start >= timeout:
            break
        time.sleep(min(POLL_SECONDS, (now - start) / 10))
    for client in pending.values():
        replies.failures[client] = f"no answer within {timeout:.0f} s"
    replies.usable = dict(sorted(replies.usable.items()))
    replies.failures = dict(sorted(replies.failures.items()))
    return replies


def reject_unusable(replies: Replies, expected: ArrayRecord | None = None) -> None:
    """Move replies that would spoil an average from `usable` to `failures`.

    A reply must have one MetricRecord with a valid ``num-examples``, only finite numbers, and the
    same records with the same keys and shapes as most of the replies that are otherwise usable.
    Trained arrays must have the names, shapes and types of the `expected` ones, which were sent.
    """
    reasons = {c: unusable(message.content, expected) for c, message in replies.usable.items()}
    forms = {c: _form(replies.usable[c].content) for c, reason in reasons.items() if not reason}
    usual = Counter(forms.values()).most_common(1)[0][0] if forms else None
    for client, reason in reasons.items():
        if reason or forms[client] != usual:
            del replies.usable[client]
            other = "its records are of another form than those of most clients"
            replies.failures[client] = reason or other
    replies.failures = dict(sorted(replies.failures.items()))


def unusable(record: RecordDict, expected: ArrayRecord | None) -> str | None:
    """The reason why this reply would spoil a sum, or None; arguments as in `reject_unusable`."""
    if len(record.metric_records) != 1:
        return f"{len(record.metric_records)} MetricRecords instead of one"
    metrics = next(iter(record.metric_records.values()))
    if not all(np.isfinite(value).all() for value in metrics.values()):
        return "a metric is NaN or infinite"
    if num_examples(record) < 0:
        return f"{NUM_EXAMPLES} = {metrics.get(NUM_EXAMPLES)!r} is not a count"
    if expected is not None:
        if len(record.array_records) != 1:
            return f"{len(record.array_records)} ArrayRecords instead of one"
        if different := difference(next(iter(record.array_records.values())), expected):
            return different
    for arrays in record.array_records.values():
        for key, array in arrays.items():
            try:
                values = array.numpy()
                finite = np.isfinite(values).all()
            except Exception as error:  # a client may send anything
                return f"array {key!r} cannot be read: {error}"
            if (values.shape, str(values.dtype)) != (array.shape, array.dtype):
                return f"array {key!r} does not have the shape and type that its record states"
            if not finite:
                return f"array {key!r} has NaN or infinite values"
    return None


def difference(received: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """The first array that has not the shape and type of the expected one, in words; or nothing."""
    forms = [{k: (a.shape, str(a.dtype)) for k, a in of.items()} for of in (received, expected)]
    for key in sorted(forms[0].keys() | forms[1].keys()):
        there, right = (form.get(key) for form in forms)
        if there != right:
            return f"array {key!r} is {there}, not {right}"
    return ""


def _form(record: RecordDict) -> str:
    """The names of the records and of their keys, with the shapes."""
    metrics = record.metric_records.items()
    shapes = {(name, key): np.shape(value) for name, m in metrics for key, value in m.items()}
    arrays = record.array_records.items()
    shapes |= {(name, key): array.shape for name, a in arrays for key, array in a.items()}
    configs = [(name, sorted(config)) for name, config in record.config_records.items()]
    return repr((sorted(shapes.items()), sorted(configs)))


def _words(reason: str) -> str:
    """The reason why a client failed; for our own errors, without Flower's words around it.

    In simulation these include a traceback, which the log has already; on a SuperNode, the type.
    """
    if "InputError" in reason:
        for before in ("ClientAppException occurred. Message: ", "InputError'>:<'"):
            reason = reason.rpartition(before)[2].removesuffix("'>")
    return reason.strip()


def _num_bytes(record: RecordDict) -> int:
    return sum(len(a.data) for arrays in record.array_records.values() for a in arrays.values())
