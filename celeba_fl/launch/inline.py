"""The same ServerApp and ClientApp in one process: Flower's Grid without Ray and SuperLink.

For tests, for sweeps, and for debugging with a breakpoint in a client. The ClientApp is called when
the reply to a message is pulled; the rest of the app cannot tell the difference. On a virtual
clock, a reply is there once its client has had its seconds.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from celeba_fl.common import flower
from celeba_fl.common.errors import InputError
from celeba_fl.common.names import client_name
from celeba_fl.config import RunConfig
from celeba_fl.launch.virtual import VirtualClock, client_seconds, virtual_clock
from celeba_fl.rounds.messages import QUERY

if TYPE_CHECKING:
    from celeba_fl.common.flower import Run

Nodes = int | Sequence[Mapping[str, Any]]


class InlineGrid(Grid):
    """A Grid whose nodes are simulated in this process, one after the other.

    `nodes` are the node configs, or the number of nodes, each of which then has a partition. With a
    `clock`, the run config may say how long its clients take: `client-seconds`.
    """

    def __init__(
        self,
        client_app: ClientApp,
        nodes: Nodes,
        run_config: Mapping[str, Any],
        clock: VirtualClock | None = None,
    ) -> None:
        if isinstance(nodes, int):
            nodes = [{"partition-id": i, "num-partitions": nodes} for i in range(nodes)]
        self._app = client_app
        self._run = flower.new_run()
        contexts = (
            Context(self.run.run_id, secrets.randbits(62), {**node}, RecordDict(), {**run_config})
            for node in nodes
        )
        self._contexts = {context.node_id: context for context in contexts}
        self._waiting: dict[str, Message] = {}
        self.clock = clock
        self._usual, self._seconds = client_seconds(str(run_config.get("client-seconds", "")))

    @property
    def run(self) -> "Run":
        """The run; its id is random."""
        return self._run

    def set_run(self, run: "Run") -> None:
        self._run = run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes; their ids are random, as Flower's are."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Keep messages until their replies are pulled."""
        ids = []
        for message in messages:
            ids.append(flower.send(message))
            self._waiting[ids[-1]] = message
            if self.clock and message.metadata.message_type != QUERY:
                name = client_name(self._contexts[message.metadata.dst_node_id].node_config)
                taken = self._seconds.get(name, self._usual)
                self.clock.expect(ids[-1], taken)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Let the nodes reply."""
        keys = [key for key in message_ids if key in self._waiting]
        due = [self._waiting.pop(key) for key in keys if not self.clock or self.clock.is_due(key)]
        return (self._answer(message) for message in due)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> Message:
        try:
            with flower.inline():
                return self._app(message, self._contexts[message.metadata.dst_node_id])
        except Exception as error:  # as the engines do: a failing client is a reply
            reason = str(error) if isinstance(error, InputError) else repr(error)
            return Message(flower.failure(reason), reply_to=message)


def run_inline(
    config: RunConfig, nodes: Nodes, server_app: ServerApp, client_app: ClientApp
) -> int:
    """Run an experiment in this process; it ends, or raises, as the ServerApp does. Its id."""
    grid = InlineGrid(client_app, nodes, config.to_dict(), virtual_clock(config))
    context = Context(grid.run.run_id, 0, {}, RecordDict(), dict(config.to_dict()))
    server_app(grid, context)
    return grid.run.run_id
