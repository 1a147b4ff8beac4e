"""Each metric by round, and what the rounds cost."""

import numpy as np

from celeba_fl.report.html import Block, Picture, Pictures
from celeba_fl.report.names import PARTS, first_metrics, name_of
from celeba_fl.report.pictures import curves as pictures
from celeba_fl.report.reading import Rows, Run, floats, number
from celeba_fl.report.rules import about_curves
from celeba_fl.report.words import figure, sentence

SHOWN = 5
# Round 0 is left out of a curve where the others take less than this part of its height; with
# fewer rounds there is no curve without it.
FLAT, FEWEST = 1 / 3, 4


def curves(run: Run) -> list[Block]:
    """Each metric by round, and what the rounds cost."""
    if made := run.info.more.get("made_from"):
        return [f"No client was asked for this head: it follows from the sums of the run {made}."]
    if run.last_round < 1:
        before = "; all figures are from before training" if run.rounds else ""
        return [f"No round has been completed yet{before}."]
    pictures = Pictures([_curve(run, name) for name in curve_metrics(run.metric_names())])
    binary = "auroc" in run.metric_names()
    about = [about_curves(run.info.config)] if binary else []
    return [pictures, *about, *_staleness(run), _cost(run)]


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
    rows, zero = shown_rounds(run.rounds, metric), "; 0 is before training"
    if len(rows) < len(run.rounds):
        before = (number(run.rounds[0], f"{part}_{metric}") for part in ("test", "valid", "train"))
        found = next(value for value in before if value == value)
        zero = f", from 1; beside round 0 ({figure(found)}), all others would look the same"
    ends = [
        f"{part} {figure(value)}"
        for part in ("train", "valid", "test")
        if (value := number(last, f"{part}_{metric}")) == value
    ]
    return Picture(
        f"rounds_{metric}",
        f"Line chart of {name_of(metric)} over {run.last_round} rounds; at the end "
        f"{', '.join(ends) or 'nothing'}.",
        f"{sentence(name_of(metric))} by round{zero}.",
        pictures.rounds(
            rows, metric, {name: value for name, value in levels.items() if value == value}
        ),
    )


def shown_rounds(rows: Rows, metric: str) -> Rows:
    """The rows of a curve: without that of round 0 where it takes most of the picture's height."""
    if len(rows) < FEWEST or rows[0]["round"] != "0":
        return rows
    values = np.array([floats(rows, f"{part}_{metric}") for part in PARTS])
    if np.isnan(values[:, 1:]).all():
        return rows
    whole, later = (np.nanmax(part) - np.nanmin(part) for part in (values, values[:, 1:]))
    return rows[1:] if later < FLAT * whole else rows


def _staleness(run: Run) -> list[str]:
    """How old the models were that clients trained on, where no round waits for all."""
    found = floats(run.clients, "staleness")
    found = found[np.isfinite(found)]
    if not len(found):
        return []
    return [
        f"No round waited for all clients. The model that a client had trained on was "
        f"{found.mean():.1f} rounds older than the newest on average, by the time of its answer: "
        f"{100 * (found == 0).mean():.0f} % of the {len(found):,} answers were on the newest, and "
        f"none was more than {found.max():.0f} behind. What is older counts for less."
    ]


def _cost(run: Run) -> str:
    up, down = (floats(run.rounds, f"bytes_{way}").sum() / 1e6 for way in ("up", "down"))
    failures = np.nansum(floats(run.rounds, "failures"))
    trained = [number(row, "seconds") for row in run.rounds if row["round"] != "0"]
    left = f"{failures:.0f} replies were left out because they failed"
    few = {0: "no reply was left out", 1: "one reply was left out because it failed"}
    return (
        f"Over all rounds, the clients sent {up:,.1f} MB and received {down:,.1f} MB. The median "
        f"round took {np.median(trained):.1f} s, and {few.get(int(failures), left)}."
    )
