"""Whether probabilities come true, and what they are worth beside the base rates."""

from collections.abc import Mapping

import numpy as np

from celeba_fl.evaluation.metrics import mean
from celeba_fl.report.html import Block, Picture, Pictures, Table
from celeba_fl.report.pictures.probabilities import reliability
from celeba_fl.report.reading import Rows, Run, floats, number, rows_of
from celeba_fl.report.rules import recalibrated
from celeba_fl.report.words import figure, named

SPLITS = {"test": "test", "valid": "clients, validation"}


def probabilities(run: Run) -> list[Block]:
    """How often what gets a probability comes true, over all attributes and for each."""
    together = {name: rows_of(run.calibration, split) for split, name in SPLITS.items()}
    splits = {
        name: [row for row in rows if not row["attribute"]] for name, rows in together.items()
    }
    splits = {name: rows for name, rows in splits.items() if rows}
    if not splits:
        return []
    split = "test" if SPLITS["test"] in splits else "valid"
    rows = rows_of(run.attributes, split)
    error, loss, base = (
        floats(rows, key) for key in ("calibration_error", "loss", "base_rates_loss")
    )
    worse = int(np.sum(loss > base))
    how = (
        "Scores were recalibrated by a slope and an offset for each attribute, fitted on validation"
        if recalibrated(run.info.config)
        else "Probabilities are as the head gives them; calibration = valid would refit them"
    )
    text = (
        f"{how}. The expected calibration error is {figure(mean(error))} on the {split} split, the "
        f"mean over the attributes: so far, on average, is a probability from the share that it "
        f"should be. Of few images it is above 0 by chance alone. The loss is "
        f"{figure(mean(loss))} nats; that of always giving the base rates of the clients' train "
        f"images is {figure(mean(base))}, and the model does worse than these on "
        f"{worse} of {len(rows)} attributes."
    )
    far = max(next(iter(splits.values())), key=_apart)
    picture = Picture(
        "reliability",
        f"Dot chart of the share that has an attribute by its mean probability in ten bands; on "
        f"{next(iter(splits))} farthest apart at {figure(float(far['predicted']))}, which comes "
        f"true in {figure(float(far['observed']))}. A table of the attributes is below.",
        "How often what gets a probability comes true, all attributes together; on the dotted line "
        "it does as often as said. Bars are 95 % intervals over people, where they are known.",
        reliability(splits),
    )
    return [text, Pictures([picture]), _table(split, rows)]


def _apart(row: Mapping[str, str]) -> float:
    return abs(number(row, "predicted") - number(row, "observed"))


def _table(split: str, rows: Rows) -> Table:
    """Loss beside the base rates', and the calibration error, the worst first."""
    order = np.argsort(floats(rows, "base_rates_loss") - floats(rows, "loss"), kind="stable")
    columns = ("loss", "base_rates_loss", "calibration_error")
    cells = [floats(rows, column)[order] for column in columns]
    return Table(
        f"Loss of each attribute on the {split} split beside that of the base rates of train, and "
        f"its calibration error; where the base rates are best comes first",
        ("attribute", "loss", "loss of the base rates", "calibration error"),
        [
            (named(rows[i]["attribute"]), *(figure(column[at]) for column in cells))
            for at, i in enumerate(order.tolist())
        ],
        folded=True,
    )
