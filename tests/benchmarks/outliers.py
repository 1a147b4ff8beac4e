"""Who is suspected: honest clients, and one that sends its update stretched. A table.

python tests/benchmarks/outliers.py [key=value ...] [--clients 50] [--rounds 10] [--seeds 3]

For each partitioning and factor by which client 3 multiplies its update (1: it is honest), how
often an honest client was suspected, the largest of their scores by sign, and in how many of the
rounds in which its update was taken the liar was. About a second of one core a round of 50.
"""

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.common.arrays import Arrays
from celeba_fl.config import RunConfig
from celeba_fl.launch.experiments import parse_pair
from celeba_fl.launch.inline import run_inline
from celeba_fl.rounds.outliers import SIGNS, SUSPECTED
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.task import Instructions, NodeConfig, Trained
from celeba_fl.tasks.attributes import Attributes

LIAR = 3
FACTORS = (1, -1, -10, 100)
train = Attributes.train


def stretching(factor: int) -> Any:
    """A client's training, after which `LIAR` sends so many times its update."""

    def stretched(
        self: Attributes, arrays: Arrays, node: NodeConfig, instructions: Instructions, seed: int
    ) -> Trained:
        made = Trained(*train(self, arrays, node, instructions, seed))
        if node["partition-id"] != LIAR or factor == 1:
            return made
        moved = {
            key: before + factor * (made.arrays[key] - before) for key, before in arrays.items()
        }
        return made._replace(arrays={k: v.astype(arrays[k].dtype) for k, v in moved.items()})

    return stretched


def rows_of(settings: dict[str, Any], clients: int) -> list[dict[str, str]]:
    """The rows of `clients.csv` of a run, of clients whose update was taken."""
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig.load({**settings, "results-dir": folder})
        run_inline(config, clients, server_app.app, client_app)
        rows = read_csv(read_runs(Path(folder))[0].path / "clients.csv")
    return [row for row in rows if row["update_norm"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="*", metavar="key=value")
    for flag, value in (("--clients", 50), ("--rounds", 10), ("--seeds", 3)):
        parser.add_argument(flag, type=int, default=value)
    options = parser.parse_args()
    given = {"num-server-rounds": options.rounds, **dict(map(parse_pair, options.pairs))}
    logging.getLogger("flwr").setLevel("CRITICAL")
    server_app._draw_report = lambda run: None
    print("| partitions | factor | honest, suspected | largest scores | liar, suspected |")
    print("|---|---|---|---|---|")
    for partitioner in ("iid", "dirichlet", "natural"):
        for factor in FACTORS:
            Attributes.train = stretching(factor)  # type: ignore[method-assign]
            keys = {**given, "partitioner": partitioner}
            seeds = range(1, 1 + options.seeds)
            rows = [r for seed in seeds for r in rows_of({**keys, "seed": seed}, options.clients)]
            lies = [r for r in rows if factor != 1 and r["client"] == str(LIAR)]
            honest = [row for row in rows if row not in lies]
            most = [
                max((1 if s.up else -1) * float(row[f"{s.name}_z"] or 0) for row in honest)
                for s in SIGNS
            ]
            said = [sum(bool(row[SUSPECTED]) for row in of) for of in (honest, lies)]
            scores = ", ".join(f"{s.name} {z:.1f}" for s, z in zip(SIGNS, most, strict=True))
            found = f"{said[1]} of {len(lies)}" if lies else ""
            print(f"| {partitioner} | {factor} | {said[0]} of {len(honest)} | {scores} | {found} |")


if __name__ == "__main__":
    main()
