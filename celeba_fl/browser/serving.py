"""How the page is served: on this machine, or by TLS to others, until it is ended."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import uvicorn
from cryptography import x509

from celeba_fl.browser.connection import SuperLink
from celeba_fl.browser.runtime import runtime_folder
from celeba_fl.browser.server import Served, make_app
from celeba_fl.browser.try_out import Tickets
from celeba_fl.common.errors import InputError
from celeba_fl.common.names import is_private
from celeba_fl.deployment.front import LIMITS, SERVING

LOOPBACK: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")


class PageServer:
    """The page's server at an address; it listens from the start.

    Parameters
    ----------
    superlink : SuperLink
        Where calls go to.
    home : Path
        Folder for weights, graphs and ONNX Runtime Web.
    host, port : str, int
        Where it listens; port 0 is any that is free.
    certificate, key : Path, optional
        PEM files for TLS. An address that is not of this machine alone needs them: over plain HTTP
        a browser gives a page neither keys nor threads, and anybody in between could change it.
    runtime : Path, optional
        The package of ONNX Runtime Web, if it is not to be fetched.
    tickets : Tickets, optional
        Whose keys are registered.

    Raises
    ------
    InputError
        If it cannot listen there, or a file cannot be used.
    """

    def __init__(
        self,
        superlink: SuperLink,
        home: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        certificate: Path | None = None,
        key: Path | None = None,
        runtime: Path | None = None,
        tickets: Tickets | None = None,
    ) -> None:
        names, private = LOOPBACK, is_private(host)
        if (certificate is None) != (key is None):
            raise InputError("--ssl-certfile and --ssl-keyfile: give both of them, or neither")
        if certificate is not None and key is not None:
            names = (*_names(certificate, key), *LOOPBACK)
        elif not private:
            raise InputError(
                f"--host {host}: other machines would reach the page there, and browsers let a "
                f"page have keys over TLS alone; add --ssl-certfile and --ssl-keyfile (celeba-fl "
                f"credentials --host NAME makes them for a NAME), or leave --host out"
            )
        self._carrier = httpx.AsyncHTTPTransport(verify=superlink.context(), limits=LIMITS)
        folder = runtime_folder(home, runtime)
        served = Served(superlink, home, folder, names, private, tickets)
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = socket.create_server((host, port), family=family)
        except OSError as error:
            raise InputError(f"--host {host} --port {port}: {error.strerror or error}") from None
        config = uvicorn.Config(
            make_app(served, self._carrier),
            ssl_certfile=certificate,
            ssl_keyfile=key,
            log_level="warning",
            **SERVING,
        )
        self._server = uvicorn.Server(config)
        where = names[0] if certificate else LOOPBACK[0]
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://{where}:{self._listener.getsockname()[1]}/"

    def run(self) -> None:
        """Serve until Ctrl-C or SIGTERM."""
        # Not by uvloop, as uvicorn would: two of its loops in one process can end in a deadlock.
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        async with self._carrier:
            with self._listener:
                await self._server.serve(sockets=[self._listener])

    @contextlib.contextmanager
    def beside(self) -> Iterator[str]:
        """Serve while something else is done; gives the page's URL."""
        thread = threading.Thread(target=self.run, name="page")
        thread.start()
        try:
            yield self.url
        finally:
            self._server.should_exit = True
            thread.join()


def _names(certificate: Path, key: Path) -> list[str]:
    """The names and addresses that a certificate is for, as a URL has them; our own come last."""
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
        read = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise InputError(
            f"--ssl-certfile {certificate}, --ssl-keyfile {key}: {error}; they should be a PEM "
            f"certificate with the names of this machine in it, and its private key"
        ) from None
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    said = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    said += [f"[{address}]" if ":" in address else address for address in addresses]
    return sorted(said, key=lambda name: (name in LOOPBACK, "*" in name))
