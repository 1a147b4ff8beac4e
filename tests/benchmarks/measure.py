"""What the benchmarks share: Flower runs that are timed, and processes that are weighed."""

import csv
import json
import math
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

import tomli_w

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from engine import APP, Flower

APPS = Path(__file__).parent / "apps"
MB = 2**20


@dataclass
class Run:
    """One run: wall seconds, seconds of its rounds, and memory of its largest worker.

    Of ours, the seconds from its directory to the list of its clients, and those until its report
    was there, once it was completed; on Ray, Flower ends its workers meanwhile.
    """

    seconds: float
    rounds: list[float]
    memory: dict[str, float] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    begin: float = 0.0
    report: float = math.nan

    @property
    def later(self) -> float:
        """Mean seconds of a round after the first; NaN if there is none."""
        return mean(self.rounds[1:] or [math.nan])


class Weigher(threading.Thread):
    """Watches processes by name, and keeps the most that one of them took, in MB."""

    def __init__(self, flower: Flower, name: str) -> None:
        super().__init__(daemon=True)
        self.flower, self.name, self.ended = flower, name, threading.Event()
        self.most = {"pss": 0.0, "private": 0.0, "all": 0.0}

    def run(self) -> None:
        """Weigh once a second until told to end."""
        while not self.ended.wait(1.0):
            weighed = [weigh(one.pid) for one in self.flower.processes("")]
            named = [weigh(one.pid) for one in self.flower.processes(self.name)]
            for one in named:
                for key in ("pss", "private"):
                    self.most[key] = max(self.most[key], one[key])
            self.most["all"] = max(self.most["all"], sum(one["pss"] for one in weighed))


def weigh(pid: int | str) -> dict[str, float]:
    """Memory of a process in MB: its share of all pages, and those of its own."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:  # it has ended
        return {"pss": 0.0, "private": 0.0}
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
    return {"pss": sizes["Pss"], "private": sizes["Private_Clean"] + sizes["Private_Dirty"]}


def run_app(flower: Flower, app: Path, settings: Mapping[str, Any], nodes: int) -> Run:
    """`flwr run` of an app that writes when its rounds ended to the file `out`."""
    out = flower.folder / "rounds.json"
    out.unlink(missing_ok=True)
    seconds = timed_run(flower, app, {**settings, "out": str(out)}, nodes)
    result = json.loads(out.read_text())
    ends = result.pop("ended")
    rounds = [after - before for before, after in pairwise(ends)]
    return Run(seconds, rounds, result=result)


def run_ours(flower: Flower, settings: Mapping[str, Any], nodes: int, inline: bool = False) -> Run:
    """`flwr run` of this project, or its run in one process."""
    runs = flower.folder / "runs"
    weigher = Weigher(flower, "ray::ClientApp")
    weigher.start()
    settings = {**settings, "results-dir": str(runs)}
    if inline:
        seconds = timed_inline(flower, settings, nodes)
    else:
        seconds = timed_run(flower, APP, settings, nodes)
    weigher.ended.set()
    weigher.join()
    return read_run(max(runs.iterdir()), seconds, weigher.most)


def read_run(path: Path, seconds: float, memory: dict[str, float] | None = None) -> Run:
    """A run of ours from its directory."""
    info = json.loads((path / "run.json").read_text())
    if info["status"] != "completed":
        raise SystemExit(f"{path}: {info['status']}: {info['reason']}")
    rows = list(csv.DictReader((path / "rounds.csv").open()))
    cohort = int(rows[1]["clients"])
    result = {
        "test_accuracy": [float(row["test_accuracy"] or "nan") for row in rows],
        "bytes_up": int(rows[1]["bytes_up"]) // cohort,
        "bytes_down": int(rows[1]["bytes_down"]) // cohort,
    }
    finished = datetime.fromisoformat(info["finished"]).timestamp()
    result["report_kb"] = (path / "report.html").stat().st_size / 1000
    started = datetime.fromisoformat(info["started"]).timestamp()
    begin = (path / "partitions.csv").stat().st_mtime - started
    report = (path / "report.html").stat().st_mtime - finished
    seconds_of = [float(row["seconds"]) for row in rows[1:]]
    return Run(seconds, seconds_of, memory or {}, result, begin, report)


def timed_run(flower: Flower, app: Path, settings: Mapping[str, Any], nodes: int) -> float:
    """Wall seconds of a `flwr run --stream`."""
    config = flower.folder / "settings.toml"
    config.write_text(tomli_w.dumps(settings))
    command = ["flwr", "run", str(app), "--stream", "--run-config", str(config)]
    start = time.perf_counter()
    done = flower.call(*command, "--federation-config", str(flower.federation(nodes)))
    seconds = time.perf_counter() - start
    run_id = re.search(r"Successfully started run (\d+)", done.stdout)
    if not run_id or flower.status(run_id[1]) != "finished:completed":
        raise SystemExit(f"{app.name} failed:\n{done.stdout}\n{done.stderr}")
    return seconds


def timed_inline(flower: Flower, settings: Mapping[str, Any], nodes: int) -> float:
    """Wall seconds of a `celeba-fl run --inline`."""
    experiment, federation = flower.folder / "inline.toml", str(flower.federation(nodes))
    experiment.write_text(tomli_w.dumps(settings))
    start = time.perf_counter()
    done = flower.call("celeba-fl", "run", str(experiment), "--inline", "--federation", federation)
    if done.returncode:
        raise SystemExit(f"{experiment} failed:\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - start


def in_new_process(code: str, repeats: int = 3) -> dict[str, float]:
    """Run code a few times that prints a JSON object of numbers; the median of each."""
    command = [sys.executable, "-c", code]
    said = [
        json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(repeats)
    ]
    return {key: median(one[key] for one in said) for key in said[0]}
