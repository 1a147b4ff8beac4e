"""Starting the dashboard: for this machine alone, or with a word on what it means."""

import builtins
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner
from words import text_of

from celeba_fl.cli import app as command
from celeba_fl.dashboard import launch
from celeba_fl.progress import InputError


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.1.2.3"])
def test_this_machine_alone_needs_no_warning(host: str) -> None:
    assert launch.exposure(host) == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "lab-server"])
def test_another_host_is_said_to_be_open(host: str) -> None:
    said = launch.exposure(host)
    for words in (host, "no password", "start and stop runs", "sees all runs"):
        assert words in said


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    words: list[list[str]] = []
    monkeypatch.setattr("streamlit.web.cli.main", words.append)
    return words


def test_the_default_is_this_machine(started: list[list[str]]) -> None:
    done = CliRunner().invoke(command, ["dashboard"])
    assert done.exit_code == 0
    assert done.output == ""
    flags = dict(zip(started[0][2::2], started[0][3::2], strict=True))
    assert started[0][:2] == ["run", str(launch.APP)]
    assert flags["--server.address"] == "127.0.0.1"
    assert flags["--server.port"] == "8501"
    assert flags["--browser.gatherUsageStats"] == "false"
    assert flags["--server.fileWatcherType"] == "none"


def test_opening_it_is_said_before_it_starts(started: list[list[str]]) -> None:
    done = CliRunner().invoke(command, ["dashboard", "--host", "0.0.0.0", "--port", "9000"])
    assert "no password" in done.output
    assert started[0][started[0].index("--server.port") + 1] == "9000"


@pytest.mark.parametrize(("address", "is_open"), [("127.0.0.1", False), ("::", True), (None, True)])
def test_the_page_says_so_too(
    runs: Path, app: AppTest, monkeypatch: pytest.MonkeyPatch, address: str | None, is_open: bool
) -> None:
    known = st.get_option

    def option(name: str) -> Any:
        return address if name == "server.address" else known(name)

    monkeypatch.setattr(st, "get_option", option)
    assert ("no password" in text_of(app.run())) == is_open


@pytest.mark.parametrize("missing", ["streamlit", "plotly"])
def test_a_missing_extra_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.partition(".")[0] == missing:
            raise ImportError(f"No module named {name!r}", name=missing)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=rf"needs {missing}.*pip install -e '\.\[dashboard\]'"):
        launch.launch("127.0.0.1", 8501)
