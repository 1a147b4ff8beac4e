"""A person's way through the page of a tab, in a browser, before there is any federation."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from visiting import hosts, open_browser, until

from celeba_fl.browser import serving
from celeba_fl.browser.connection import SuperLink
from celeba_fl.browser.serving import PageServer
from celeba_fl.data.drawn_pictures import Face, render
from celeba_fl.data.schema import ATTRIBUTES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("ORT_WEB" not in os.environ, reason="no ONNX Runtime Web (ORT_WEB)"),
]
# What the page says while a site waits: before a run, in one that it declined, after a roll call.
WAITING = """
const [done] = arguments;
import("/ui/progress.js").then(({ Progress }) => {
  const [progress, said] = [new Progress([]), []];
  const wait = () => {
    progress.node({ state: "waiting" });
    said.push(["state", "trouble"].map((id) => document.getElementById(id).textContent));
  };
  wait();
  progress.node({ state: "working", error: "no such key", declined: true });
  wait();
  const config = { "num-server-rounds": 2, strategy: "fedavg", groupings: "Male" };
  progress.client({ stage: "run", config, dim: 4 });
  wait();
  done(said);
});
"""
NOWHERE = SuperLink("theirs", "127.0.0.1:9", insecure=True)


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The page, whose SuperLink cannot be reached."""
    runtime = Path(os.environ["ORT_WEB"])
    monkeypatch.setattr(serving, "runtime_folder", lambda home, package: runtime)
    with PageServer(NOWHERE, tmp_path / "home").beside() as url:
        yield url


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    yield from open_browser(tmp_path / "browser", "390,844")


def test_a_visit(browser: Chrome, address: str, tmp_path: Path) -> None:
    def text(name: str) -> str:
        return str(browser.find_element(By.ID, name).text)

    def press(name: str) -> None:
        browser.find_element(By.ID, name).click()

    def wait(name: str, words: str) -> None:
        until(lambda: words in text(name), f"{words!r} in {name}", lambda: text(name))

    faces = [Face(str(i), i, 1, np.zeros(len(ATTRIBUTES), bool)) for i in range(2)]
    files = [tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "c.jpg"]
    for file, data in zip(files, [*(render(face, seed=1) for face in faces), b"no"], strict=True):
        file.write_bytes(data)

    browser.get(address)
    until(lambda: browser.find_element(By.ID, "setup").is_displayed(), "setup")
    metadata = tmp_path / "metadata.csv"
    metadata.write_text("file_name\na.jpg\n")
    browser.find_element(By.ID, "files").send_keys(f"{files[0]}\n{metadata}")
    wait("faults", "metadata.csv lacks the columns")
    browser.find_element(By.ID, "files").send_keys("\n".join(map(str, files)))
    wait("pictures", "2 pictures chosen")
    assert text("faults") == ""
    wait("left-out", "1 file left out")
    assert "226 kB" in text("estimate")
    assert "127.0.0.1:9" in text("estimate")

    # One is labelled by keys alone: the first attribute is ticked, and the picture is right.
    press("label")
    keys = Keys.TAB, Keys.SPACE, Keys.ENTER
    for key in keys:
        browser.switch_to.active_element.send_keys(key)
    wait("picture-name", "2 of 2: b.jpg")
    press("pause")
    wait("labels-state", "1 of 2 pictures are labelled")

    browser.find_element(By.ID, "name").send_keys("=1")
    press("start")
    assert "does not begin with =" in text("name-fault")
    browser.find_element(By.ID, "name").send_keys(Keys.BACKSPACE, Keys.BACKSPACE, "Practice")
    press("start")
    wait("state", "There is no connection")

    # A tab that is loaded again goes on by itself, and has kept the labels but not the pictures.
    browser.get(address)
    wait("state", "There is no connection")
    press("stop")
    assert browser.switch_to.active_element.get_attribute("id") == "name"
    wait("pictures", "2 pictures of last time")
    wait("labels-state", "1 of 2 pictures are labelled")
    assert browser.find_element(By.ID, "name").get_attribute("value") == "Practice"

    ready, declined, introduced = browser.execute_async_script(WAITING)
    assert ready == ["All is ready. The tab is waiting for the federation to begin.", ""]
    assert declined[0].startswith("This site takes no part in this run")
    assert declined[1] == "The reason: no such key"
    assert introduced[0].startswith("This site has introduced itself")
    assert introduced[1] == ""

    # Forgotten, it is another site.
    def public_key() -> str:
        return str(browser.find_element(By.ID, "key").get_attribute("textContent"))

    known = public_key()
    browser.find_element(By.XPATH, "//summary[starts-with(., 'Forget')]").click()
    press("forget")
    wait("pictures", "None chosen")
    assert public_key() not in ("", known)
    assert browser.find_element(By.ID, "name").get_attribute("value") == ""

    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= browser.execute_script("return innerWidth")
    assert hosts(browser, address) == {urlsplit(address).netloc}
    said = [line["message"] for line in browser.get_log("browser")]
    assert [line for line in said if "/v1/fleet/" not in line] == []
