"""Where the page is served, and under which names."""

import socket
import ssl
from pathlib import Path

import httpx
import pytest

from celeba_fl.browser import serving
from celeba_fl.browser.connection import SuperLink
from celeba_fl.browser.serving import PageServer
from celeba_fl.common.errors import InputError
from celeba_fl.deployment.credentials import write_credentials

LINK = SuperLink("theirs", "127.0.0.1:9", insecure=True)


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No registry is asked."""
    (tmp_path / "ort").mkdir()
    monkeypatch.setattr(serving, "runtime_folder", lambda home, package: tmp_path / "ort")


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    write_credentials(tmp_path / "keys", [], ["FL.example.org", "10.0.0.7", "fd00::1"], 1)
    return tmp_path / "keys"


def test_the_page_is_served_beside_something_else(tmp_path: Path) -> None:
    with PageServer(LINK, tmp_path).beside() as url:
        assert httpx.get(url).headers["cross-origin-opener-policy"] == "same-origin"
        assert httpx.get(f"{url}about.json").json()["address"]
        assert "server" not in httpx.get(url).headers
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_by_tls_it_has_the_names_of_its_certificate(tmp_path: Path, credentials: Path) -> None:
    files = credentials / "server.crt", credentials / "server.key"
    context = ssl.create_default_context(cafile=credentials / "ca.crt")
    with PageServer(LINK, tmp_path, "0.0.0.0", 0, *files).beside() as url:
        assert url.startswith("https://fl.example.org:")
        here = url.replace("fl.example.org", "127.0.0.1")
        with httpx.Client(verify=context) as client:
            for name in ("fl.example.org", "10.0.0.7:8443", "[fd00::1]", "127.0.0.1"):
                assert client.get(here, headers={"host": name}).status_code == 200
            assert client.get(here, headers={"host": "example.org"}).status_code == 421
            assert client.get(f"{here}try/0/2.json").status_code == 404  # strangers draw nothing


def test_other_machines_come_in_by_tls_alone(tmp_path: Path, credentials: Path) -> None:
    certificate, key = credentials / "server.crt", credentials / "server.key"
    for host in ("0.0.0.0", "10.0.0.7", "fl.example.org", "::"):
        with pytest.raises(InputError, match=rf"--host {host}: .*add --ssl-certfile"):
            PageServer(LINK, tmp_path, host)
    for half in ((certificate, None), (None, key)):
        with pytest.raises(InputError, match="give both of them, or neither"):
            PageServer(LINK, tmp_path, "127.0.0.1", 0, *half)
    for wrong in ((key, key), (certificate, credentials / "ca.key"), (tmp_path / "none", key)):
        with pytest.raises(InputError, match=r"--ssl-certfile .*should be a PEM certificate"):
            PageServer(LINK, tmp_path, "0.0.0.0", 0, *wrong)
    with pytest.raises(InputError, match=r"--ssl-certfile .*ca.crt.*No <.*SubjectAlternativeName"):
        PageServer(LINK, tmp_path, "0.0.0.0", 0, credentials / "ca.crt", credentials / "ca.key")


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"--host 127.0.0.1 --port {port}: Address already"):
            PageServer(LINK, tmp_path, "127.0.0.1", port)


def test_the_superlinks_certificate_is_checked(tmp_path: Path, credentials: Path) -> None:
    with pytest.raises(InputError, match="root-certificates"):
        PageServer(SuperLink("theirs", "there:1", tmp_path / "none.crt"), tmp_path)
    files = credentials / "server.crt", credentials / "server.key"
    with PageServer(LINK, tmp_path, "127.0.0.1", 0, *files).beside() as there:
        port = there.rpartition(":")[2].strip("/")
        for ca, status in ((credentials / "ca.crt", 421), (None, 502)):
            link = SuperLink("theirs", f"127.0.0.1:{port}", ca)
            with PageServer(link, tmp_path).beside() as url:
                origin = {"origin": url.rstrip("/")}
                answer = httpx.post(f"{url}v1/fleet/pull-messages", headers=origin)
                assert answer.status_code == (403 if status == 421 else status)
