"""One exchange with several clients: messages sent, replies awaited, checked and sorted."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from celeba_fl.common.errors import printable
from celeba_fl.common.log import LOG

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
    take: Callable[[str, RecordDict], str] | None = None,
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
    take : Callable[[str, RecordDict], str] | None (default: None)
        Called with client and content of each reply as it arrives, from which it may delete what it
        used; returns the reason if the reply is unusable. Replies are then pulled one by one.
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
        unreadable: dict[str, str] = {}
        for message in chain.from_iterable(_pull(grid, keys, unreadable) for keys in pulls):
            client = pending.pop(message.metadata.reply_to_message_id, "")
            if not client:  # nobody asked for it
                continue
            # The SuperLink answers in its own name for a node that is gone, but never with content.
            if message.has_content() and names.get(message.metadata.src_node_id) != client:
                replies.failures[client] = "another node has answered in its place"
                continue
            if not message.has_content():
                reason = str(message.error.reason) if message.has_error() else "an empty message"
                replies.failures[client] = printable(_words(reason))
                continue
            replies.bytes_up += _num_bytes(message.content)
            if take and (reason := take(client, message.content)):
                replies.failures[client] = reason
            else:
                replies.usable[client] = message
        for key in unreadable.keys() & pending.keys():
            replies.failures[pending.pop(key)] = unreadable[key]
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


def _pull(grid: Grid, keys: list[str], unreadable: dict[str, str]) -> Iterator[Message]:
    """The replies to messages that are there; reasons for those of which none can be made."""
    try:
        yield from list(grid.pull_messages(keys))
    except (ValueError, TypeError, LookupError, AttributeError, EOFError) as error:
        if len(keys) == 1:
            unreadable[keys[0]] = f"its reply cannot be read: {printable(repr(error))}"
        else:  # one of them is at fault
            for key in keys:
                yield from _pull(grid, [key], unreadable)


def refuse(replies: Replies, reason: Callable[[str, RecordDict], str]) -> None:
    """Move replies for which there is a reason from `usable` to `failures`.

    Those that are left must have the same records with the same keys and shapes; where they have
    not, most of them are right.
    """
    reasons = {c: reason(c, message.content) for c, message in replies.usable.items()}
    forms = {c: _form(replies.usable[c].content) for c, why in reasons.items() if not why}
    usual = Counter(forms.values()).most_common(1)[0][0] if forms else None
    for client, why in reasons.items():
        if why or forms[client] != usual:
            del replies.usable[client]
            other = "its records are of another form than those of most clients"
            replies.failures[client] = why or other
    replies.failures = dict(sorted(replies.failures.items()))


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
