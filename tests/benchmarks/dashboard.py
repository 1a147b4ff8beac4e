"""How soon the dashboard shows a round: in headless Chromium, on a run that is written by hand.

python tests/benchmarks/dashboard.py --clients 50 --part Clients

Writes a round every few seconds as a run does, and notes when the count of rounds and the first
chart of the page have it. `--done` rounds are there before. Prints seconds, and the machine's load.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from celeba_fl.deployment.local import free_ports

MEASURES = ("loss", "accuracy", "balanced_accuracy", "auroc")
ROUNDS = 10
# Since when the page has had each round, in the count and in the first chart, by the page's clock.
WATCH = """window.seen = {};
setInterval(() => {
  const note = (what) => { if (!(what in seen)) seen[what] = Date.now() / 1000; };
  const bar = document.querySelector('[data-testid=stProgress]');
  const count = bar && bar.textContent.match(/(\\d+) of/);
  if (count) note('count ' + count[1]);
  const chart = document.querySelector('.vega-embed');
  const points = chart ? [...chart.querySelectorAll('.mark-symbol [aria-label]')] : [];
  const rounds = points.map((p) => +p.getAttribute('aria-label').match(/round: (\\d+)/)[1]);
  if (rounds.length) note('chart ' + Math.max(...rounds));
}, 20);"""


class FakeRun:
    """Files of a run in progress, of random figures."""

    def __init__(self, path: Path, clients: int) -> None:
        self.path, self.clients, self.rng = path, clients, np.random.default_rng(0)
        path.mkdir(parents=True)
        names = ",".join(f"{part}_{m}" for part in ("valid", "test") for m in MEASURES)
        (path / "rounds.csv").write_text(f"round,{names}\n")
        head = "round,client,num_examples,train_loss,valid_loss,valid_accuracy"
        (path / "clients.csv").write_text(f"{head}\n")
        (path / "partitions.csv").write_text(
            "client,num_examples,Male=0,Male=1\n"
            + "".join(f"{name},300,200,100\n" for name in range(clients))
        )

    def write(self, number: int) -> float:
        """A round; the time at which it was there."""
        values = self.rng.random((self.clients, 3)).round(6).tolist()
        lines = [f"{number},{i},300,{a},{b},{c}\n" for i, (a, b, c) in enumerate(values)]
        with (self.path / "clients.csv").open("a") as file:
            file.write("".join(lines))
        figures = ",".join(map(str, self.rng.random(2 * len(MEASURES)).tolist()))
        with (self.path / "rounds.csv").open("a") as file:
            file.write(f"{number},{figures}\n")
        self.beat()
        return time.time()

    def beat(self) -> None:
        """Say that it is alive."""
        config = {"task": "attributes", "dataset": "drawn", "num-server-rounds": 999}
        info = {"status": "running", "config": config, "num_clients": self.clients}
        text = json.dumps({**info, "updated": datetime.now(UTC).isoformat()})
        (self.path / ".new").write_text(text)
        os.replace(self.path / ".new", self.path / "run.json")


def measure(address: str, run: FakeRun, part: str, done: int, pause: float) -> dict[str, Any]:
    """When each round was written, and when the page had it."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in ("--headless=new", "--no-sandbox", "--window-size=1280,1000"):
        options.add_argument(flag)
    with webdriver.Chrome(options, Service(shutil.which("chromedriver"))) as browser:
        browser.implicitly_wait(60)
        browser.get(f"{address}/run?run={run.path.name}")
        browser.find_element("xpath", f"//button[.//p[text()='{part}']]").click()
        run.beat()
        time.sleep(5)
        browser.execute_script(WATCH)
        written = {}
        for number in range(done, done + ROUNDS):
            written[number] = run.write(number)
            time.sleep(pause)
        return {"written": written, "seen": browser.execute_script("return window.seen")}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--part", default="Learning", help="of the page, such as Clients")
    parser.add_argument("--done", type=int, default=2, help="rounds that are there before")
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between rounds")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        run = FakeRun(Path(home) / "runs" / "made", args.clients)
        for number in range(args.done):
            run.write(number)
        (port,) = free_ports(1)
        code = f"from celeba_fl.dashboard.launch import launch; launch('127.0.0.1', {port})"
        environment = {**os.environ, "CELEBA_FL_HOME": home}
        server = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL
        )
        try:
            time.sleep(8)
            found = measure(f"http://127.0.0.1:{port}", run, args.part, args.done, args.pause)
        finally:
            server.terminate()
            server.wait()
    for what in ("count", "chart"):
        late = [
            found["seen"][f"{what} {number}"] - at
            for number, at in found["written"].items()
            if f"{what} {number}" in found["seen"]
        ]
        print(
            f"{args.clients} clients, {args.part}, {args.done} rounds before: {what} of "
            f"{len(late)} rounds after {median(late):.2f} s in the median, {max(late):.2f} at most"
        )
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
