"""Names bound to keys: a client takes part under the name that belongs to its key, or not at all.

The list is the server's, in lines as OpenSSH has them for those who may log in: a node's public
key, and after it the name of its client. Whoever runs the server names it in the environment of the
SuperLink; who starts runs has no say in it.
"""

import os
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.serverapp import Grid

from celeba_fl.common import flower
from celeba_fl.common.errors import InputError
from celeba_fl.common.names import check_name
from celeba_fl.data.text import read_text

VARIABLE = "CELEBA_FL_CLIENT_KEYS"


def name_check(grid: Grid) -> Callable[[int, str], None]:
    """What raises InputError at a node that takes a name which does not belong to its key.

    Without a list in the environment every name is right.
    """
    if not os.environ.get(VARIABLE):
        return lambda node_id, name: None
    path = Path(os.environ[VARIABLE])
    owners, keys = read_client_keys(path), flower.public_keys(grid)

    def check(node_id: int, name: str) -> None:
        owner = owners.get(keys.get(node_id, ""))
        if owner is None:
            raise InputError(
                f"its key is not listed; if it is the key of {name}, add it to {path} on the "
                f"server: the public key, and the name after it"
            )
        if owner != name:
            raise InputError(
                f"it has the key of {owner}; set site = {owner!r} in its node config, or correct "
                f"{path} on the server"
            )

    return check


def read_client_keys(path: Path) -> dict[str, str]:
    """The name of the client that each public key of a list belongs to.

    Raises
    ------
    InputError
        If the file cannot be read, a line has no key and name, or has one of another line.
    """
    names: dict[str, str] = {}
    try:
        lines = read_text(path).splitlines()
    except OSError as error:
        raise InputError(f"{VARIABLE} = {path}: {error.strerror}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        where = f"{path}, line {number}"
        kind, key, name = [*line.strip().split(maxsplit=2), "", ""][:3]
        try:
            load_ssh_public_key(f"{kind} {key}".encode())
        except (ValueError, UnsupportedAlgorithm):
            raise InputError(
                f"{where}: should be a public key as OpenSSH writes it, and the client's name "
                f"after it: ecdsa-sha2-nistp384 AAAA... hospital-a"
            ) from None
        check_name(where, name)
        if f"{kind} {key}" in names or name in names.values():
            raise InputError(f"{where}: the key or the name of {name} has another line already")
        names[f"{kind} {key}"] = name
    return names
