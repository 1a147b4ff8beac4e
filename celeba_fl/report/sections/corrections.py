"""What the rounds changed of the model that they started from, and by how many labels."""

from collections.abc import Mapping

import numpy as np

from celeba_fl.report.html import Block, Cards, Cell, Picture, Pictures, Table
from celeba_fl.report.pictures import attributes as pictures
from celeba_fl.report.reading import Rows, Run, bounds, floats, number
from celeba_fl.report.words import UNKNOWN, between, chance, difference, figure, named

LEVEL = 0.05


def corrections(run: Run) -> list[Block]:
    """The base model against the final one; nothing where the rounds started from chance."""
    everyone = [row for row in run.corrections if not row["group"]]
    total = next((row for row in everyone if not row["attribute"]), None)
    blocks: list[Block] = [_teacher(run)] if run.teacher else []
    if total is None:
        return blocks
    rows = [row for row in everyone if row["attribute"]]
    p, gain = floats(rows, "p_holm"), floats(rows, "difference")
    better, worse = np.sum((p < LEVEL) & (gain > 0)), np.sum((p < LEVEL) & (gain < 0))
    before, after = number(total, "base_accuracy"), number(total, "accuracy")
    cards = [
        ("accuracy of the base", figure(before), "the model that the rounds started from"),
        ("accuracy now", figure(after), f"{difference(after - before)} {_interval(total)}"),
        ("answers fixed", f"{int(total['fixed']):,}", f"of {int(total['n']):,} on test"),
        ("answers broken", f"{int(total['broken']):,}", f"of {int(total['n']):,} on test"),
    ]
    text = (
        f"After Holm's correction, McNemar's test finds {better} attributes better and {worse} "
        f"worse, at the level of 5 %. The test treats images as independent. Where an interval, "
        f"which is over people, still contains 0, other people might show no change."
    )
    picture = Picture(
        "corrections",
        f"Bars of the test images whose answer was fixed and broken for {len(rows)} attributes; "
        "the numbers are in the table below.",
        "Answers that the rounds fixed and that they broke, attribute by attribute.",
        pictures.corrections(sorted(rows, key=lambda row: int(row["broken"]) - int(row["fixed"]))),
    )
    groups = [row for row in run.corrections if row["group"] and not row["attribute"]]
    header = ("answers", "before", "now", "difference", "fixed", "broken")
    return [
        Cards(cards),
        *blocks,
        text,
        Pictures([picture]),
        Table(
            "Groups, all attributes together",
            ("group", *header),
            [(named(row["group"]), *_cells(row)) for row in groups],
        ),
        Table(
            "All attributes, all images",
            ("attribute", *header, "p", "p, Holm"),
            [
                (
                    named(row["attribute"]),
                    *_cells(row),
                    *(chance(number(row, key)) for key in ("p", "p_holm")),
                )
                for row in rows
            ],
            folded=True,
        ),
    ]


def _teacher(run: Run) -> str:
    """How many labels were asked for, and who agrees with them."""
    rows = run.teacher
    asked, answered = (floats(rows, key).sum() for key in ("asked", "answered"))
    right, agreed = (_share(rows, key) for key in ("accuracy", "agreement"))
    before = floats(run.rounds[:1], "train_teacher_agreement")
    return (
        f"The clients asked a teacher for {asked:,.0f} labels of their train images and got "
        f"{answered:,.0f} answers, of which a share of {figure(right)} agrees with the "
        f"annotations. The final model agrees with the teacher on a share of {figure(agreed)} of "
        f"them; the base agreed on {figure(before[0]) if len(before) else UNKNOWN}."
    )


def _share(rows: Rows, column: str) -> float:
    """The share among all answers."""
    answered, shares = floats(rows, "answered"), floats(rows, column)
    known = answered > 0
    return float(np.average(shares[known], weights=answered[known])) if known.any() else np.nan


def _cells(row: Mapping[str, str]) -> tuple[Cell, ...]:
    before, now = figure(number(row, "base_accuracy")), figure(number(row, "accuracy"))
    gain = difference(number(row, "difference")), _interval(row)
    return row["n"], before, now, gain, row["fixed"], row["broken"]


def _interval(row: Mapping[str, str]) -> str:
    return between(*bounds(row, "difference"), difference)
