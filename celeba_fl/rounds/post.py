"""Messages to clients, and their replies as they come in."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid

from celeba_fl.common.errors import printable
from celeba_fl.rounds.messages import of_kind
from celeba_fl.rounds.parts import join

# Messages expire shortly after our own timeout: a node never works on a reply that nobody awaits,
# and the timeout is reported by us, not by Flower.
GRACE_SECONDS = 10.0
UNSENT = "the message could not be sent"


@dataclass
class Post:
    """Messages to clients, by name, and their replies."""

    grid: Grid
    names: Mapping[int, str]  # client by node id
    pending: dict[str, str] = field(default_factory=dict)  # client by message

    def send(self, asked: Mapping[str, Mapping[str, Message]], timeout: float) -> list[str]:
        """Send each client its parts as one message; the clients whose could not be sent."""
        clients = sorted(asked)
        joined = [join(asked[client]) for client in clients]
        for message in joined:
            message.metadata.ttl = timeout + GRACE_SECONDS
        sent = set(self.grid.push_messages(joined))
        ids = [message.metadata.message_id for message in joined]
        # By message, as the SuperLink replies in its own name for a node that is gone.
        self.pending |= {key: c for key, c in zip(ids, clients, strict=True) if key in sent}
        return [client for key, client in zip(ids, clients, strict=True) if key not in sent]

    def receive(self, one_by_one: bool) -> Iterator[tuple[str, Message | str]]:
        """The replies that are there, by client; in the place of an unusable one, the reason."""
        pulls = [[key] for key in self.pending] if one_by_one else [list(self.pending)]
        unreadable: dict[str, str] = {}
        for message in chain.from_iterable(_pull(self.grid, keys, unreadable) for keys in pulls):
            client = self.pending.pop(message.metadata.reply_to_message_id, None)
            if client is None:  # nobody asked for it
                continue
            # The SuperLink answers in its own name for a node that is gone, but never with content.
            if message.has_content() and self.names.get(message.metadata.src_node_id) != client:
                yield client, "another node has answered in its place"
            else:
                yield client, message
        for key in unreadable.keys() & self.pending.keys():
            yield self.pending.pop(key), unreadable[key]


def by_client(
    requests: Mapping[str, Iterable[Message]], names: Mapping[int, str]
) -> dict[str, dict[str, Message]]:
    """The messages by client and part."""
    asked: dict[str, dict[str, Message]] = {}
    for part, messages in requests.items():
        for message in messages:
            asked.setdefault(names[message.metadata.dst_node_id], {})[part] = message
    return asked


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


def sizes(asked: Mapping[str, Mapping[str, Message]]) -> dict[str, int]:
    """Bytes of the arrays that go to clients, by part.

    A record that several parts of a message share travels once, and counts for the first of them.
    """
    found: dict[str, int] = {}
    for requests in asked.values():
        records: dict[int, tuple[str, ArrayRecord]] = {}
        for part, message in requests.items():
            for record in of_kind(message.content, ArrayRecord).values():
                records.setdefault(id(record), (part, record))
        for part, record in records.values():
            found[part] = found.get(part, 0) + num_bytes([record])
    return found


def num_bytes(records: Iterable[ArrayRecord]) -> int:
    """Bytes of arrays."""
    return sum(len(array.data) for arrays in records for array in arrays.values())
