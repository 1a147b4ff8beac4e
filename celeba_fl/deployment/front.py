"""The front of a deployment: it passes a SuperNode's calls on to the SuperLink, and nothing else.

Flower serves its APIs for sites, for users and for its own processes on one port, and asks sites
alone for a key: anybody else who reaches that port starts runs and registers nodes. So the
SuperLink listens on the loopback address, and sites call this process, or nginx with the
configuration that lies beside it.
"""

import argparse
import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

FLEET = "/v1/fleet/"
SMALL, LARGE = 2**20, 2**24
# The calls of a SuperNode whose key is registered, and how many bytes each may send: arrays come in
# chunks of 5 MB. A node without a key would call register-node and unregister-node as well.
CALLS = {
    "activate-node": SMALL,
    "deactivate-node": SMALL,
    "send-node-heartbeat": SMALL,
    "pull-messages": SMALL,
    "push-messages": SMALL,
    "get-run": SMALL,
    "get-fab": SMALL,
    "pull-object": SMALL,
    "push-object": LARGE,
    "confirm-message-received": SMALL,
}
# Who calls, and by which version of Flower.
NODE_HEADERS = ("flwr-public-key", "flwr-timestamp", "flwr-signature")
VERSION_HEADERS = ("flwr-package-name", "flwr-package-version", "flwr-component-name")
REQUEST_HEADERS = ("content-type", "accept", *NODE_HEADERS, *VERSION_HEADERS)
RESPONSE_HEADERS = ("content-type", "flwr-version-incompatibility-message")

CALL_SECONDS = 60.0  # from the head of a request to the end of the SuperLink's answer
IDLE_SECONDS = 30.0  # longer than a SuperNode keeps a connection that it does not use
# uvicorn of the SuperLink closes a connection after 5 s.
LIMITS = httpx.Limits(max_connections=128, max_keepalive_connections=32, keepalive_expiry=2.0)


def make_front(superlink: httpx.AsyncBaseTransport, url: str) -> Starlette:
    """The front of a SuperLink with this URL, to which a transport carries what is passed on."""
    front = Starlette(
        routes=[passing(superlink, url, CALLS)],
        exception_handlers={HTTPException: _refuse, ClientDisconnect: _refuse},
    )
    front.router.redirect_slashes = False
    return front


def passing(superlink: httpx.AsyncBaseTransport, url: str, calls: Mapping[str, int]) -> Route:
    """The route by which these calls, each of so many bytes at most, get to a SuperLink.

    A client of httpx would add headers, and keep cookies of one site for another.
    """

    async def call(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in calls:
            raise HTTPException(404)
        # In bytes: a header may hold what is not ASCII, and is the SuperLink's to judge.
        sent = {key: value for key, value in request.headers.raw if key.decode() in REQUEST_HEADERS}
        body = _bounded(request.stream(), calls[name], 413)
        passed = httpx.Request("POST", f"{url}{FLEET}{name}", headers=sent, content=body)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                answer = await superlink.handle_async_request(passed)
                async with aclosing(answer):
                    assert isinstance(answer.stream, httpx.AsyncByteStream)
                    chunks = [chunk async for chunk in _bounded(answer.stream, LARGE, 502)]
        except (httpx.HTTPError, TimeoutError):
            raise HTTPException(502) from None  # a SuperNode tries again
        headers = {
            name: answer.headers[name] for name in RESPONSE_HEADERS if name in answer.headers
        }
        return Response(b"".join(chunks), answer.status_code, headers)

    return Route(f"{FLEET}{{name}}", call, methods=["POST"])


async def _bounded(chunks: AsyncIterable[bytes], limit: int, status: int) -> AsyncIterator[bytes]:
    """The chunks of a body, as they come, as long as all of them have `limit` bytes at most."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise HTTPException(status)
        yield chunk


async def _refuse(request: Request, error: Exception) -> Response:
    """A status and not a word; of a path it is not told whether another method would do."""
    status = error.status_code if isinstance(error, HTTPException) else 400
    return Response(status_code=404 if status == 405 else status, headers={"connection": "close"})


class Impatient(H11Protocol):
    """HTTP as uvicorn speaks it, which would wait for ever for the head of a request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look, now and then, whether something is going on."""
        super().connection_made(transport)
        self._watch(None)

    def _watch(self, before: object) -> None:
        """Close the connection if no request was under way last time, and none has come since."""
        idle = self.cycle is None or self.cycle.response_complete
        if idle and before == (self.cycle, True):
            self.transport.close()
        elif not self.transport.is_closing():
            self.loop.call_later(IDLE_SECONDS, self._watch, (self.cycle, idle))


SERVING: dict[str, Any] = {
    "http": Impatient,
    "ws": "none",
    "lifespan": "off",
    "timeout_keep_alive": int(IDLE_SECONDS),
    "timeout_graceful_shutdown": 3,
    "limit_concurrency": 512,
    "proxy_headers": False,
    "server_header": False,
}


def main() -> None:
    """Serve the front of a SuperLink on this machine."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--superlink", required=True, help="its address")
    parser.add_argument("--credentials", type=Path, required=True, help="folder of certificates")
    options = parser.parse_args()
    context = ssl.create_default_context(cafile=options.credentials / "ca.crt")
    superlink = httpx.AsyncHTTPTransport(verify=context, limits=LIMITS)
    uvicorn.run(
        make_front(superlink, f"https://{options.superlink}"),
        host=options.host,
        port=options.port,
        ssl_certfile=options.credentials / "server.crt",
        ssl_keyfile=options.credentials / "server.key",
        **SERVING,
    )


if __name__ == "__main__":
    main()
