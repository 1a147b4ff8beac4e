"""All that this package uses of Flower's private modules, which any release may change.

Tried with the versions that `pyproject.toml` allows. Each function imports what it needs: a command
that starts nothing does not wait for Flower.
"""

import copy
import secrets
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from celeba_fl.common.errors import InputError

if TYPE_CHECKING:
    from flwr.app import Error, Message, RecordDict
    from flwr.serverapp import Grid
    from flwr.supercore.run import Run as Run


# The grids of simulations, on which nobody comes later, and the seconds until all are there: our
# own and, where nodes are registered while the ServerApp starts, Flower's.
SIMULATIONS = {"InlineGrid": 0.0, "InMemoryGrid": 30.0}


def simulation(grid: "Grid") -> float | None:
    """The seconds until all clients of a simulation are there; None if they are deployed."""
    return next((SIMULATIONS[name] for name in _kinds(grid) if name in SIMULATIONS), None)


def _kinds(grid: "Grid") -> list[str]:
    """What a grid is, by name: importing Flower's takes longer than asking."""
    return [kind.__name__ for kind in type(grid).__mro__]


def ends_slowly(grid: "Grid") -> bool:
    """Whether it is that of Flower's simulation engine, which takes seconds to end its workers."""
    return "InMemoryGrid" in _kinds(grid)


def at_the_end(grid: "Grid", work: Callable[[], None]) -> None:
    """Do what a ServerApp does last; where the grid ends slowly, meanwhile.

    Then Flower's process waits for the work before it exits.
    """
    if not ends_slowly(grid):
        work()
        return
    from flwr.supercore.exit import add_exit_handler

    thread = Thread(target=work, name="last-work")
    thread.start()
    add_exit_handler(thread.join, run_before_force_exit=True)


_INLINE = ContextVar("inline", default=False)


@contextmanager
def inline() -> Iterator[None]:
    """Let what runs within it be clients of a simulation in this process."""
    token = _INLINE.set(True)
    try:
        yield
    finally:
        _INLINE.reset(token)


def simulated() -> bool:
    """Whether a client that runs here is simulated, so that its owner has the server, too."""
    return _INLINE.get() or "flwr.simulation.ray_transport.ray_actor" in sys.modules


def new_run() -> "Run":
    """A run with a random id, whose task this process has; records can be made from then on."""
    from flwr.supercore.run import Run

    run = Run.create_empty(secrets.randbits(63))
    identify(run.run_id)
    return run


def identify(run_id: int) -> None:
    """Let this process be a task of a run, without which Flower makes no messages."""
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, 1, 1


def send(message: "Message") -> str:
    """Give a message a random id, as a SuperLink does when it takes it; that id."""
    message.metadata.__dict__["_message_id"] = secrets.token_hex(16)
    return str(message.metadata.message_id)


def altered(message: "Message", content: "RecordDict | Error", message_type: str) -> "Message":
    """A message of another type, with other content or an error, between the same nodes."""
    from flwr.app import Error, Message

    metadata = copy.copy(message.metadata)
    metadata.message_type = message_type
    what = "error" if isinstance(content, Error) else "content"
    return Message(metadata=metadata, **{what: content})  # type: ignore


def failure(reason: str) -> "Error":
    """What a client whose app raised sends in the place of a reply."""
    from flwr.app import Error
    from flwr.common.constant import ErrorCode

    return Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason)


def public_keys(grid: "Grid") -> dict[int, str]:
    """The public key of each node that is online, by its id, as OpenSSH writes it.

    A SuperLink has seen to it that who speaks for a node has its key. A node that needed none has
    made one up, or has an empty one.
    """
    return {node.node_id: _openssh(node.public_key) for node in grid.get_nodes()}


def registered(grid: "Grid") -> dict[int, str]:
    """When each node that is online was registered (ISO 8601), by its id; empty in a simulation."""
    nodes = grid.get_nodes() if simulation(grid) is None else ()
    return {node.node_id: node.registered_at for node in nodes}


def _openssh(pem: bytes) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_public_key,
    )

    try:
        key = load_pem_public_key(pem)
        return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    except (ValueError, UnsupportedAlgorithm):
        return ""


def try_node_key(address: str, root: Path | None, key: bytes) -> str:
    """Enter a SuperLink with a SuperNode's private key, and leave; why it is refused, else empty.

    Raises
    ------
    ValueError
        If it is no private key of the kind that nodes have.
    """
    import httpx
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key
    from flwr.proto.fleet_pb2 import ActivateNodeRequest, DeactivateNodeRequest
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    private = load_ssh_private_key(key, None)
    if not isinstance(private, EllipticCurvePrivateKey):
        raise ValueError("another kind of key")
    public = private.public_key()
    signs = [NodeAuthHttpInterceptor(private, public)]
    ca = root.read_bytes() if root else None
    with FleetHttpClient.from_server_address(address, False, ca, signs) as client:
        asked = ActivateNodeRequest(public_key=public_key_to_bytes(public), heartbeat_interval=30)
        try:
            node_id = client.ActivateNode(asked).node_id
        except httpx.HTTPStatusError as error:
            return f"{error.response.status_code} {error.response.text[:200]}"
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}"
        client.DeactivateNode(DeactivateNodeRequest(node_id=node_id))
    return ""


def look_by_node(grid: Any) -> None:
    """Let the engine of a simulation find the messages of a node by the node.

    Flower's looks through all messages for each node, again and again: with 10,000 nodes that takes
    2.5 s in a round of 100 and minutes in the roll call. Any other grid is left as it is.
    """
    engine = sys.modules.get("flwr.server.superlink.linkstate")  # half a second, where it is not
    state: Any = getattr(grid, "state", None)
    if engine is None or not isinstance(state, engine.InMemoryLinkState):
        return
    store = state.store_message_ins
    waiting: dict[int, deque[Message]] = {}

    def store_message_ins(message: "Message") -> str | None:
        key = store(message)
        if key:
            waiting.setdefault(message.metadata.dst_node_id, deque()).append(message)
        return key

    def get_message_ins(node_id: int, limit: int | None, **_: Any) -> list["Message"]:
        queue = waiting.get(node_id)
        found: list[Message] = []
        while queue and (limit is None or len(found) < limit):
            message = queue.popleft()
            if message.metadata.message_id in state.message_ins_store:  # else it has expired
                message.metadata.delivered_at = datetime.now(UTC).isoformat()
                found.append(message)
        return found

    state.store_message_ins = store_message_ins
    state.get_message_ins = get_message_ins


def local_superlink_port(environment: Mapping[str, str]) -> str:
    """The port of the SuperLink that Flower's commands start for simulations."""
    from flwr.cli.constant import LOCAL_SUPERLINK_HTTP_API_PORT

    return environment.get("FLWR_LOCAL_SUPERLINK_HTTP_API_PORT", LOCAL_SUPERLINK_HTTP_API_PORT)


def connections() -> dict[str, Any]:
    """The connections of Flower's commands by name, and their ``default``."""
    from flwr.cli.flower_config import read_flower_config

    known: dict[str, Any] = read_flower_config()[0].get("superlink", {})
    return known


def write_connection(name: str, address: str, **options: Any) -> None:
    """Add a connection to those of Flower's commands, or replace it."""
    from flwr.cli.flower_config import write_superlink_connection
    from flwr.cli.typing import SuperLinkConnection

    write_superlink_connection(SuperLinkConnection(name, address=address, **options))


def num_supernodes(settings: Mapping[str, Any], path: Path) -> int:
    """The number of nodes by the content of a federation file, which is read as Flower reads it.

    Raises
    ------
    InputError
        If Flower would not take a setting, or there would be no node.
    """
    from flwr.common.config import flatten_dict
    from flwr.supercore.constant import DEFAULT_SIMULATION_CONFIG
    from flwr.supercore.utils import simulation_config_from_json

    number = int(DEFAULT_SIMULATION_CONFIG.num_supernodes)
    if path.suffix != ".toml":  # else Flower reads the name for pairs key=value
        raise InputError(f"{path}: the name of a federation file ends in .toml")
    for key, value in settings.items():
        try:
            for name, one in flatten_dict({key: value}).items():
                simulation_config_from_json({name.replace("-", "_"): one})
        except (ValueError, TypeError) as error:
            if key != "num-supernodes":
                raise InputError(f"{path}: {key} = {value!r}: refused by Flower: {error}") from None
        if key in ("num-supernodes", "num_supernodes"):
            number = value
    if type(number) is not int or not 0 < number < 2**32:
        raise InputError(f"{path}: num-supernodes = {number!r}: must be a whole number above 0")
    return number
