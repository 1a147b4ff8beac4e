"""The rounds of all runs, and how evenly their clients are served after the last one."""

from collections.abc import Mapping

import numpy as np

from celeba_fl.report.html import Block, Picture, Pictures, Table
from celeba_fl.report.names import PARTS, name_of
from celeba_fl.report.pictures.curves import compared_rounds
from celeba_fl.report.reading import Run, floats, number
from celeba_fl.report.sections.curves import curve_metrics
from celeba_fl.report.words import figure, sentence


def curves(runs: Mapping[str, Run]) -> list[Block]:
    """Each metric by round, the runs laid over each other."""
    begun = {name: run for name, run in runs.items() if run.rounds}
    if not begun:
        return []
    names = dict.fromkeys(name for run in begun.values() for name in run.metric_names())
    pictures = []
    for metric in curve_metrics(list(names)):
        measured = any(row.get(f"test_{metric}") for run in begun.values() for row in run.rounds)
        part = "test" if measured else "valid"
        rows = {name: run.rounds for name, run in begun.items()}
        ends = [
            f"{name} {figure(number(run.rounds[-1], f'{part}_{metric}'))}"
            for name, run in begun.items()
        ]
        pictures.append(
            Picture(
                metric,
                f"Line chart of {name_of(metric)} by round; at the end {'; '.join(ends)}.",
                f"{sentence(name_of(metric))} by round, {PARTS[part]}.",
                compared_rounds(rows, part, metric),
            )
        )
    return [Pictures(pictures)]


def clients(runs: Mapping[str, Run]) -> list[Block]:
    """The spread over the clients after the last round."""
    rows = []
    for name, run in runs.items():
        known = [row for row in run.clients if row.get("valid_loss")]
        last = max((int(row["round"]) for row in known), default=-1)
        ended = [row for row in known if int(row["round"]) == last]
        metric = "accuracy" if any(row.get("valid_accuracy") for row in ended) else "loss"
        values = floats(ended, f"valid_{metric}")
        values = values[~np.isnan(values)]
        if len(values):
            spread = np.quantile(values, (0, 0.1, 0.5, 0.9, 1))
            rows.append((name, name_of(metric), str(len(values)), *map(figure, spread)))
    header = ("run", "metric", "clients", "lowest", "10 %", "median", "90 %", "highest")
    caption = "Spread over the clients, on their own validation examples, after the last round"
    return [Table(caption, header, rows)] if rows else []
