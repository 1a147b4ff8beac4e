"""What the rounds changed of the model that they started from, and by how many labels."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from celeba_fl.report import plots
from celeba_fl.report.html import (
    UNKNOWN,
    Block,
    Cards,
    Cell,
    Pictures,
    Table,
    between,
    difference,
    figure,
    named,
)
from celeba_fl.report.plots import Album
from celeba_fl.report.reading import Rows, Run, floats

LEVEL = 0.05


def corrections(run: Run, album: Album) -> list[Block]:
    """The base model against the final one; nothing where the rounds started from chance."""
    everyone = [row for row in run.corrections if not row["group"]]
    total = next((row for row in everyone if not row["attribute"]), None)
    blocks: list[Block] = [_teacher(run)] if run.teacher else []
    if total is None:
        return blocks
    rows = [row for row in everyone if row["attribute"]]
    p, gain = floats(rows, "p_holm"), floats(rows, "difference")
    better, worse = np.sum((p < LEVEL) & (gain > 0)), np.sum((p < LEVEL) & (gain < 0))
    before, after = (floats([total], key)[0] for key in ("base_accuracy", "accuracy"))
    cards = [
        ("accuracy of the base", figure(before), "the model that the rounds started from"),
        ("accuracy now", figure(after), f"{difference(after - before)} {_bounds(total)}"),
        ("answers fixed", f"{int(total['fixed']):,}", f"of {int(total['n']):,} on test"),
        ("answers broken", f"{int(total['broken']):,}", f"of {int(total['n']):,} on test"),
    ]
    text = (
        f"After Holm's correction, McNemar's test finds {better} attributes better and {worse} "
        f"worse (5 %). It takes images for independent; where an interval, by drawing people, "
        f"holds 0 all the same, other people might show no change."
    )
    picture = album.add(
        "corrections",
        f"Bars of the test images whose answer was fixed and broken for {len(rows)} attributes; "
        "the numbers are in the table below.",
        "Answers that the rounds fixed and that they broke, attribute by attribute.",
        partial(
            plots.corrections, sorted(rows, key=lambda row: int(row["broken"]) - int(row["fixed"]))
        ),
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
                (named(row["attribute"]), *_cells(row), _chance(row, "p"), _chance(row, "p_holm"))
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
        f"{answered:,.0f} answers; a share of {figure(right)} is what the annotations say. The "
        f"model gives the teacher's answer to {figure(agreed)} of these questions; the base gave "
        f"it to {figure(before[0]) if len(before) else UNKNOWN}."
    )


def _share(rows: Rows, column: str) -> float:
    """Of all answers."""
    answered, shares = floats(rows, "answered"), floats(rows, column)
    known = answered > 0
    return float(np.average(shares[known], weights=answered[known])) if known.any() else np.nan


def _cells(row: Mapping[str, str]) -> tuple[Cell, ...]:
    before, now, gain = (
        floats([row], key)[0] for key in ("base_accuracy", "accuracy", "difference")
    )
    changed = (row["fixed"], row["broken"])
    return row["n"], figure(before), figure(now), (difference(gain), _bounds(row)), *changed


def _bounds(row: Mapping[str, str]) -> str:
    low, high = (floats([row], f"difference_{end}")[0] for end in ("low", "high"))
    return between(low, high, difference)


def _chance(row: Mapping[str, str], column: str) -> str:
    value = floats([row], column)[0]
    return "< 0.001" if value < 0.001 else figure(value)
