"""Tabs of a try: their addresses, and the Chromium that opens them."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from celeba_fl.browser import headless, tabs
from celeba_fl.browser.try_out import Tickets
from celeba_fl.common.errors import InputError


class Deployment:
    """What tabs need of a deployment."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name, self.front = folder, "mine", "127.0.0.1:1"
        self.credentials, self.nodes = folder / "credentials", ["one", "two"]
        self.spawned: dict[str, tuple[str, ...]] = {}
        self.waited = 0

    def admit(self, client: str, key: str) -> None:
        """Register nobody."""

    def spawn(self, name: str, *command: str) -> None:
        """Take down what would be started."""
        self.spawned[name] = command

    def wait_for(self, nodes: int) -> None:
        """Take down for how many it would be waited."""
        self.waited = nodes


class Server:
    """A page's server that is not there."""

    def __init__(self, link: object, home: Path, tickets: Tickets) -> None:
        self.tickets = tickets

    @contextlib.contextmanager
    def beside(self) -> Iterator[str]:
        """Its address."""
        yield "http://127.0.0.1:9/"


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    monkeypatch.setattr(tabs, "PageServer", Server)
    for name in tabs.DESKTOP:
        monkeypatch.delenv(name, raising=False)
    return Deployment(tmp_path)


def test_each_tab_has_a_partition_after_those_of_the_supernodes_and_a_ticket(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    with tabs.open_tabs(deployment, deployment.folder, 2, 3, headless=False) as urls:
        asked = [parse_qs(urlsplit(url).query) for url in urls]
    assert [one["try"] for one in asked] == [["2/5"], ["3/5"], ["4/5"]]
    assert [one["name"] for one in asked] == [["2"], ["3"], ["4"]]
    assert len({one["ticket"][0] for one in asked}) == 3
    said = capsys.readouterr().out.splitlines()
    assert said[1:] == urls
    assert (opened, deployment.spawned) == ([], {})  # no desktop here
    monkeypatch.setenv("DISPLAY", ":0")
    with tabs.open_tabs(deployment, deployment.folder, 0, 1, headless=False) as urls:
        assert opened == urls


def test_headless_ones_are_processes_of_the_deployment(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    with tabs.open_tabs(deployment, deployment.folder, 2, 2, headless=True) as urls:
        assert deployment.waited == 4
    assert {*deployment.spawned} == {"tab-2", "tab-3"}
    profiles = set()
    for url, command in zip(urls, deployment.spawned.values(), strict=True):
        assert (command[0], command[-1]) == ("/bin/chromium", url)
        assert "--headless" in command
        profiles |= {word for word in command if word.startswith("--user-data-dir=")}
    assert len(profiles) == 2  # each has a key of its own


@pytest.mark.parametrize(("user", "alone"), [(0, True), (1000, False)])
def test_only_root_goes_without_a_sandbox(
    user: int, alone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shutil, "which", lambda name: "/bin/it" if name == "google-chrome" else None
    )
    monkeypatch.setattr("os.geteuid", lambda: user)
    command = headless.command("http://127.0.0.1:9/", tmp_path)
    assert command[0] == "/bin/it"
    assert ("--no-sandbox" in command) is alone


def test_without_chromium_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"--headless: needs Chromium.*apt install chromium"):
        headless.command("http://127.0.0.1:9/", tmp_path)
