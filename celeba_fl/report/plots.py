"""The pictures of a run: `plots/*.png` in its run directory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from celeba_fl.runs import read_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, str]]

# Okabe and Ito's colours, told apart with every kind of colour vision (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
PARTS = {"train": "clients, train", "valid": "clients, validation", "test": "test"}


def draw_plots(run: Path) -> list[Path]:
    """Draw what a run directory has data for.

    Parameters
    ----------
    run : Path
        The run directory; it may be of an unfinished run.

    Returns
    -------
    list[Path]
        The PNG files.
    """
    figures = {
        "partitions": draw_partitions(read_csv(run / "partitions.csv")),
        "rounds": draw_rounds(read_csv(run / "rounds.csv")),
    }
    (run / "plots").mkdir(exist_ok=True)
    paths = []
    for name, figure in figures.items():
        if figure is not None:
            paths.append(run / "plots" / f"{name}.png")
            figure.savefig(paths[-1], dpi=150)
    return paths


def draw_partitions(rows: Rows) -> "Figure | None":
    """Who holds what: train examples of each client, stacked by group (``Male=1,Young=0``)."""
    groups = [key for key in rows[0] if "=" in key] if rows else []
    if not groups:
        return None
    figure, axes = _axes(8, 3.2)
    counts = np.array([[int(row[group]) for group in groups] for row in rows])
    bottoms = np.cumsum(counts, axis=1) - counts
    for i, group in enumerate(groups):
        axes.bar(
            range(len(rows)),
            counts[:, i],
            bottom=bottoms[:, i],
            width=0.9,
            color=COLOURS[i % len(COLOURS)],
            label=group,
        )
    step = -(-len(rows) // 25)
    axes.set_xticks(range(0, len(rows), step), [row["client"] for row in rows[::step]])
    axes.set_xlabel("client")
    axes.set_ylabel("train images")
    axes.set_title(f"Who holds what: {len(rows)} clients, {counts.sum():,} train images")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def draw_rounds(rows: Rows) -> "Figure | None":
    """Loss, accuracy beside the majority's, and balanced accuracy by round."""
    metrics = [
        name for name in ("loss", "accuracy", "balanced_accuracy") if f"valid_{name}" in rows[0]
    ] if rows else []  # fmt: skip
    if not metrics:
        return None
    figure, axes = _axes(4 * len(metrics), 3.4, len(metrics))
    for plot, metric in zip(np.atleast_1d(axes), metrics, strict=True):
        for colour, (part, label) in zip(COLOURS, PARTS.items(), strict=False):
            known = [row for row in rows if row.get(f"{part}_{metric}")]
            values = [float(row[f"{part}_{metric}"]) for row in known]
            plot.plot([int(row["round"]) for row in known], values, color=colour, label=label)
        majority = [
            row["test_majority_accuracy"] for row in rows if "test_majority_accuracy" in row
        ]
        if metric == "accuracy" and majority and majority[-1]:
            plot.axhline(float(majority[-1]), color="#666", ls="--", lw=1, label="test, majority")
        plot.set_xlabel("round")
        plot.set_ylabel({"loss": "loss (nats)"}.get(metric, metric.replace("_", " ")))
        plot.legend(frameon=False, fontsize="small")
    return figure


def _axes(width: float, height: float, columns: int = 1):  # type: ignore[no-untyped-def]
    """A figure without a window, whatever matplotlib's backend is."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns)
    for plot in np.atleast_1d(axes):
        plot.spines[["top", "right"]].set_visible(False)
        plot.grid(axis="y", color="#ddd", lw=0.6)
        plot.set_axisbelow(True)
    return figure, axes
