"""One exchange with several clients: messages sent, replies awaited, checked and sorted."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from celeba_fl.common.errors import printable, printable_lines
from celeba_fl.common.flower import simulation
from celeba_fl.common.log import LOG
from celeba_fl.rounds.clock import clock_of
from celeba_fl.rounds.messages import of_kind
from celeba_fl.rounds.parts import DETAILS, answers
from celeba_fl.rounds.post import UNSENT, Post, by_client, num_bytes, sizes

POLL_SECONDS = 0.1
# Of a wait, for each message in it: to look for a reply takes a simulation 7 microseconds.
POLL_SECONDS_EACH = 1e-4
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
    # In asynchronous rounds, clients that are at work: `asked` of all make a round.
    under_way: int | None = None


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
    # In asynchronous rounds, how many rounds older than the newest the model was that a client had;
    # and that model, with the part of the client's update that counts, where that is not all of it.
    staleness: dict[str, int] = field(default_factory=dict)
    parts: dict[str, tuple[ArrayRecord, float]] = field(default_factory=dict)
    # By client, how far its model is from the one that it was sent, see `compare_updates`.
    updates: dict[str, dict[str, float]] = field(default_factory=dict)
    simulated: bool = False  # else a site's own log has the details of its failures
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
        self.bytes_up += num_bytes(of_kind(reply.content, ArrayRecord).values())
        if take and (reason := take(client, reply.content)):
            self.failures[client] = reason
        else:
            self.usable[client] = reply

    def _tell(self, client: str, details: str) -> None:
        """Log what is known of a failure, of several at the same place in the code the first."""
        place = tuple(line for line in details.splitlines() if line.startswith("  File "))
        if details and place not in self._told and self.simulated:
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
        self.parts = {}

    def state(self) -> dict[str, Any]:
        """What is left without arrays, as JSON."""

        def metrics(replies: Mapping[str, Message]) -> dict[str, Any]:
            return {
                client: {name: {**of} for name, of in of_kind(reply.content, MetricRecord).items()}
                for client, reply in replies.items()
            }

        sizes = {"bytes_down": self.bytes_down, "bytes_up": self.bytes_up}
        state = {"usable": metrics(self.usable), "failures": self.failures, **sizes}
        state |= {"staleness": self.staleness} if self.staleness else {}
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
    asked = by_client(requests, names)
    replies = {part: Replies(simulated=simulation(grid) is not None) for part in requests}
    clock = clock_of(grid)
    since, start = time.time(), clock.now()
    post = Post(grid, names)

    def fail(client: str, reason: str) -> None:
        for part in asked[client]:
            replies[part].failures[client] = reason

    for part, size in sizes(asked).items():
        replies[part].bytes_down += size
    for client in post.send(asked, timeout):
        fail(client, UNSENT)
    meanwhile()
    last_log, reported = clock.now(), None
    while True:
        for client, reply in post.receive(one_by_one=bool(take)):
            if isinstance(reply, str):
                fail(client, reply)
                continue
            for part, answer in answers(reply, asked[client]).items():
                replies[part].add(client, answer, take.get(part))
        now, done = clock.now(), len(asked) - len(post.pending)
        failed = len({client for of_part in replies.values() for client in of_part.failures})
        progress = PhaseProgress(server_round, phase, len(asked), done - failed, failed, since)
        if progress != reported:
            on_progress(progress)
            reported = progress
        if now - last_log >= LOG_EVERY_SECONDS and post.pending:
            last_log = now
            left = f", {(now - start) / done * len(post.pending):.0f} s left" if done else ""
            LOG.info("round %d, %s: %d of %d%s", server_round, phase, done, len(asked), left)
        if not post.pending or now - start >= timeout:
            break
        clock.wait(poll_seconds(now - start, len(post.pending), done), start + timeout)
    for client in post.pending.values():
        fail(client, no_answer(timeout))
    for of_part in replies.values():
        of_part.sort()
    return replies


def poll_seconds(waited: float, pending: int, done: int = 0) -> float:
    """How long to wait before one looks for replies again, where so many are there and to come.

    Half of those to come should be there by then, but at least a fortieth of the wait has passed,
    since they may be slower ones. So one looks a few times only, and the last reply does not lie
    long.
    """
    expected = max(waited / done * pending / 2, waited / 40) if done else waited / 10
    return max(min(POLL_SECONDS, expected), POLL_SECONDS_EACH * pending)


def no_answer(timeout: float) -> str:
    """The reason why a client failed that was not heard of."""
    return f"no answer within {timeout:.0f} s"


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
    metrics = of_kind(record, MetricRecord).items()
    shapes = {(name, key): np.shape(value) for name, m in metrics for key, value in m.items()}
    arrays = of_kind(record, ArrayRecord).items()
    shapes |= {(name, key): array.shape for name, a in arrays for key, array in a.items()}
    configs = [(name, sorted(config)) for name, config in of_kind(record, ConfigRecord).items()]
    return repr((sorted(shapes.items()), sorted(configs)))


def _words(reason: str) -> str:
    """The reason why a client failed; for our own errors, without Flower's words around it.

    In simulation these include a traceback, which the log has already; on a SuperNode, the type.
    """
    if "InputError" in reason:
        for before in ("ClientAppException occurred. Message: ", "InputError'>:<'"):
            reason = reason.rpartition(before)[2].removesuffix("'>")
    return reason.strip()
