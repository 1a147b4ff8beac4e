"""What a tab needs to try a federation: drawn faces, and a way to have its key registered."""

import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data import sources
from celeba_fl.launch.experiments import parse_pair
from celeba_fl.tasks.client_data import ClientData

# Keys of a run by which its images are dealt.
DEALING = (
    *("partitioner", "partition-by", "dirichlet-alpha", "dirichlet-order", "min-partition-size"),
    *("partition-size", "public-fraction", "seed"),
)


@lru_cache(maxsize=4)
def partition(
    home: Path, number: int, of: int, dealing: tuple[tuple[str, str], ...]
) -> tuple[list[dict[str, Any]], bytes]:
    """The drawn faces that a Python client with this partition holds, and their encoded images.

    `dealing` has run-config keys in pairs, values as a command has them. The images are one after
    the other, and each face says where its own begins.

    Raises
    ------
    InputError
        If a key is unknown or its value wrong, or there is no such partition.
    """
    settings = dict(parse_pair(f"{key}={value}") for key, value in dealing)
    for key in settings:
        if key not in DEALING:
            raise InputError(f"{key}: does not deal images; there are {', '.join(DEALING)}")
    if not 0 <= number < of <= 10_000:
        raise InputError(f"partition {number} of {of}: there is no such part")
    config = RunConfig.load({**settings, "dataset": "drawn", "home": str(home)})
    data = ClientData(config, sources.load)
    rows = data.held({"partition-id": number, "num-partitions": of})
    table, faces, images = data.table, [], bytearray()
    for row in rows.tolist():
        image = table.read(row)
        face = {
            "file": str(table.image[row]),
            "content": str(table.content[row]),  # more digits than a number of JavaScript has
            "celeb_id": int(table.celeb_id[row]),
            "labels": "".join("01"[label] for label in table.labels[row].astype(int)),
        }
        faces.append({**face, "offset": len(images), "length": len(image)})
        images += image
    return faces, bytes(images)


class Tickets:
    """Leave for some tabs to have their keys registered, each for one name and one key.

    A ticket is a secret that whoever opens the tab puts into its address. No other page has it, and
    what it is worth is one place in one federation. Another user of the machine could read it in
    the list of processes, as the address with which a browser is started, and be faster.

    Parameters
    ----------
    admit : Callable[[str, str], None]
        Registers a key, as OpenSSH writes it, as that of the client with this name.
    """

    def __init__(self, admit: Callable[[str, str], None]) -> None:
        self._admit, self._lock = admit, threading.Lock()
        self._names: dict[str, str] = {}
        self._keys: dict[str, str] = {}

    def issue(self, name: str) -> str:
        """A new ticket, for the tab of this name."""
        ticket = token_urlsafe(24)
        self._names[ticket] = name
        return ticket

    def use(self, said: Mapping[str, Any]) -> None:
        """Register the key of whoever has a ticket; that of a tab that was reloaded is known.

        Raises
        ------
        InputError
            If it is no ticket or no key, or the ticket was used for another key.
        """
        ticket, key = str(said.get("ticket")), str(said.get("key"))
        if ticket not in self._names:
            raise InputError("this is no ticket of this try; open the address that it has printed")
        with self._lock:
            if ticket not in self._keys:
                _check_key(key)
                self._admit(self._names[ticket], key)
                self._keys[ticket] = key
            elif self._keys[ticket] != key:
                raise InputError(
                    f"client {self._names[ticket]} has another key already; a tab has its key as "
                    f"long as its browser keeps the data of this page. Start the try again"
                )


def _check_key(key: str) -> None:
    try:
        public = load_ssh_public_key(key.encode())
    except (ValueError, UnsupportedAlgorithm):
        public = None
    right = isinstance(public, EllipticCurvePublicKey) and isinstance(public.curve, SECP384R1)
    if not right or len(key.split()) != 2 or not key.isprintable():
        raise InputError("key: should be ecdsa-sha2-nistp384 AAAA..., without a comment")
