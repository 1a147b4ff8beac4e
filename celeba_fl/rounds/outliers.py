"""Who stands out of a cohort: robust z-scores of updates, and of the loss that came before them.

A score is a distance from the median, in MADs: Iglewicz and Hoaglin, "How to Detect and Handle
Outliers", 1993. What stands out is no proof of anything: a client may be the only one of its kind.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from celeba_fl.common.arrays import Floats
from celeba_fl.common.log import LOG

# Of fewer clients, a median says too little of what is usual.
FEWEST = 10
# So many spreads from the median; honest clients stay within 6, see README.md.
BEYOND = 8.0
MAD = 1.4826  # by which it is a standard deviation, where numbers are normal
MOST_NAMED = 10
# Columns of the rows that are compared, and of what is found.
SIZE, NORM, COSINE, LOSS = "num_examples", "update_norm", "update_cosine", "loss_before"
SUSPECTED = "suspected"


@dataclass(frozen=True)
class Sign:
    """Something that may stand out, in one direction."""

    name: str
    words: str
    least: float  # spread that a cohort has at least: honest clients may be alike by chance
    up: bool = True  # whether more than usual is what stands out, or less
    ratios: bool = False  # whether it is compared as a ratio, by its logarithm
    by_size: bool = False  # and with clients of as many examples
    below: float = math.inf  # only what is lower than that stands out

    def scores(self, rows: Sequence[Mapping[str, Any]]) -> Floats:
        """The z-score of each row, NaN where there is none."""
        values = np.array([row[self.name] for row in rows], dtype=np.float64)
        sizes = np.array([row[SIZE] for row in rows], dtype=np.float64)
        known = np.isfinite(values) & ((values > 0) | (not self.ratios))
        known &= (sizes > 0) | (not self.by_size)
        scores = np.full(len(rows), np.nan)
        if known.sum() < FEWEST:
            return scores
        usual = values[known]
        if self.ratios:
            usual = np.log(usual)
        if self.by_size:
            usual = usual - _slope(np.log(sizes[known]), usual) * np.log(sizes[known])
        apart = usual - np.median(usual)
        scores[known] = apart / max(MAD * float(np.median(np.abs(apart))), self.least)
        return scores


SIGNS = (
    Sign(
        NORM,
        "its update is far longer than those of clients of its size",
        least=0.2,
        ratios=True,
        by_size=True,
    ),
    # Updates of few examples are mostly noise: only one that undoes the step says something.
    Sign(COSINE, "its update points against the model's own step", least=0.05, up=False, below=0.0),
    Sign(LOSS, "the model before the round was far worse on its examples", least=0.2, ratios=True),
)


def compare(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The z-scores of the clients of a round, and by which signs each of them is suspected.

    A row has what the `SIGNS` name and ``num_examples``; what is not known is NaN.
    """
    scores = {sign.name: sign.scores(rows) for sign in SIGNS}
    found = []
    for place, given in enumerate(rows):
        own = {sign: float(scores[sign.name][place]) for sign in SIGNS}
        beyond = [
            sign.name
            for sign, z in own.items()
            if (z if sign.up else -z) > BEYOND and given[sign.name] < sign.below
        ]
        row = {f"{sign.name}_z": z for sign, z in own.items()}
        found.append({**row, SUSPECTED: " ".join(beyond)})
    return found


def tell(server_round: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Log who stands out, and by what."""
    suspected = [row for row in rows if row[SUSPECTED]]
    for row in suspected[:MOST_NAMED]:
        signs = [
            f"{sign.words} ({sign.name} {row[sign.name]:.3g}, z {row[f'{sign.name}_z']:.1f})"
            for sign in SIGNS
            if sign.name in row[SUSPECTED].split()
        ]
        client = row["client"]
        LOG.warning("round %d: client %s stands out: %s", server_round, client, "; ".join(signs))
    if (more := len(suspected) - MOST_NAMED) > 0:
        LOG.warning("round %d: %d more clients stand out", server_round, more)


def _slope(x: Floats, y: Floats) -> float:
    """The slope of Tukey's resistant line, between the medians of the outer thirds."""
    order, third = np.argsort(x, kind="stable"), len(x) // 3
    low, high = order[:third], order[-third:]
    across = float(np.median(x[high]) - np.median(x[low]))
    return float(np.median(y[high]) - np.median(y[low])) / across if across else 0.0
