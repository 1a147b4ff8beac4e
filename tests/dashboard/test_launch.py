"""Starting the dashboard: for this machine alone, or with a word on what it means."""

import asyncio
import builtins
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import SimpleNamespace
from typing import Any, cast

import pytest
import streamlit as st
from starlette.formparsers import MultiPartParser
from starlette.requests import Request
from streamlit.runtime import Runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.testing.v1 import AppTest
from streamlit.web.server.starlette import starlette_routes
from streamlit.web.server.starlette.starlette_websocket import _is_origin_allowed, is_host_allowed
from typer.testing import CliRunner
from words import text_of

from celeba_fl.cli.app import app as command
from celeba_fl.common.errors import InputError
from celeba_fl.dashboard import launch


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.1.2.3"])
def test_this_machine_alone_needs_no_warning(host: str) -> None:
    assert launch.exposure(host) == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "lab-server"])
def test_another_host_is_said_to_be_open(host: str) -> None:
    said = launch.exposure(host)
    for words in (host, "no password", "start, stop and delete runs", "sees all runs"):
        assert words in said


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    words: list[list[str]] = []
    monkeypatch.setattr("streamlit.web.cli.main", words.append)
    monkeypatch.setattr(MultiPartParser, "spool_max_size", MultiPartParser.spool_max_size)
    return words


def test_the_default_is_this_machine(started: list[list[str]]) -> None:
    done = CliRunner().invoke(command, ["dashboard"])
    assert done.exit_code == 0
    assert done.output == ""
    flags = dict(zip(started[0][2::2], started[0][3::2], strict=True))
    assert flags["--server.maxUploadSize"] == str(launch.MAX_UPLOAD_MB)
    assert started[0][:2] == ["run", str(launch.APP)]
    assert flags["--server.address"] == "127.0.0.1"
    assert flags["--server.port"] == "8501"
    assert flags["--browser.gatherUsageStats"] == "false"
    assert flags["--server.fileWatcherType"] == "none"


def test_opening_it_is_said_before_it_starts(started: list[list[str]]) -> None:
    done = CliRunner().invoke(command, ["dashboard", "--host", "0.0.0.0", "--port", "9000"])
    assert "no password" in done.output
    assert started[0][started[0].index("--server.port") + 1] == "9000"


@pytest.mark.parametrize(
    ("host", "header", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1:8501", True),
        ("127.0.0.1", "localhost:8501", True),
        ("127.0.0.1", "evil.example:8501", False),
        ("::1", "[::1]:8501", True),
        ("0.0.0.0", "lab-server:8501", True),
    ],
)
def test_a_web_site_whose_name_leads_here_is_kept_out(
    started: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    header: str,
    allowed: bool,
) -> None:
    """What a browser that was sent to this address under another name says in its header Host."""
    launch.launch(host, 8501)
    flags = zip(started[0][2::2], started[0][3::2], strict=True)
    names = [value for flag, value in flags if flag == "--server.allowedHosts"]
    options = {"server.allowedHosts": names}
    monkeypatch.setattr("streamlit.config.get_option", options.__getitem__)
    assert is_host_allowed(header) == allowed


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("https://faces.example.org", "faces.example.org", True),
        ("https://faces.example.org:8443", "faces.example.org:8443", True),
        ("https://faces.example.org", "127.0.0.1:8501", True),  # a proxy that changes Host
        ("https://evil.example", "127.0.0.1:8501", False),
        ("https://evil.example", "evil.example", False),
    ],
)
def test_a_reverse_proxy_comes_in_under_a_name_that_is_allowed(
    started: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    origin: str,
    host: str,
    allowed: bool,
) -> None:
    CliRunner().invoke(command, ["dashboard", "--allow-host", "faces.example.org"])
    flags = list(zip(started[0][2::2], started[0][3::2], strict=True))
    options: dict[str, Any] = {"server.enableCORS": True, "server.address": "127.0.0.1"}
    for option in ("server.allowedHosts", "server.corsAllowedOrigins"):
        options[option] = [value for flag, value in flags if flag == f"--{option}"]
    monkeypatch.setattr("streamlit.config.get_option", options.__getitem__)
    monkeypatch.setattr("streamlit.config.is_manually_set", lambda option: False)
    monkeypatch.setattr("streamlit.net_util.get_external_ip", lambda: None)
    assert _is_origin_allowed(origin, host) == allowed


@pytest.mark.parametrize("name", ["*", "https://faces.example.org", "a b", ""])
def test_what_is_allowed_is_a_name(started: list[list[str]], name: str) -> None:
    with pytest.raises(InputError, match=r"^--allow-host .*: give a name alone"):
        launch.launch("127.0.0.1", 8501, [name])
    assert not started


def test_no_upload_is_put_into_a_file(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streamlit's parser of uploads keeps small ones in memory, and spools others to disk."""
    launch.launch("127.0.0.1", 8501)
    monkeypatch.setattr(SpooledTemporaryFile, "rollover", lambda file: pytest.fail("on disk"))
    monkeypatch.setattr(starlette_routes, "is_xsrf_enabled", lambda: False)
    kept = MemoryUploadedFileManager("")
    runtime = cast(Runtime, SimpleNamespace(is_active_session=lambda session: True))
    (put,) = (
        vars(route)["endpoint"]
        for route in starlette_routes.create_upload_routes(runtime, kept, None)
        if "PUT" in vars(route)["methods"]
    )
    picture = bytes(launch.MAX_UPLOAD_MB * 2**20 - 1024)
    head = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n'

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": head + picture + b"\r\n--x--\r\n"}

    scope = {
        "type": "http",
        "method": "PUT",
        "headers": [(b"content-type", b"multipart/form-data; boundary=x")],
        "path_params": {"session_id": "s", "file_id": "1"},
    }
    assert asyncio.run(put(Request(scope, receive))).status_code == 204
    (file,) = kept.get_files("s", ["1"])
    assert file.data == picture


@pytest.mark.parametrize(
    "error", [OSError(99, "Cannot assign requested address"), OSError("no such name")]
)
def test_an_address_that_is_not_ours_gets_one_line(
    error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(words: list[str]) -> None:
        raise error

    monkeypatch.setattr("streamlit.web.cli.main", refuse)
    with pytest.raises(InputError, match=r"--host there --port 8501: (Cannot assign|no such name)"):
        launch.launch("there", 8501)


@pytest.mark.parametrize(("address", "is_open"), [("127.0.0.1", False), ("::", True), (None, True)])
def test_the_page_says_so_too(
    runs: Path, app: AppTest, monkeypatch: pytest.MonkeyPatch, address: str | None, is_open: bool
) -> None:
    known = st.get_option

    def option(name: str) -> Any:
        return address if name == "server.address" else known(name)

    monkeypatch.setattr(st, "get_option", option)
    assert ("no password" in text_of(app.run())) == is_open


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "streamlit":
            raise ImportError(f"No module named {name!r}", name="streamlit")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"needs streamlit.*pip install -e '\.\[dashboard\]'"):
        launch.launch("127.0.0.1", 8501)
