"""What a site needs before it joins."""

import ssl
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import time

import pytest
import tomli_w
from toys import write_sites

from celeba_fl.deployment import site_check
from celeba_fl.deployment.credentials import write_credentials
from celeba_fl.deployment.site_check import Server, check_site


@pytest.fixture
def site(celeba_folder: Callable[..., Path], tmp_path: Path) -> Path:
    return write_sites(tmp_path / "sites", celeba_folder(), sites=2)[1]


@pytest.fixture
def node(site: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a node config."""

    def write(**keys: object) -> Path:
        path = tmp_path / "node.toml"
        path.write_text(tomli_w.dumps({"site": "a", "data-path": str(site), **keys}))
        return path

    return write


def answers(node: Path, home: Path, server: Server | None = None) -> dict[str, tuple[bool, str]]:
    return {what: (right, words) for what, right, words in check_site(node, home, server)}


def test_a_site_in_order_reads_so(node: Callable[..., Path], tmp_path: Path) -> None:
    found = answers(node(), tmp_path / "home")
    assert [what for what, (right, _) in found.items() if not right] == []
    assert found["node config"][1] == "a"
    who = "without identities (a column celeb_id): each counts as another person"
    assert found["data"][1] == f"4 train images {who}; 4 of 4 that were tried can be read"
    assert found["its rules"][1] == "none: it answers any run of this app"
    assert "server" not in found


def test_rules_are_told(node: Callable[..., Path], tmp_path: Path) -> None:
    keys = {"min-cohort": 3, "privacy-limit": 4.0, "privacy-delta": 1e-6}
    said = answers(node(**keys), tmp_path)["its rules"][1]
    assert "in secure sums over 3 clients at least" in said
    assert "with 4 at most for each person" in said


@pytest.mark.parametrize(
    ("keys", "what", "words"),
    [
        ({"site": "a,b"}, "node config", "no comma in it"),
        ({"data-pat": "x"}, "node config", "nothing reads data-pat; the keys are site, data-path"),
        ({"data-path": "/nowhere"}, "data", "there is no such folder"),
        ({"min-cohort": 1}, "its rules", "should be a whole number of clients, 2 or more"),
        ({"roster": "/nowhere"}, "its rules", "needs signing-key too"),
    ],
)
def test_what_is_wrong_is_named(
    keys: dict[str, object], what: str, words: str, node: Callable[..., Path], tmp_path: Path
) -> None:
    right, said = answers(node(**keys), tmp_path)[what]
    assert not right
    assert words in said


def test_broken_images_and_a_full_disk_are_told(
    node: Callable[..., Path], site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = sorted(site.glob("*/*.jpg")) or sorted(site.glob("*.jpg"))
    images[0].write_bytes(b"no image")
    monkeypatch.setattr(site_check, "ROW_BYTES", 2**60)
    found = answers(node(), tmp_path)
    assert found["data"][0]
    assert "3 of 4 that were tried can be read; faces" in found["data"][1]
    assert images[0].name in found["data"][1]
    assert not found["disk"][0]
    assert "make room, or set CELEBA_FL_HOME" in found["disk"][1]
    for image in images:
        image.write_bytes(b"no image either")
    (site / "metadata.csv").touch()
    assert not answers(node(), tmp_path / "anew")["data"][0]


# ---- the server -----------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """A SuperLink's answer to a call without a content type, at a time that may be wrong."""

    status, off = 415, 0.0

    def do_POST(self) -> None:
        self.send_response_only(self.status)
        self.send_header("Date", formatdate(time() - self.off, usegmt=True))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "credentials"
    write_credentials(folder, ["a"], ["127.0.0.1"], 9)
    return folder


@pytest.fixture(scope="module")
def port(credentials: Path) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credentials / "server.crt", credentials / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def tried(node: Callable[..., Path], tmp_path: Path) -> Callable[..., dict[str, tuple[bool, str]]]:
    return lambda *server: answers(node(), tmp_path / "home", Server(*server))


def test_a_server_is_tried_up_to_what_fails(
    tried: Callable[..., dict[str, tuple[bool, str]]],
    port: int,
    credentials: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ca, key = credentials / "ca.crt", credentials / "node-0.key"
    found = tried(f"127.0.0.1:{port}", ca)
    assert found["certificate"][1].endswith("for 9 more days: ask for a new one")
    assert found["server"] == (True, "a SuperLink answers, and the clocks agree")
    assert "--auth-supernode-private-key is missing" in found["key"][1]
    found = tried(f"127.0.0.1:{port}")
    assert "--root-certificates is missing, or it is not the ca.crt" in found["certificate"][1]
    assert "server" not in found
    assert "no certificate" in tried(f"127.0.0.1:{port}", key)["certificate"][1]
    said = tried(f"127.0.0.1:{port}", ca, credentials / "node-0.pub")["key"][1]
    assert "no private key of P-384" in said
    monkeypatch.setattr(Handler, "off", 400.0)
    assert "s ahead of the server's; set it" in tried(f"127.0.0.1:{port}", ca)["server"][1]
    monkeypatch.setattr(Handler, "status", 200)
    assert "answers 200" in tried(f"127.0.0.1:{port}", ca)["server"][1]


def test_a_server_that_is_not_there_is_named(
    tried: Callable[..., dict[str, tuple[bool, str]]],
) -> None:
    assert "does not resolve" in tried("nowhere.invalid:443")["name"][1]
    assert "does not take a connection" in tried("127.0.0.1:1")["port"][1]
    assert "without https://" in tried("https://127.0.0.1:1")["name"][1]
