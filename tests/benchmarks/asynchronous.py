"""Time until a model is good, with one slow client: synchronous and asynchronous rounds. A table.

python tests/benchmarks/asynchronous.py [KEY=VALUE ...] [--clients 10] [--slow 20] [--rounds 10]
        [--buffers 1 2 5] [--steps 0] [--short 0.005] [--folder /dev/shm/asynchronous]

In one process on a virtual clock: a client takes one second for an answer, and client 0 so many
times that (`--slow`), so that every figure is exact and the same on every machine. The target is
the AUROC on the server's validation images that so many synchronous rounds reach, less what is
given up (`--short`). A run ends with the round that is this good, or, if it is asynchronous, when
the synchronous rounds are over. On drawn faces; the keys are those of `celeba-fl run`.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import Any

from people import head, line

from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.launch.experiments import parse_pair
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as server_app

METRIC = "server_valid_auroc"
HEADER = ("rounds", "seconds to the target", "in rounds", "AUROC", "test AUROC", "trainings")


def measure(folder: Path, clients: int, settings: dict[str, Any]) -> list[dict[str, str]]:
    """The rounds of a run in this process."""
    config = RunConfig.load({"watch": "auroc", **settings, "results-dir": str(folder)})
    run_inline(config, clients, server_app, client_app)
    return read_csv(read_runs(folder)[0].path / "rounds.csv")


def seconds(rows: list[dict[str, str]]) -> float:
    """The virtual seconds of all rounds."""
    return sum(float(row["seconds"]) for row in rows)


def main() -> None:
    """Measure each scheduler, and print a line for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="*", type=parse_pair, help="run-config keys: key=value")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--slow", type=float, default=20.0, help="seconds of client 0")
    parser.add_argument("--rounds", type=int, default=10, help="synchronous rounds")
    parser.add_argument("--buffers", type=int, nargs="*", default=[1, 2, 5])
    parser.add_argument("--steps", type=float, nargs="*", default=[0.0], help="of the server")
    parser.add_argument("--short", type=float, default=0.005, help="AUROC below the final one")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm/asynchronous"))
    said = parser.parse_args()
    keys = {"fraction-evaluate": 0.0, "client-seconds": f"1, 0={said.slow}", **dict(said.pairs)}
    all_rounds = measure(said.folder, said.clients, {**keys, "num-server-rounds": said.rounds})
    target = float(all_rounds[-1][METRIC]) - said.short
    end = {"max-seconds": seconds(all_rounds), "target": target, "num-server-rounds": 10**6}
    print(f"target: AUROC {target:.4f}\n\n{head(HEADER)}", flush=True)
    settings: dict[str, dict[str, Any]] = {"synchronous": {}}
    for buffer, step in product(said.buffers, said.steps):
        own = {"scheduler": "asynchronous", "buffer-size": buffer, "server-learning-rate": step}
        name = f"buffer-size = {buffer}" + (f", step {step:g}" if step else "")
        settings[f"asynchronous, {name}"] = own
    for name, own in settings.items():
        rows = measure(said.folder, said.clients, {**keys, **own, **end})
        found = float(rows[-1][METRIC])
        reached = f"{seconds(rows):g}" if found >= target else f"not in {seconds(rows):g}"
        each = own.get("buffer-size", said.clients)
        cells = [name, reached, rows[-1]["round"], f"{found:.4f}"]
        cells += [f"{float(rows[-1]['test_auroc']):.4f}", str(each * (len(rows) - 1))]
        print(line(cells), flush=True)


if __name__ == "__main__":
    main()
