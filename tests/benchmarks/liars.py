"""Clients that lie about their sums: who is accused, of liars and of honest ones.

python tests/benchmarks/liars.py [dataset=/data/celeba weights=/data/mobilenet_v2.pt] \
        [--only IID natural] [--seeds 20] [--lies turned within-limits] [--liars 0 1 5]

Fifty clients hold the train images, another dealing each seed. Of those with ten images and more,
some are drawn, who all multiply the rows of X'Y, but for the one that counts positives, by -30
(`turned`); or as far in that direction as the check of a client's sums lets them (`within-limits`).
A line for each partitioning, lie and number of liars, as soon as its seeds are done. About twelve
seconds of one core a seed and partitioning for 0, 1 and 5 liars.
"""

import argparse
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from people import head, line
from strategies import CLIENTS, PARTITIONINGS

from celeba_fl.common.arrays import Arrays, sum_counts
from celeba_fl.config import RunConfig
from celeba_fl.launch.experiments import parse_pair
from celeba_fl.models import scaling
from celeba_fl.models.ridge import STEP
from celeba_fl.task import Instructions
from celeba_fl.tasks import closed_form
from celeba_fl.tasks.attributes import Attributes
from celeba_fl.tasks.contributions import Contributions
from celeba_fl.tasks.examples import Examples

TURNED, WITHIN = "turned", "within-limits"
TIMES, FEWEST = -30, 10
COLUMNS = (
    "clients",
    "lie",
    "liars",
    "seeds in which all are accused",
    "liars accused",
    "honest accused",
    "honest suspected",
    "largest excess of an honest one",
    "smallest of a liar",
)


class Dealt:
    """The sums of clients, and the server's validation split, of one seed."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        task = Attributes(RunConfig.load({"strategy": "closed-form", **settings}))
        asked = task.prepare().instructions
        self.own: dict[str, Arrays] = {}
        held = []
        for client in range(CLIENTS):
            train = task._parts({"partition-id": client, "num-partitions": CLIENTS}, asked)["train"]
            parts, ones = {"train": train}, lambda labels: np.ones(len(labels))
            self.own[str(client)] = closed_form.sums_of(parts, ["train_xx"], ones)
            held.append(scaling.sums_of(train.features))
        told: Instructions = {"scaling": scaling.Scaling.of_sums(sum_counts(held)).to_bytes()}
        self.valid: Examples = task._central["server_valid"]
        self.common = closed_form.complete(task.config, {}, self.valid, told)
        self.able = [name for name, one in self.own.items() if one["train_xx"][-1] * STEP >= FEWEST]

    def judged(self, liars: set[str], lie: str) -> Contributions:
        """What comes of it if some lie."""
        sent = {name: lied(own, lie) if name in liars else own for name, own in self.own.items()}
        total = sum_counts(sent.values())
        return Contributions({**total, **self.common}, [*sent], sent.__getitem__, self.valid)


def lied(own: Arrays, lie: str) -> Arrays:
    """Sums of a client whose features go with the wrong labels; the numbers of positives stay."""
    xx, xy = own["train_xx"], own["train_xy"].copy()
    xy[:-1] *= TIMES
    if lie == WITHIN:
        # By Cauchy and Schwarz, for the images with an attribute, and for those without it.
        rows = np.split(xx.astype(np.float64), np.cumsum(np.arange(len(xy), 1, -1)))
        square, column = (np.array([row[at] for row in rows])[:, None] for at in (0, -1))
        yes = xy[-1].astype(np.float64)
        with_it, without = (np.sqrt(square * n) for n in (yes, square[-1] - yes))
        limited = np.clip(xy, -with_it, with_it)
        xy[:-1] = np.clip(limited, column - without, column + without)[:-1].astype(np.int64)
    return {"train_xx": xx, "train_xy": xy}


def main() -> None:
    """Print a line for each partitioning, lie and number of liars."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="*", type=parse_pair, help="run-config keys: key=value")
    parser.add_argument("--only", nargs="*", default=[*PARTITIONINGS], choices=[*PARTITIONINGS])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--lies", nargs="*", default=[TURNED], choices=[TURNED, WITHIN])
    parser.add_argument("--liars", nargs="*", type=int, default=[0, 1, 5])
    said = parser.parse_args()
    logging.disable(logging.WARNING)
    print(head(COLUMNS))
    for name in said.only:
        cases: dict[tuple[str, int], list[tuple[int, int, int, float, float]]] = {}
        for seed in range(said.seeds):
            dealt = Dealt({**dict(said.pairs), **PARTITIONINGS[name], "seed": seed})
            drawn = np.random.default_rng(seed).permutation(dealt.able).tolist()
            for lie in said.lies:
                for number in said.liars:
                    liars = {*drawn[:number]}
                    found = dealt.judged(liars, lie)
                    pulls, accused = found.pulls, {*found.accused}
                    lying = np.isin(pulls.names, [*liars])
                    cases.setdefault((lie, number), []).append(
                        (
                            len(accused & liars),
                            len(accused - liars),
                            int(pulls.suspected[~lying].sum()),
                            float(np.nanmax(pulls.excess[~lying])),
                            float(pulls.excess[lying].min(initial=np.inf)),
                        )
                    )
        for (lie, number), seeds in cases.items():
            right, wrong, suspected, honest, least = map(np.array, zip(*seeds, strict=True))
            cells = [
                f"{(right == number).sum()} of {len(seeds)}",
                f"{right.sum()} of {number * len(seeds)}",
                f"{wrong.sum()} of {(CLIENTS - number) * len(seeds)}",
                str(suspected.sum()),
                f"{honest.max():.1f}",
                f"{least.min():.3g}" if number else "",
            ]
            print(line([name, lie, str(number), *cells]), flush=True)


if __name__ == "__main__":
    main()
