"""One exchange with several clients: messages sent, replies awaited, checked and sorted."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from celeba_fl.common.errors import printable, printable_lines
from celeba_fl.common.log import LOG
from celeba_fl.rounds.parts import DETAILS, answers, join

POLL_SECONDS = 0.1
# Of a wait, for each message in it: to look for a reply takes a simulation 7 microseconds.
POLL_SECONDS_EACH = 1e-4
# Messages expire shortly after our own timeout: a node never works on a reply that nobody awaits,
# and the timeout is reported by us, not by Flower.
GRACE_SECONDS = 10.0
LOG_EVERY_SECONDS = 10.0
# Called with client and content of a reply as it arrives, from which it may delete what it used;
# the reason if the reply is unusable.
Take = Callable[[str, RecordDict], str]
# The name by which a total over clients goes, where nobody shows what is its own.
TOTAL = "total"


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
    """The outcome of an exchange, or of one part of it."""

    usable: dict[str, Message] = field(default_factory=dict)  # by client, sorted by client
    failures: dict[str, str] = field(default_factory=dict)  # reasons by client
    bytes_down: int = 0  # size of the arrays that were sent
    bytes_up: int = 0  # and of those that were received
    # What the usable add up to, if that alone is known: then each says how long it took, no more.
    total: Message | None = None
    # How many train and validation examples that is of; 0 if it is not known.
    behind: tuple[int, int] = (0, 0)
    # Whether a total was asked for, whatever came of it: one of the same models over others, next
    # to it, would show those of single clients.
    opened: bool = False
    # By client, how far its model is from the one that it was sent, see `compare_updates`.
    updates: dict[str, dict[str, float]] = field(default_factory=dict)
    # Places in the code at which clients failed.
    _told: set[tuple[str, ...]] = field(default_factory=set, init=False, repr=False)

    def add(self, client: str, reply: Message, take: Take | None) -> None:
        """Note what a client has replied, be it an error."""
        if not reply.has_content():
            reason = str(reply.error.reason) if reply.has_error() else "an empty message"
            words, _, details = _words(reason).partition(DETAILS)
            self.failures[client] = printable(words)
            self._tell(client, details)
            return
        self.bytes_up += _num_bytes(reply.content.array_records.values())
        if take and (reason := take(client, reply.content)):
            self.failures[client] = reason
        else:
            self.usable[client] = reply

    def _tell(self, client: str, details: str) -> None:
        """Log what is known of a failure, of several at the same place in the code the first."""
        place = tuple(line for line in details.splitlines() if line.startswith("  File "))
        if details and place not in self._told:
            LOG.error("client %s: %s", client, printable_lines(details))
        self._told.update({place} - {()})

    def sort(self) -> None:
        """Sort both by client."""
        self.usable = dict(sorted(self.usable.items()))
        self.failures = dict(sorted(self.failures.items()))

    @property
    def summands(self) -> dict[str, Message]:
        """What is to be added up: the usable replies, or their total alone."""
        return self.usable if self.total is None else {TOTAL: self.total}

    def fail(self, reason: str) -> None:
        """Move all that is usable to `failures`."""
        self.failures |= dict.fromkeys(self.usable, reason)
        self.usable, self.total = {}, None

    def of(self, clients: Collection[str]) -> "Replies":
        """Those of some clients, with the total and the bytes of all."""
        usable = {client: reply for client, reply in self.usable.items() if client in clients}
        failures = {client: why for client, why in self.failures.items() if client in clients}
        return replace(self, usable=usable, failures=failures)

    def drop_arrays(self) -> None:
        """Delete the arrays of what is usable; metrics stay."""
        for reply in self.summands.values():
            for name in list(reply.content.array_records):
                del reply.content[name]

    def state(self) -> dict[str, Any]:
        """What is left without arrays, as JSON."""

        def metrics(replies: Mapping[str, Message]) -> dict[str, Any]:
            return {
                client: {name: {**record} for name, record in reply.content.metric_records.items()}
                for client, reply in replies.items()
            }

        sizes = {"bytes_down": self.bytes_down, "bytes_up": self.bytes_up}
        state = {"usable": metrics(self.usable), "failures": self.failures, **sizes}
        state["updates"] = self.updates
        if self.total is None:
            return state
        return {**state, **metrics(self.summands), "behind": self.behind}

    @classmethod
    def restored(cls, state: Mapping[str, Any], message_type: str) -> "Replies":
        """Those of a state, which were to messages of this type."""

        def message(metrics: Mapping[str, Any]) -> Message:
            records = {name: MetricRecord(record) for name, record in metrics.items()}
            return Message(RecordDict({**records}), 0, message_type)

        usable = {client: message(metrics) for client, metrics in state["usable"].items()}
        total = {TOTAL: message(state[TOTAL])} if TOTAL in state else {}
        return cls(**{**state, "usable": usable, **total})


def send_and_wait(
    grid: Grid,
    requests: Mapping[str, Iterable[Message]],
    names: Mapping[int, str],
    *,
    server_round: int,
    phase: str,
    timeout: float,
    on_progress: Callable[[PhaseProgress], None] = lambda _: None,
    meanwhile: Callable[[], None] = lambda: None,
    take: Mapping[str, Take] = MappingProxyType({}),
) -> dict[str, Replies]:
    """Send requests, and wait until all clients have replied or time is up; the replies by part.

    Parameters
    ----------
    requests : Mapping[str, Iterable[Message]]
        Messages by part, in each of which there is one at most for a node. A node that several are
        for gets them as one, and does its parts in this order.
    names : Mapping[int, str]
        Client by node id.
    timeout : float
        Seconds to wait. A client that has not replied by then counts as failed.
    meanwhile : Callable[[], None]
        Work of the server's own, done while the clients do theirs.
    take : Mapping[str, Take] (default: {})
        By part; with any, replies are pulled one by one.
    """
    asked: dict[str, dict[str, Message]] = {}
    for part, messages in requests.items():
        for message in messages:
            asked.setdefault(names[message.metadata.dst_node_id], {})[part] = message
    clients = sorted(asked)
    joined = [join(asked[client]) for client in clients]
    for message in joined:
        message.metadata.ttl = timeout + GRACE_SECONDS
    replies = {part: Replies() for part in requests}
    for of_client in asked.values():
        for part, size in _sizes(of_client).items():
            replies[part].bytes_down += size
    since, start = time.time(), time.monotonic()
    sent = set(grid.push_messages(joined))
    # By message, as the SuperLink replies in its own name for a node that is gone.
    pending = {m.metadata.message_id: client for m, client in zip(joined, clients, strict=True)}

    def fail(key: str, reason: str) -> None:
        client = pending.pop(key)
        for part in asked[client]:
            replies[part].failures[client] = reason

    for unsent in pending.keys() - sent:
        fail(unsent, "the message could not be sent")
    meanwhile()
    last_log, reported = time.monotonic(), None
    while True:
        pulls = [[key] for key in pending] if take else [list(pending)]
        unreadable: dict[str, str] = {}
        for message in chain.from_iterable(_pull(grid, keys, unreadable) for keys in pulls):
            key = message.metadata.reply_to_message_id
            if key not in pending:  # nobody asked for it
                continue
            # The SuperLink answers in its own name for a node that is gone, but never with content.
            if message.has_content() and names.get(message.metadata.src_node_id) != pending[key]:
                fail(key, "another node has answered in its place")
                continue
            client = pending.pop(key)
            for part, answer in answers(message, asked[client]).items():
                replies[part].add(client, answer, take.get(part))
        for key in unreadable.keys() & pending.keys():
            fail(key, unreadable[key])
        now, done = time.monotonic(), len(asked) - len(pending)
        failed = len({client for of_part in replies.values() for client in of_part.failures})
        progress = PhaseProgress(server_round, phase, len(asked), done - failed, failed, since)
        if progress != reported:
            on_progress(progress)
            reported = progress
        if now - last_log >= LOG_EVERY_SECONDS and pending:
            last_log = now
            left = f", {(now - start) / done * len(pending):.0f} s left" if done else ""
            LOG.info("round %d, %s: %d of %d%s", server_round, phase, done, len(asked), left)
        if not pending or now - start >= timeout:
            break
        wait = min(POLL_SECONDS, (now - start) / 10)
        time.sleep(max(wait, POLL_SECONDS_EACH * len(pending)))
    for key in list(pending):
        fail(key, f"no answer within {timeout:.0f} s")
    for of_part in replies.values():
        of_part.sort()
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
    if replies.total:
        if why := reason(TOTAL, replies.total.content):
            replies.fail(f"the total of all: {why}")
        return
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


def _sizes(requests: Mapping[str, Message]) -> dict[str, int]:
    """Bytes of arrays by part; of a record that several share, which travels once, of the first."""
    records: dict[int, tuple[str, ArrayRecord]] = {}
    for part, message in requests.items():
        for record in message.content.array_records.values():
            records.setdefault(id(record), (part, record))
    return {
        part: _num_bytes(record for of, record in records.values() if of == part)
        for part in requests
    }


def _num_bytes(records: Iterable[ArrayRecord]) -> int:
    return sum(len(array.data) for arrays in records for array in arrays.values())
