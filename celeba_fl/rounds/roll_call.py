"""Before round 1: every node is asked once who it is, and gets what it lacks."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from celeba_fl.common.bundle import code_hash
from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.rounds.exchange import (
    PhaseProgress,
    Replies,
    num_examples,
    reject_unusable,
    send_and_wait,
)
from celeba_fl.task import SITS_OUT

SETTLE_SECONDS = 0.1


@dataclass(frozen=True)
class Client:
    """A client as it described itself.

    Parameters
    ----------
    node_id : int
        Flower's, of this run only.
    num_train, num_valid : int
        Its examples.
    counts : np.ndarray
        (k,) int64, in the order of the task's `count_names`.
    """

    node_id: int
    num_train: int
    num_valid: int
    counts: np.ndarray


def wait_for_nodes(grid: Grid, minimum: int) -> list[int]:
    """Node ids, once there are `minimum` of them and no more are coming in."""
    known: list[int] = []
    said = 0.0
    while True:
        now = sorted(grid.get_node_ids())
        if now == known and len(now) >= minimum:
            return now
        if len(now) < minimum and time.monotonic() - said > 10:
            said = time.monotonic()
            LOG.info("Waiting for clients: %d of at least %d are here", len(now), minimum)
        known = now
        time.sleep(SETTLE_SECONDS)


def roll_call(
    grid: Grid,
    instructions: Mapping[str, object],
    deliver: Callable[[str], bytes],
    *,
    minimum: int,
    timeout: float,
    strict: bool = False,
    chosen: Collection[str] = (),
    on_progress: Callable[[PhaseProgress], None] = lambda _: None,
) -> dict[str, Client]:
    """Ask all nodes who they are; the query replies with a ConfigRecord ``client``.

    Parameters
    ----------
    grid : Grid
        Flower's connection to the nodes.
    instructions : Mapping[str, object]
        What the task tells every client.
    deliver : Callable[[str], bytes]
        The file of a hash, for clients that miss it.
    minimum : int
        Fewest clients to start with; with `chosen`, fewest nodes to wait for.
    timeout : float
        Seconds to wait for the replies.
    strict : bool (default: False)
        Whether a client that must be refused is an error; else the others go on without it. Of
        `chosen` ones it always is, and of others never.
    chosen : Collection[str] (default: ())
        The clients that take part, all of which must; none: all there are. The nodes know it from
        the run config, and those of other clients say at once that they sit out.
    on_progress : Callable[[PhaseProgress], None]
        Called as replies arrive.

    Returns
    -------
    dict[str, Client]
        By name, sorted by name.

    Raises
    ------
    InputError
        If two clients have one name, fewer than `minimum` or not all of `chosen` can take part,
        or, under `strict`, any is refused.
    """
    config = ConfigRecord(dict(instructions))  # type: ignore[arg-type]
    sitting_out: list[str] = []

    def query(node_ids: list[int], files: ArrayRecord) -> Replies:
        content = RecordDict({"config": config, "files": files})
        messages = [Message(content, dst_node_id=node, message_type="query") for node in node_ids]
        names = {node: f"node {node}" for node in node_ids}
        replies = send_and_wait(
            grid,
            messages,
            names,
            number=0,
            phase="query",
            timeout=timeout,
            on_progress=on_progress,
        )
        for node, message in list(replies.usable.items()):
            if SITS_OUT in message.content.config_records:
                sitting_out.append(str(message.content.config_records[SITS_OUT]["name"]))
                del replies.usable[node]
        reject_unusable(replies)
        return replies

    replies = query(wait_for_nodes(grid, max(minimum, len(chosen))), ArrayRecord())
    lacking = {
        message.metadata.src_node_id: str(_about(message)["missing"])
        for message in replies.usable.values()
        if _about(message)["missing"]
    }
    if lacking:
        LOG.info("Sending a file to %d clients that lack it", len(lacking))
        files = {sha: np.frombuffer(deliver(sha), np.uint8) for sha in set(lacking.values())}
        again = query(list(lacking), ArrayRecord({sha: Array(a) for sha, a in files.items()}))
        replies.usable |= again.usable
        replies.failures |= again.failures
    for node, message in replies.usable.items():
        if _about(message)["missing"]:
            replies.failures[node] = (
                f"client {_about(message)['name']!s} still lacks {_about(message)['missing']!s}"
            )
        elif _about(message)["code"] != code_hash():
            replies.failures[node] = (
                f"client {_about(message)['name']!s} runs other code than the server, from "
                f"{_about(message)['path']!s}; end the SuperLink, and start it outside of other "
                f"checkouts of this app"
            )
    for node, reason in replies.failures.items():
        LOG.warning("%s is refused: %s", node, reason)
    if strict and replies.failures and not chosen:
        raise InputError(f"not all clients can take part: {_first(replies.failures)}")

    clients: dict[str, Client] = {}
    for node, message in replies.usable.items():
        if node in replies.failures:
            continue
        metrics = message.content["metrics"]
        name = str(_about(message)["name"])
        if name in clients:
            raise InputError(f"two clients are called {name!r}; give each its own site")
        clients[name] = Client(
            node_id=message.metadata.src_node_id,
            num_train=num_examples(message.content),
            num_valid=int(metrics["num-valid"]),  # type: ignore[arg-type]
            counts=message.content["counts"]["counts"].numpy(),  # type: ignore[union-attr]
        )
    if sitting_out:
        LOG.info("%d clients are not chosen (clients) and sit out", len(sitting_out))
    missing = sorted(set(chosen) - clients.keys(), key=natural_order)
    if missing:
        here = sorted({*clients, *sitting_out}, key=natural_order)
        refused = f" ({_first(replies.failures)})" if replies.failures else ""
        raise InputError(
            f"clients: {', '.join(missing)} cannot take part{refused}; there are "
            f"{', '.join(here) or 'none'}"
        )
    if not chosen and len(clients) < minimum:
        raise InputError(
            f"only {len(clients)} clients can take part, at least {minimum} are needed "
            f"(min-available-clients): {_first(replies.failures)}"
        )
    return dict(sorted(clients.items(), key=lambda item: natural_order(item[0])))


def _about(message: Message) -> ConfigRecord:
    """What a client says of itself in words."""
    return message.content.config_records["client"]


def natural_order(name: str) -> tuple[bool, int, str]:
    """Sort key: numbers by value, then names."""
    return not name.isdecimal(), int(name) if name.isdecimal() else 0, name


def _first(failures: Mapping[str, str]) -> str:
    return next((f"{node}: {reason}" for node, reason in failures.items()), "none answered")
