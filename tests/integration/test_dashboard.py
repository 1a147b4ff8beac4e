"""A visitor's way through the dashboard, in a browser, on a running federation."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import tomli_w
from engine import BIN, Flower
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from visiting import hosts, open_browser, until

from celeba_fl.data.drawn_pictures import Face, render
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.deployment.local import free_ports
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv

PATIENCE = 15.0  # seconds until a press counts as lost


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    yield from open_browser(tmp_path / "browser")


@pytest.fixture
def address(flower: Flower, tmp_path: Path) -> Iterator[str]:
    """A dashboard in the environment of the suite's Flower."""
    (port,) = free_ports(1)
    with (tmp_path / "dashboard.log").open("wb") as log:
        process = subprocess.Popen(
            [str(BIN / "celeba-fl"), "dashboard", "--port", str(port)],
            env=flower.env,
            cwd=tmp_path,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=120)


class Visitor:
    """Finds things by what people see of them."""

    def __init__(self, browser: Chrome, address: str) -> None:
        self.browser, self.address = browser, address

    def open(self, page: str, heading: str) -> None:
        def opened() -> bool:
            self.browser.get(f"{self.address}/{page}")
            time.sleep(1)
            return bool(self.browser.find_elements(By.TAG_NAME, "h1"))

        until(opened, f"page {page!r}")
        self.until(lambda: heading in self.text, f"heading {heading!r}")

    def until(self, done: Callable[[], Any], what: str) -> Any:
        return until(done, what, lambda: self.text)

    @property
    def text(self) -> str:
        return str(self.browser.find_element(By.TAG_NAME, "body").text)

    def wait(self, words: str) -> None:
        self.until(lambda: words in self.text, f"{words!r}")

    def button(self, label: str) -> None:
        self.until(lambda: self.press(label), f"button {label}")

    def press(self, label: str) -> bool:
        path = f"//button[.//p[normalize-space(.)='{label}']]"
        self.browser.find_element(By.XPATH, path).click()
        return True

    def follow(self, label: str, words: str) -> None:
        """Press until there; what is shown anew each second may slip away under a press."""

        def there() -> bool:
            if words not in self.text:
                self.press(label)  # which is gone where the press before has led to another page
            end = time.monotonic() + PATIENCE
            while words not in self.text and time.monotonic() < end:
                time.sleep(0.2)
            return words in self.text

        self.until(there, f"{words!r} after {label}")

    def rounds(self) -> int:
        """How many are done, as the page says."""
        found = re.search(r"(\d+) of \d+ rounds", self.text)
        return int(found[1]) if found else 0

    def charts(self) -> int:
        """How many can be seen; one in a fold may be drawn, or not until it is opened."""
        drawn = self.browser.find_elements(By.CSS_SELECTOR, ".vega-embed svg")
        return sum(one.is_displayed() for one in drawn)

    def field(self, label: str) -> Any:
        path = f"//input[contains(@aria-label, '{label}')] | //textarea[@aria-label='{label}']"
        return self.until(lambda: self.browser.find_element(By.XPATH, path), f"field {label}")

    def choose_file(self, label: str, path: Path | int) -> None:
        """Type a path, or a number, into a box to choose from."""
        field = self.field(label)
        field.click()
        field.send_keys(str(path))
        time.sleep(0.5)
        field.send_keys(Keys.ENTER)


def face(path: Path) -> Path:
    """A drawn face of a young smiling woman."""
    labels = np.zeros(len(ATTRIBUTES), dtype=bool)
    for name in ("Young", "Smiling", "No_Beard", "Wearing_Lipstick", "Black_Hair"):
        labels[ATTRIBUTES.index(name)] = True
    path.write_bytes(render(Face("face", 0, 1, labels), seed=1))
    return path


@pytest.mark.slow
def test_a_visit(
    flower: Flower, browser: Chrome, address: str, toy: dict[str, Any], tmp_path: Path
) -> None:
    runs = Path(flower.env["CELEBA_FL_HOME"]) / "runs"
    experiment = tmp_path / "small.toml"
    experiment.write_text(tomli_w.dumps({**toy, "task": "paced:Paced", "num-server-rounds": 6}))
    seen = Path(toy["home"]) / "seen"
    seen.unlink(missing_ok=True)
    visitor = Visitor(browser, address)

    # Five of eight clients.
    visitor.open("devices", "Devices")
    visitor.choose_file("Simulated clients", 8)
    visitor.wait("8 of 8 take part")
    for off, left in (("1", 7), ("4", 6), ("5", 5)):
        visitor.follow(off, f"{left} of 8 take part")
    visitor.choose_file("Experiment", experiment)
    visitor.button("Start the run")
    visitor.wait("celeba-fl run")

    # Its rounds, as they come in.
    visitor.follow("Watch this run", "of 6 rounds")
    run = visitor.until(lambda: read_runs(runs), "run directory")[0].path
    first = visitor.until(visitor.rounds, "round")
    seen.touch()
    visitor.until(lambda: visitor.rounds() > first, "further round")
    visitor.wait("completed")
    assert [row["client"] for row in read_csv(run / "partitions.csv")] == ["0", "2", "3", "6", "7"]
    visitor.until(lambda: visitor.charts() == 5, "charts")
    accuracy = json.loads((run / "summary.json").read_text())["test_accuracy"]
    visitor.wait(f"{accuracy:.3f}")

    # What its model says of a face.
    visitor.open("model", "Try the model")
    visitor.wait("aligned faces")
    picture = face(tmp_path / "face.jpg")
    browser.find_element(By.CSS_SELECTOR, "input[type=file]").send_keys(str(picture))
    visitor.wait("Seen by the model")
    done = subprocess.run(
        [BIN / "celeba-fl", "predict", str(picture), "--json"],
        env=flower.env,
        capture_output=True,
        text=True,
        check=True,
    )
    (said,) = json.loads(done.stdout)["images"].values()
    seen_in_page = visitor.text.partition("Seen by the model: ")[2].partition(".")[0]
    present = [name.replace("_", " ") for name, one in said.items() if one["present"]]
    assert present == seen_in_page.split(", ")

    assert hosts(browser, address) == {urlsplit(address).netloc}
