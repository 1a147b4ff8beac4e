"""The roster: whose signing key is whose, as the sites know it and not as the server says.

Clients seal what they send to each other under keys that travel by way of the server. A server that
handed out keys of its own in the place of theirs could read all of it, so each client signs its
keys, and checks those of the others, by a list of public keys (Ed25519, RFC 8032) that came to the
site by another way::

    [keys]
    hospital-a = "ssh-ed25519 AAAA..."
    hospital-b = "ssh-ed25519 AAAA..."

Two keys of a node config say where the list is, and the site's own private key::

    roster = "/etc/celeba-fl/roster.toml"
    signing-key = "/etc/celeba-fl/signing.key"
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from celeba_fl.common.errors import InputError, printable
from celeba_fl.common.log import LOG
from celeba_fl.common.names import check_name, client_name

ROSTER, SIGNING_KEY = "roster", "signing-key"  # keys of a node config
TABLE = "keys"  # of a roster
# Stands before all that is signed: no signature of ours says anything in another protocol.
PURPOSE = b"celeba_fl.privacy.roster: the keys of a client for secure aggregation\0"


class Identity(Protocol):
    """A client that can prove who it is, and check who others are."""

    @property
    def name(self) -> str:
        """The client's own name."""

    def sign(self, payload: bytes) -> bytes:
        """The client's signature of a payload, which says what and when it is for."""

    def check(self, name: str, payload: bytes, signature: bytes) -> None:
        """Raise InputError unless the owner of a name has signed a payload."""


@dataclass(frozen=True)
class Rostered:
    """The `Identity` of a site that has a roster."""

    name: str
    keys: Mapping[str, Ed25519PublicKey]  # of all clients, by name
    own: Ed25519PrivateKey = field(repr=False)

    def sign(self, payload: bytes) -> bytes:
        return self.own.sign(PURPOSE + payload)

    def check(self, name: str, payload: bytes, signature: bytes) -> None:
        # These names are the server's: the whole message may go to it.
        if name not in self.keys:
            raise InputError(
                f"client {printable(name)} is not in the roster of {self.name}: have its public "
                f"key added to the roster of every site, or leave it out (clients)",
                open_to_all=True,
            )
        if not signature:
            raise InputError(
                f"client {name} has not signed its keys, and {self.name} has a roster: name "
                f"roster and signing-key in the node config of {name}",
                open_to_all=True,
            )
        try:
            self.keys[name].verify(signature, PURPOSE + payload)
        except InvalidSignature:
            raise InputError(
                f"the keys that came as those of client {name} are not signed by the key that the "
                f"roster of {self.name} has for it: if {name} has a new signing key, renew the "
                f"rosters; otherwise somebody between the sites has changed them",
                open_to_all=True,
            ) from None


def identity_of(node: Mapping[str, Any]) -> Identity | None:
    """Who the client of a node config is; None where it has no roster.

    Raises
    ------
    InputError
        If the roster or the key cannot be used, does not fit the client's name, or one is missing.
    """
    paths = [node.get(key) for key in (ROSTER, SIGNING_KEY)]
    if paths == [None, None]:
        _say_that_the_server_is_trusted()
        return None
    if None in paths:
        there, missing = (ROSTER, SIGNING_KEY) if paths[0] else (SIGNING_KEY, ROSTER)
        raise InputError(f"{there}: the node config needs {missing} too, or neither of them")
    name, roster, path = client_name(node), Path(str(paths[0])), Path(str(paths[1]))
    keys, own = read_roster(roster), read_signing_key(path)
    public = own.public_key()
    if name not in keys:
        raise InputError(
            f"roster = {str(roster)!r}: has no key of {name}, this site itself; add the public "
            f"half of {path} to it, here and at the other sites"
        )
    if keys[name] != public:
        owner = next((other for other, key in keys.items() if key == public), "nobody")
        raise InputError(
            f"signing-key = {str(path)!r}: by {roster} it is the key of {owner}, and this site "
            f"is {name}; name the file of its own key, or correct `site` or the roster"
        )
    return Rostered(name, keys, own)


def read_roster(path: Path) -> dict[str, Ed25519PublicKey]:
    """The public keys of a roster, by client.

    Raises
    ------
    InputError
        If the file cannot be read or is not such a list, a name is none, or two share a key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"roster = {str(path)!r}: {error.strerror}") from None
    except ValueError as error:  # no TOML, or not UTF-8
        raise InputError(f"roster = {str(path)!r}: is not a TOML file: {error}") from None
    table = content.get(TABLE)
    if content.keys() != {TABLE} or not isinstance(table, dict):
        raise InputError(f"roster = {str(path)!r}: should have one table, [keys]")
    keys: dict[str, Ed25519PublicKey] = {}
    for name, text in table.items():
        key = _public_key(text)
        check_name(f"{path}: client", name)
        if key is None:
            raise InputError(
                f"{path}: {name} = {printable(repr(text))}: should be a public key as "
                f'`ssh-keygen -t ed25519` writes it: "ssh-ed25519 AAAA..."'
            )
        if key in keys.values():
            raise InputError(f"{path}: {name}: has the key of another client; each needs its own")
        keys[name] = key
    return keys


def read_signing_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a file that nobody but its owner can read.

    Raises
    ------
    InputError
        If others can read the file, or it is not such a key.
    """
    try:
        with path.open("rb") as file:
            mode, data = os.fstat(file.fileno()).st_mode, file.read()
    except OSError as error:
        raise InputError(f"signing-key = {str(path)!r}: {error.strerror}") from None
    if mode & 0o077:
        raise InputError(
            f"signing-key = {str(path)!r}: others than its owner can read it "
            f"(mode {mode & 0o777:o}); chmod 600 it, and make a new key if they may have done so"
        )
    try:
        key = load_ssh_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(
            f"signing-key = {str(path)!r}: should be a private key as `ssh-keygen -t ed25519 "
            f'-N ""` writes it, without a passphrase'
        )
    return key


def _public_key(text: object) -> Ed25519PublicKey | None:
    """The key in a line as OpenSSH writes it; None if there is none in it."""
    try:
        key = load_ssh_public_key(str(text).encode())
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, Ed25519PublicKey) else None


@cache
def _say_that_the_server_is_trusted() -> None:
    LOG.info(
        "No roster here: secure sums trust the server to hand every client the others' own keys"
    )
