"""The roll call before round 1: every node introduces itself once, and gets the file it lacks."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from celeba_fl.common.errors import InputError, printable
from celeba_fl.common.flower import registered, simulation
from celeba_fl.common.log import LOG
from celeba_fl.common.names import check_name
from celeba_fl.rounds import messages
from celeba_fl.rounds.checking import (
    Client,
    check_introduction,
    check_reply,
    fault,
    largest_sum,
    told_hashes,
)
from celeba_fl.rounds.exchange import PhaseProgress, Replies, send_and_wait
from celeba_fl.rounds.messages import SITS_OUT, Introduction

SETTLE_SECONDS = 0.1


def wait_for_nodes(grid: Grid, minimum: int, seconds: float, key: str) -> list[int]:
    """Node ids, once there are `minimum` of them and no more are joining.

    Raises
    ------
    InputError
        If there are fewer after so many seconds, in a simulation at once; it names the `key` that
        asks for so many.
    """
    known = simulation(grid)
    patience = seconds if known is None else min(seconds, known)
    before: list[int] | None = None
    start, last_log = time.monotonic(), 0.0
    while True:
        now, waited = sorted(grid.get_node_ids()), time.monotonic() - start
        if (now == before or known == 0.0) and len(now) >= minimum:
            return now
        if now == before and waited >= patience:
            cure = "start more nodes, or set it lower"
            if known is None:
                cure += f"; {waited:.0f} s have been waited for them (wait-seconds)"
            raise InputError(f"{key}: needs {minimum} nodes, and there are {len(now)}; {cure}")
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
    num_counts: int,
    wait: float = 3600.0,
    strict: bool = False,
    chosen: Collection[str] = (),
    sums: Mapping[str, np.ndarray] = MappingProxyType({}),
    check: Callable[[Client], None] = lambda _: None,
    check_owner: Callable[[int, str], None] = lambda _, __: None,
    on_progress: Callable[[PhaseProgress], None] = lambda _: None,
    on_failures: Callable[[int, str, Mapping[str, str]], None] = lambda *_: None,
    send: Callable[..., dict[str, Replies]] = send_and_wait,
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
    num_counts : int
        Number of counts that a client sends.
    wait : float (default: 3600.0)
        Seconds to wait for `minimum` nodes; in simulation all are there at once.
    strict : bool (default: False)
        Whether the run fails if a client must be refused; otherwise it continues without that one.
        Without effect if clients are `chosen`.
    chosen : Collection[str] (default: ())
        The clients that take part, all of which must be there; empty: all clients. The nodes have
        this list from the run config, and other clients reply at once that they sit out.
    sums : dict[str, np.ndarray] (default: {})
        Arrays of the names, shapes and types that a client's sums must have.
    check : Callable[[Client], None]
        Raises an error at a client whose counts or sums cannot be right; it is refused.
    check_owner : Callable[[int, str], None]
        Raises InputError at a node, by its id, that may not have a name; it is refused.
    on_failures : Callable[[int, str, Mapping[str, str]], None]
        Called with round 0, ``query``, and why which nodes are refused.
    send : Callable (default: send_and_wait)
        How the exchange is done.

    Raises
    ------
    InputError
        If fewer than `minimum` or not all of `chosen` can take part, or, under `strict`, any is
        refused.
    """
    config = ConfigRecord(dict(instructions))  # type: ignore[arg-type]
    told = told_hashes(instructions)
    sitting_out: list[str] = []
    failures: dict[str, str] = {}
    key = "clients" if len(chosen) > minimum else "min-available-clients"
    nodes = wait_for_nodes(grid, max(minimum, len(chosen)), wait, key)
    node_ids = {f"node {node}": node for node in nodes}

    def query(nodes: Iterable[str], files: Mapping[str, bytes]) -> dict[str, Introduction]:
        content = messages.query(config, files)
        replies = send(
            grid,
            {messages.QUERY: [Message(content, node_ids[n], messages.QUERY) for n in nodes]},
            {node_id: node for node, node_id in node_ids.items()},
            server_round=0,
            phase=messages.QUERY,
            timeout=timeout,
            on_progress=on_progress,
        )[messages.QUERY]
        failures.update(replies.failures)
        present: dict[str, Introduction] = {}
        for node, reply in replies.usable.items():
            if chosen and SITS_OUT in reply.content.config_records:
                reason = fault(sit_out, node, reply.content)
            else:
                reason = fault(introduce, node, reply.content, present)
            if reason:
                failures[node] = reason
        return present

    def sit_out(node: str, content: RecordDict) -> None:
        """Note who has said that it does not take part."""
        sitting_out.append(own_name(node, content.config_records[SITS_OUT]))

    def own_name(node: str, said: ConfigRecord) -> str:
        """The name that a node says, which can be one and may be its own."""
        name = check_name("site", said.get("name"))
        if reason := fault(check_owner, node_ids[node], name):
            raise InputError(f"client {name}: {reason}")
        return name

    def introduce(node: str, content: RecordDict, present: dict[str, Introduction]) -> None:
        """Read a reply to the query, and check it by all that is known without the task."""
        name = own_name(node, content.config_records[messages.CLIENT])
        if reason := fault(read, node, content, present):
            raise InputError(f"client {name}: {reason}")

    def read(node: str, content: RecordDict, present: dict[str, Introduction]) -> None:
        check_reply(content, largest=largest_sum(len(node_ids)))
        client = Introduction.of(content)
        if client.code != code:
            raise InputError(
                f"it runs other code than the server, from {printable(client.path)}; end the "
                f"SuperLink, and start it outside of other checkouts of this app"
            )
        check_introduction(client, num_counts, sums, told)
        present[node] = client

    present = query(node_ids, {})
    lacking = {node: client for node, client in present.items() if client.missing}
    if lacking:
        LOG.info("Sending a file to %d clients that lack it", len(lacking))
        files: dict[str, bytes] = {}
        for node, client in lacking.items():
            del present[node]
            try:
                files[client.missing] = files.get(client.missing) or deliver(client.missing)
            except (InputError, OSError) as error:  # the run goes on without this client
                failures[node] = f"client {client.name} lacks a file that cannot be sent: {error}"
        present |= query([node for node in lacking if node not in failures], files)

    clients = _clients(present, node_ids, check, failures, lambda: registered(grid))
    for node, reason in failures.items():
        LOG.warning("%s is refused: %s", node, reason)
    on_failures(0, messages.QUERY, failures)
    if strict and failures and not chosen:
        raise InputError(f"not all clients can take part: {_first(failures)}")
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
    return clients


def _clients(
    present: Mapping[str, Introduction],
    node_ids: Mapping[str, int],
    check: Callable[[Client], None],
    failures: dict[str, str],
    registered: Callable[[], Mapping[int, str]],
) -> dict[str, Client]:
    """The clients that have all they need and are not at fault, by name; reasons for the others.

    A name belongs to the node that was registered first; where that is not known, to none.
    """
    reasons, clients = {}, {}
    for node, said in present.items():
        numbers = node_ids[node], said.num_train, said.num_valid
        counts, runs_in = said.counts.astype(np.int64), (said.runtime, said.probe)
        clients[node] = Client(*numbers, counts, said.sums, False, *runs_in)
        lacks = f"it still lacks {said.missing}" if said.missing else ""
        reasons[node] = lacks or fault(check, clients[node])
    of_name: dict[str, list[str]] = {}
    for node, said in present.items():
        if not reasons[node]:
            of_name.setdefault(said.name, []).append(node)
    for name, nodes in of_name.items():
        since = registered() if len(nodes) > 1 else {}
        taken = f"two clients are called {name!r}"
        if times := {node: since[node_ids[node]] for node in nodes if node_ids[node] in since}:
            nodes.remove(min(times, key=lambda node: (times[node], node)))
            taken = f"the name {name!r} belongs to a node that was registered before"
        if len(nodes) > 1 or times:
            reasons |= dict.fromkeys(nodes, f"{taken}; give each its own site")
    failures |= {node: f"client {present[node].name}: {r}" for node, r in reasons.items() if r}
    named = {present[node].name: clients[node] for node, reason in reasons.items() if not reason}
    return {name: named[name] for name in sorted(named, key=natural_order)}


def natural_order(name: str) -> tuple[bool, int, str]:
    """Sort key: numbers by value, then names."""
    return not name.isdecimal(), int(name) if name.isdecimal() else 0, name


def _first(failures: Mapping[str, str]) -> str:
    return next((f"{node}: {reason}" for node, reason in failures.items()), "none replied")
