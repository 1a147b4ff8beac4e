"""A page's server without a network: what it is asked, and what the SuperLink behind it is."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from toys import write_celeba

from celeba_fl.browser.connection import SuperLink
from celeba_fl.browser.guard import Guard
from celeba_fl.browser.server import Served, make_app
from celeba_fl.browser.try_out import Tickets

ORIGIN = "http://127.0.0.1:8600"


class Browser:
    """Asks an app as the page itself would, where it does not say otherwise."""

    def __init__(self, app: Guard) -> None:
        self.app, self.headers = app, {"origin": ORIGIN}

    def request(
        self, method: str, url: str | httpx.URL, *, headers: Any = None, **more: Any
    ) -> httpx.Response:
        """The answer to a request."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
                said = {**self.headers, **(headers or {})}
                return await client.request(method, url, headers=said, **more)

        return asyncio.run(ask())

    def get(self, url: str | httpx.URL, **more: Any) -> httpx.Response:
        """The answer to this request."""
        return self.request("GET", url, **more)

    def post(self, url: str, **more: Any) -> httpx.Response:
        """The answer to this request."""
        return self.request("POST", url, **more)

    def put(self, url: str, **more: Any) -> httpx.Response:
        """The answer to this request."""
        return self.request("PUT", url, **more)


class Page:
    """The server of a page at `ORIGIN`."""

    def __init__(self, folder: Path) -> None:
        self.home, self.runtime = folder / "home", folder / "ort"
        self.runtime.mkdir()
        (self.runtime / "ort.wasm.min.mjs").write_text("export {}")
        write_celeba(self.home / "drawn")
        self.asked: list[httpx.Request] = []
        self.admitted: list[tuple[str, str]] = []
        self.tickets = Tickets(lambda name, key: self.admitted.append((name, key)))
        self.answer: Callable[[], httpx.Response] = lambda: httpx.Response(200, content=b"yes")

    def client(self, drawn: bool = True, tickets: bool = True) -> Browser:
        """A browser that asks for it, from the page itself where it does not say otherwise."""

        async def superlink(request: httpx.Request) -> httpx.Response:
            await request.aread()
            self.asked.append(request)
            return self.answer()

        link = SuperLink("theirs", "there:443")
        names = ("127.0.0.1", "localhost", "[::1]", "*.example.org")
        how = (drawn, self.tickets if tickets else None)
        served = Served(link, self.home, self.runtime, names, *how)
        return Browser(make_app(served, httpx.MockTransport(superlink)))
