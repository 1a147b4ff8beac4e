"""Whose keys are whose: what a client needs, if the server is not trusted to hand out keys."""

from typing import Protocol


class Identity(Protocol):
    """A client's signing key, and the public ones of the others."""

    name: str

    def sign(self, payload: bytes) -> bytes:
        """The signature of this client."""

    def check(self, name: str, payload: bytes, signature: bytes) -> None:
        """Raise InputError, which names the client, unless it has signed this."""
