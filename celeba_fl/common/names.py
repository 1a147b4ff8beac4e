"""Names of clients, of runs and of hosts: one rule for each, and where a node has its own from."""

import ipaddress
from collections.abc import Mapping
from typing import Any

from celeba_fl.common.errors import InputError, printable

NAME_LENGTH = 100
RUN_NAME_LENGTH, NOTE_LENGTH = 60, 500
LATEST = "latest"


def check_name(key: str, name: object) -> str:
    """The name of a client; InputError if it cannot stand in a list, a log or a table."""
    right = isinstance(name, str) and 0 < len(name) <= NAME_LENGTH and name.isprintable()
    if not right or name.strip() != name or "," in name or name[0] in "=+-@":  # type: ignore
        raise InputError(
            f"{key} = {printable(repr(name))}: a client's name has 1 to {NAME_LENGTH} printable "
            f"characters, no comma in it and no space around it, so that `clients` can name it, "
            f"and does not begin like a formula (= + - @)"
        )
    return str(name)


def client_name(node: Mapping[str, Any]) -> str:
    """The one name of a client: its `site`, else its partition id.

    Raises
    ------
    InputError
        If the node config has neither, or the name cannot stand in a list of names.
    """
    for key in ("site", "partition-id"):
        if key in node:
            return check_name(key, str(node[key]))
    raise InputError(
        "this node has no name: start it with --node-config 'partition-id=0 num-partitions=2' "
        'or with \'site="hospital-a" data-path="/srv/faces"\''
    )


def check_run_name(key: str, name: object) -> str:
    """The name of a run; InputError if it cannot stand in a list, or where a path can stand."""
    right = isinstance(name, str) and 0 < len(name) <= RUN_NAME_LENGTH and name.isprintable()
    if (
        not right
        or name == LATEST
        or name.strip() != name  # type: ignore[attr-defined]
        or name[0] in "=+-@.~"  # type: ignore[index]
        or set(name) & {"/", "\\"}  # type: ignore[call-overload]
    ):
        raise InputError(
            f"{key} = {printable(repr(name))}: a run's name has 1 to {RUN_NAME_LENGTH} printable "
            f"characters, neither / nor \\ in it and no space around it, does not begin with = + "
            f"- @ . or ~, and is not {LATEST!r}, so that commands can tell it from a path"
        )
    return str(name)


def check_note(key: str, note: object) -> str:
    """What there is to say of a run; InputError unless it is a line that can be shown."""
    if not isinstance(note, str) or len(note) > NOTE_LENGTH or not note.isprintable():
        raise InputError(
            f"{key} = {printable(repr(note))}: must be one line of at most {NOTE_LENGTH} printable "
            f"characters"
        )
    return note


def is_private(host: str) -> bool:
    """Whether an address to listen on is of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
