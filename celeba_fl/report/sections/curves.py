"""Each metric by round, and what the rounds cost."""

import numpy as np

from celeba_fl.report.html import Block, Picture, Pictures
from celeba_fl.report.names import first_metrics, name_of
from celeba_fl.report.pictures import curves as pictures
from celeba_fl.report.reading import Run, floats, number
from celeba_fl.report.rules import about_curves
from celeba_fl.report.words import figure, sentence

SHOWN = 5


def curves(run: Run) -> list[Block]:
    """Each metric by round, and what the rounds cost."""
    if made := run.info.more.get("made_from"):
        return [f"No client was asked for this head: it follows from the sums of the run {made}."]
    if not run.rounds:
        return ["No round has been completed yet."]
    pictures = Pictures([_curve(run, name) for name in curve_metrics(run.metric_names())])
    binary = "auroc" in run.metric_names()
    return [pictures, *([about_curves(run.info.config)] if binary else []), _cost(run)]


def curve_metrics(names: list[str]) -> list[str]:
    """The metrics whose curves are shown."""
    metrics = first_metrics(names, SHOWN + 2)
    return [name for name in metrics if name != "average_precision"][:SHOWN]


def _curve(run: Run, metric: str) -> Picture:
    last = run.rounds[-1]
    central = run.reference("central")
    levels = {"central model, test": central[metric]} if metric in central else {}
    if metric == "accuracy":
        levels["majority's answer, test"] = number(last, "test_majority_accuracy")
    if metric == "loss":
        levels["base rates of train, on test"] = number(last, "test_base_rates_loss")
    levels["real to real, test to validation"] = number(last, f"test_real_{metric}")
    ends = [
        f"{part} {figure(value)}"
        for part in ("train", "valid", "test")
        if (value := number(last, f"{part}_{metric}")) == value
    ]
    return Picture(
        f"rounds_{metric}",
        f"Line chart of {name_of(metric)} over {run.last_round} rounds; at the end "
        f"{', '.join(ends) or 'nothing'}.",
        f"{sentence(name_of(metric))} by round; 0 is before training.",
        pictures.rounds(
            run.rounds, metric, {name: value for name, value in levels.items() if value == value}
        ),
    )


def _cost(run: Run) -> str:
    up, down = (floats(run.rounds, f"bytes_{way}").sum() / 1e6 for way in ("up", "down"))
    failures = np.nansum(floats(run.rounds, "failures"))
    trained = [number(row, "seconds") for row in run.rounds if row["round"] != "0"]
    time = np.median(trained) if trained else float("nan")
    return (
        f"Over all rounds, the clients sent {up:,.1f} MB and received {down:,.1f} MB. The median "
        f"round took {time:.1f} s, and {failures:.0f} replies were left out because they failed."
    )
