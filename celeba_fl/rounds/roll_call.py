"""The roll call before round 1: every node introduces itself once, and gets the file it lacks."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from flwr.app import ConfigRecord, Message
from flwr.serverapp import Grid

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.rounds import messages
from celeba_fl.rounds.exchange import PhaseProgress, difference, reject_unusable, send_and_wait
from celeba_fl.rounds.messages import Introduction

SETTLE_SECONDS = 0.1


@dataclass(frozen=True)
class Client:
    """A client that takes part."""

    node_id: int  # Flower's, in this run only
    num_train: int
    num_valid: int
    counts: np.ndarray  # (k,) int64, in the order of the task's `count_names`
    sums: Arrays = field(default_factory=dict)  # int64, exact, of its train examples


def wait_for_nodes(grid: Grid, minimum: int) -> list[int]:
    """Node ids, once there are `minimum` of them and no more are joining."""
    before: list[int] = []
    last_log = 0.0
    while True:
        now = sorted(grid.get_node_ids())
        if now == before and len(now) >= minimum:
            return now
        if len(now) < minimum and time.monotonic() - last_log > 10:
            last_log = time.monotonic()
            LOG.info("Waiting for clients: %d of at least %d online", len(now), minimum)
        before = now
        time.sleep(SETTLE_SECONDS)


def roll_call(
    grid: Grid,
    instructions: Mapping[str, object],
    deliver: Callable[[str], bytes],
    *,
    code: str,
    minimum: int,
    timeout: float,
    strict: bool = False,
    chosen: Collection[str] = (),
    sums: Mapping[str, np.ndarray] = MappingProxyType({}),
    on_progress: Callable[[PhaseProgress], None] = lambda _: None,
) -> dict[str, Client]:
    """Ask all nodes who they are and what they hold; the clients by name, sorted by name.

    Parameters
    ----------
    instructions : Mapping[str, object]
        The task's instructions to every client.
    deliver : Callable[[str], bytes]
        Gives the file with a hash, for clients that lack it.
    code : str
        The hash of the code that all must run.
    minimum : int
        Fewest clients to start with; with `chosen`, fewest nodes to wait for.
    strict : bool (default: False)
        Whether the run fails if a client must be refused; otherwise it continues without that one.
        Without effect if clients are `chosen`.
    chosen : Collection[str] (default: ())
        The clients that take part, all of which must be there; empty: all clients. The nodes have
        this list from the run config, and other clients reply at once that they sit out.
    sums : dict[str, np.ndarray] (default: {})
        Arrays of the names, shapes and types that a client's sums must have.

    Raises
    ------
    InputError
        If two clients have one name, fewer than `minimum` or not all of `chosen` can take part,
        or, under `strict`, any is refused.
    """
    config = ConfigRecord(dict(instructions))  # type: ignore[arg-type]
    sitting_out: list[str] = []
    failures: dict[str, str] = {}
    node_ids = {f"node {node}": node for node in wait_for_nodes(grid, max(minimum, len(chosen)))}

    def query(nodes: Iterable[str], files: Mapping[str, bytes]) -> dict[str, Introduction]:
        content = messages.query(config, files)
        replies = send_and_wait(
            grid,
            [Message(content, node_ids[node], messages.QUERY) for node in nodes],
            {node_id: node for node, node_id in node_ids.items()},
            server_round=0,
            phase=messages.QUERY,
            timeout=timeout,
            on_progress=on_progress,
        )
        for node, reply in list(replies.usable.items()):
            if (name := messages.name_if_sitting_out(reply.content)) is not None:
                sitting_out.append(name)
                del replies.usable[node]
        reject_unusable(replies)
        failures.update(replies.failures)
        return {node: Introduction.of(reply.content) for node, reply in replies.usable.items()}

    present = query(node_ids, {})
    lacking = {node: client.missing for node, client in present.items() if client.missing}
    if lacking:
        LOG.info("Sending a file to %d clients that lack it", len(lacking))
        present |= query(lacking, {sha: deliver(sha) for sha in set(lacking.values())})
    for node, client in present.items():
        if node not in failures and (reason := _reason_to_refuse(client, code, sums)):
            failures[node] = reason
    for node, reason in failures.items():
        LOG.warning("%s is refused: %s", node, reason)
    if strict and failures and not chosen:
        raise InputError(f"not all clients can take part: {_first(failures)}")

    clients: dict[str, Client] = {}
    for node, client in present.items():
        if node in failures:
            continue
        if client.name in clients:
            raise InputError(f"two clients are called {client.name!r}; give each its own site")
        clients[client.name] = Client(
            node_ids[node], client.num_train, client.num_valid, client.counts, client.sums
        )
    if sitting_out:
        LOG.info("%d clients are not chosen (clients) and sit out", len(sitting_out))
    if missing := sorted(set(chosen) - clients.keys(), key=natural_order):
        here = sorted({*clients, *sitting_out}, key=natural_order)
        refused = f" ({_first(failures)})" if failures else ""
        raise InputError(
            f"clients: {', '.join(missing)} cannot take part{refused}; there are "
            f"{', '.join(here) or 'none'}"
        )
    if not chosen and len(clients) < minimum:
        raise InputError(
            f"only {len(clients)} clients can take part, at least {minimum} are needed "
            f"(min-available-clients): {_first(failures)}"
        )
    return dict(sorted(clients.items(), key=lambda item: natural_order(item[0])))


def _reason_to_refuse(client: Introduction, code: str, sums: Mapping[str, np.ndarray]) -> str:
    """Why a client cannot take part; empty if it can."""
    if client.missing:
        return f"client {client.name} still lacks {client.missing}"
    if client.code != code:
        return (
            f"client {client.name} runs other code than the server, from {client.path}; end the "
            f"SuperLink, and start it outside of other checkouts of this app"
        )
    if different := difference(client.sums, sums):
        return f"client {client.name} sent other sums than were asked for: {different}"
    return ""


def natural_order(name: str) -> tuple[bool, int, str]:
    """Sort key: numbers by value, then names."""
    return not name.isdecimal(), int(name) if name.isdecimal() else 0, name


def _first(failures: Mapping[str, str]) -> str:
    return next((f"{node}: {reason}" for node, reason in failures.items()), "none replied")
