"""Whose keys are whose: what a client needs, if the server is not trusted to hand out keys."""

from typing import Protocol


class Identity(Protocol):
    """A client that can prove who it is, and check who others are."""

    @property
    def name(self) -> str:
        """The client's own name."""

    def sign(self, payload: bytes) -> bytes:
        """The signature of this client."""

    def check(self, name: str, payload: bytes, signature: bytes) -> None:
        """Raise InputError, which names the client, unless it has signed this."""
