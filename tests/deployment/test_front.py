"""The front, and nginx in its place: what a SuperNode asks passes, and nothing else."""

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from private import router

from celeba_fl import deployment
from celeba_fl.deployment import front
from celeba_fl.deployment.front import CALLS, LARGE, REQUEST_HEADERS, SERVING, SMALL, make_front

PULL = "/v1/fleet/pull-messages"
NGINX = (Path(deployment.__file__).parent / "celeba-fl-nginx.conf").read_text()


class SuperLink:
    """A SuperLink that takes down what it is asked."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.answer: Callable[[], httpx.Response] = lambda: httpx.Response(200, content=b"yes")

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.asked.append(request)
        return self.answer()


@contextlib.contextmanager
def served(superlink: SuperLink) -> Iterator[int]:
    """A front on a port of this machine."""
    app = make_front(httpx.MockTransport(superlink), "https://there")
    server = uvicorn.Server(uvicorn.Config(app, **SERVING))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def everyones() -> Iterator[tuple[SuperLink, int]]:
    superlink = SuperLink()
    with served(superlink) as port:
        yield superlink, port


@pytest.fixture
def superlink(everyones: tuple[SuperLink, int]) -> SuperLink:
    everyones[0].__init__()  # type: ignore[misc]
    return everyones[0]


Answer = tuple[int, bytes, dict[str, str]]


@pytest.fixture
def call(everyones: tuple[SuperLink, int]) -> Callable[..., Answer]:
    """Sends a request as it is given; status, body and headers of the answer."""

    def call(path: str, body: Any = b"", method: str = "POST", **said: Any) -> Answer:
        connection = HTTPConnection("127.0.0.1", everyones[1], timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, **said)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())

    return call


def test_the_calls_are_those_of_a_supernode_whose_key_is_registered() -> None:
    fleet = {route.path for route in router.routes}  # type: ignore[attr-defined]
    without_key = {"/v1/fleet/register-node", "/v1/fleet/unregister-node"}
    assert {f"/v1/fleet/{name}" for name in CALLS} == fleet - without_key


@pytest.mark.parametrize("name", CALLS)
def test_a_call_passes_with_its_answer(
    name: str, call: Callable[..., Answer], superlink: SuperLink
) -> None:
    theirs = {"content-type": "application/json", "set-cookie": "a=b", "server": "theirs"}
    superlink.answer = lambda: httpx.Response(403, content=b'{"code":2004}', headers=theirs)
    said = dict.fromkeys(REQUEST_HEADERS, "\xff")
    strange = {"x-forwarded-for": "10.0.0.1", "cookie": "a=b", "flwr-task-token": "t"}
    status, body, headers = call(f"/v1/fleet/{name}?a=b", b"body", headers=said | strange)

    (asked,) = superlink.asked
    assert (asked.method, str(asked.url)) == ("POST", f"https://there/v1/fleet/{name}")
    assert asked.content == b"body"
    raw = dict(asked.headers.raw)
    assert {name: raw[name.encode()] for name in said} == dict.fromkeys(REQUEST_HEADERS, b"\xff")
    assert not {*strange} & {*asked.headers}
    assert (status, body) == (403, b'{"code":2004}')
    assert {*headers} == {"content-type", "content-length", "date"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "FOO"])
def test_no_other_method_does(
    method: str, call: Callable[..., Answer], superlink: SuperLink
) -> None:
    status, body, headers = call(PULL, method=method)
    assert (status, body) == (404, b"")
    assert {*headers} == {"connection", "content-length", "date"}
    assert superlink.asked == []


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/docs", "/openapi.json", "/health", "/v1/fleet", "/v1/fleet/", f"{PULL}/"),
        *("/v1/control/list-nodes", "/v1/control/start-run", "/v1/control/register-node"),
        *("/v1/runtime/acquire-task", "/v1/fleet/register-node", "/v1/fleet/unregister-node"),
        *("/v1/fleet/../control/list-nodes", "/v1/fleet/%2e%2e/control/list-nodes", f"/{PULL}"),
        *(f"{PULL}/../../control/list-nodes", f"/v1/control/list-nodes/../..{PULL[3:]}"),
        *("/V1/FLEET/PULL-MESSAGES", f"{PULL}%00", f"{PULL}%0a", f"{PULL}%2f..%2f..%2fcontrol"),
        *("/flwr.proto.Control/ListNodes", "https://there/v1/control/list-nodes"),
    ],
)
def test_no_other_path_does(path: str, call: Callable[..., Answer], superlink: SuperLink) -> None:
    assert call(path, b"body")[:2] == (404, b"")
    assert superlink.asked == []


@pytest.mark.parametrize("name", ["push-object", "pull-messages"])
def test_a_body_that_is_too_large_is_refused_as_it_comes(
    name: str, call: Callable[..., Answer], superlink: SuperLink
) -> None:
    limit = CALLS[name]
    assert call(f"/v1/fleet/{name}", bytes(limit))[0] == 200
    assert call(f"/v1/fleet/{name}", bytes(limit + 1))[:2] == (413, b"")
    assert call(f"/v1/fleet/{name}", iter([bytes(limit), b"1"]), encode_chunked=True)[0] == 413
    assert [len(asked.content) for asked in superlink.asked] == [limit]


def test_who_sends_for_ever_is_cut_off(everyones: tuple[SuperLink, int]) -> None:
    head = f"POST {PULL} HTTP/1.1\r\nhost: a\r\ncontent-length: {2**40}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", everyones[1]), 60) as stranger:
        stranger.sendall(head.encode())
        with pytest.raises(ConnectionError):
            stranger.sendall(bytes(2**26))


def test_an_answer_that_is_too_large_is_not_passed_back(
    call: Callable[..., Answer], superlink: SuperLink
) -> None:
    superlink.answer = lambda: httpx.Response(200, content=bytes(LARGE))
    assert len(call(PULL)[1]) == LARGE
    superlink.answer = lambda: httpx.Response(200, content=bytes(LARGE + 1))
    assert call(PULL)[:2] == (502, b"")


def test_a_superlink_that_is_away_is_tried_again(
    call: Callable[..., Answer], superlink: SuperLink
) -> None:
    def away() -> httpx.Response:
        raise httpx.ConnectError("no one there")

    superlink.answer = away
    assert call(PULL)[:2] == (502, b"")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b""),
        (b"POST /v1/fleet/pull-messages HTTP/1.1\r\nhost: a\r\n", b""),
        (
            b"POST /v1/fleet/pull-messages HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc",
            b"502",
        ),
    ],
    ids=["nothing", "half a head", "half a body"],
)
def test_who_does_not_finish_is_not_waited_for(
    sent: bytes, status: bytes, superlink: SuperLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(front, "CALL_SECONDS", 0.2)
    with served(superlink) as port, socket.create_connection(("127.0.0.1", port), 60) as stranger:
        stranger.sendall(sent)
        with stranger.makefile("rb") as answer:  # its end is the end of the connection
            assert answer.read()[9:12] == status
    assert superlink.asked == []


def test_who_calls_now_and_then_stays_connected(
    superlink: SuperLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "IDLE_SECONDS", 1.5)
    with served(superlink) as port:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.connect()
        kept = connection.sock
        for _ in range(8):
            connection.request("POST", PULL)
            assert connection.getresponse().read() == b"yes"
            assert connection.sock is kept
            time.sleep(0.25)
        connection.close()
    assert len(superlink.asked) == 8


def test_nginx_passes_the_same_calls_sizes_and_headers() -> None:
    sizes = {f"{SMALL // 2**20}m": SMALL, f"{LARGE // 2**20}m": LARGE}
    passed: dict[str, int] = {}
    for names, rules in re.findall(
        r"location ~ \^/v1/fleet/\((.*?)\)\\z \{(.*?)\n    \}", NGINX, re.S
    ):
        (size,) = re.findall(r"client_max_body_size (\w+);", rules)
        assert "$request_method != POST" in rules
        passed |= dict.fromkeys(names.split("|"), sizes[size])
    assert passed == CALLS
    headers = dict(re.findall(r"proxy_set_header (\S+) (.*);", NGINX))
    assert {name for name in headers if name not in ("Host", "Connection")} == {*REQUEST_HEADERS}
    assert all(headers[name] == f"$http_{name.replace('-', '_')}" for name in REQUEST_HEADERS)
