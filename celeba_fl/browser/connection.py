"""Which SuperLink the page's calls go to: a connection of Flower's commands."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from celeba_fl.common import flower
from celeba_fl.common.errors import InputError


@dataclass(frozen=True)
class SuperLink:
    """A SuperLink, or the front of one."""

    name: str  # of the connection
    address: str
    ca: Path | None = None  # whose certificates are believed; None: those that the system believes
    insecure: bool = False

    @property
    def url(self) -> str:
        """Where calls go to, without a path."""
        return f"{'http' if self.insecure else 'https'}://{self.address}"

    def context(self) -> ssl.SSLContext:
        """What checks its certificate.

        Raises
        ------
        InputError
            If `ca` cannot be read, or is no certificate.
        """
        try:
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror if isinstance(error, FileNotFoundError) else "no certificate"
            raise InputError(
                f"connection {self.name!r}: root-certificates = {str(self.ca)!r}: {reason}; it "
                f"should be the ca.crt of whoever runs the SuperLink"
            ) from None


def superlink(name: str | None) -> SuperLink:
    """The SuperLink of a connection of Flower's commands; without a name, of the default one.

    Raises
    ------
    InputError
        If there is no such connection, or it leads to a simulation or nowhere.
    """
    known = flower.connections()
    named = {key: value for key, value in known.items() if isinstance(value, dict)}
    chosen = name if name is not None else known.get("default")
    if chosen not in named:
        raise InputError(
            f"connection {chosen!r}: is none of Flower's ({', '.join(named)}); add it to "
            f"config.toml in ~/.flwr: [superlink.{chosen or 'NAME'}], with address = "
            f'"fl.example.org:443" and root-certificates = "/path/of/ca.crt"'
        )
    said = named[chosen]
    address, ca = str(said.get("address", "")), said.get("root-certificates")
    if not address or address.startswith(":") or "options" in said:
        others = [key for key in named if not str(named[key].get("address", ":")).startswith(":")]
        raise InputError(
            f"connection {chosen!r}: is a simulation, whose clients are made by itself; name a "
            f"SuperLink that nodes can reach ({', '.join(others) or 'there is none yet'}), or try "
            f"it with: celeba-fl deploy local --browsers 3"
        )
    if "/" in address or not address.rpartition(":")[2].isdecimal():
        raise InputError(
            f"connection {chosen!r}: address = {address!r}: should be a name or an IP address, and "
            f"a port, as in fl.example.org:443"
        )
    return SuperLink(chosen, address, Path(ca) if ca else None, bool(said.get("insecure", False)))
