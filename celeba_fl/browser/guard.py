"""What keeps strangers from the page, and the page to itself: rules for each request and answer.

A web site that somebody visits can have the browser call any address, this machine's own included.
What it may not do is to speak in the page's name: a browser says where a request comes from, and
under which name it looks for us.
"""

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        *("style-src 'self'", "img-src 'self' blob:", "connect-src 'self'", "worker-src 'self'"),
        *("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"),
    )
)
# Alone in its process, and with nothing of others in it, a page has threads.
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
READING = ("GET", "HEAD")


class Guard:
    """A Starlette app behind these rules.

    Parameters
    ----------
    app : ASGIApp
        What answers when nothing speaks against it.
    names : Collection[str]
        Host names and addresses by which a browser may look for the page. Any other is that of a
        web site which had its own name lead to this machine (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-cache")
            await send(message)

        refusal = self._refusal(scope)
        answer = self.app if refusal is None else JSONResponse({"error": refusal[1]}, refusal[0])
        await answer(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers, method = Headers(scope=scope), scope["method"]
        hosts, origin = headers.getlist("host"), headers.get("origin")
        site = headers.get("sec-fetch-site", "none")
        if len(hosts) != 1 or not {_name(hosts[0]), _any_of(hosts[0])} & {*self.names}:
            return 421, f"this page is not served under that name, but as {', '.join(self.names)}"
        if origin != f"{scope['scheme']}://{hosts[0]}" and (origin or method not in READING):
            return 403, "only this page itself may ask for that"
        if site not in ("same-origin", "none") and not _is_link(scope, headers):
            return 403, "other web sites may link to this page, to its address alone"
        return None


def _name(host: str) -> str:
    """The name or address in a `Host` header, without its port."""
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host


def _any_of(host: str) -> str:
    """What a certificate for all names of a domain has in the place of one."""
    return f"*.{_name(host).partition('.')[2]}"


def _is_link(scope: Scope, headers: Headers) -> bool:
    """Whether a person follows a link to the page, which would start nothing."""
    how = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    where = scope["method"], scope["path"], scope["query_string"]
    return how == ("navigate", "document") and where == ("GET", "/", b"")
