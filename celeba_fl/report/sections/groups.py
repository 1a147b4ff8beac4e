"""Demographic groups of a run: how far they are apart, and what of it chance explains."""

from collections.abc import Mapping

import numpy as np

from celeba_fl.evaluation.gaps import COMPARED
from celeba_fl.evaluation.metrics import mean
from celeba_fl.report.gaps import (
    ODDS,
    RULE,
    against_chance,
    beyond_chance,
    compared,
    name,
    rates_like,
    side_by_side,
    standing,
)
from celeba_fl.report.html import Block, Cell, Picture, Pictures, Table
from celeba_fl.report.names import GAPS, name_of
from celeba_fl.report.pictures import attributes as pictures
from celeba_fl.report.reading import Rows, Run, bounds, floats, number, rows_of
from celeba_fl.report.words import UNKNOWN, between, figure, named, sentence

RATES = ("accuracy", "tpr", "fpr", "selection_rate")


def groups(run: Run) -> list[Block]:
    """How far demographic groups are apart, and where that is more than chance."""
    fairness, rates = rows_of(run.fairness), rows_of(run.groups)
    blocks: list[Block] = []
    if fairness:
        rows = compared(fairness, rates)
        blocks += [
            "Groups are as annotated: what somebody called a face at its sight, not what people "
            "say of themselves. Three measures say how far groups are apart. Parity is the largest "
            "difference in how often the model sees the attribute, opportunity the largest "
            "difference in true positive rates, and odds the larger of the differences in true and "
            "in false positive rates. A difference is never below 0, and chance alone makes it "
            "larger, the more so the fewer people there are: beside each stands what dealing the "
            "groups over the same people at random gives on average, and p, how often that gives "
            "as much or more, after Holm's correction for all attributes of the grouping.",
            _verdict(fairness, rows),
        ]
        if rows:
            blocks += [_largest(rows), _rates_of(rows[0], rates), *_signed(rows)]
            blocks.append(Pictures(_pictures(fairness, rows, rates)))
        if table := _left_out(fairness, rates):
            blocks.append(table)
    if rates:
        blocks.append(_means(rates))
    return blocks


def _verdict(fairness: Rows, rows: Rows) -> str:
    """How many differences are more than chance."""
    text = f"{RULE}: {len(rows)} of the {len(fairness)} differences below. "
    tested = [row for row in rows if row.get(f"{ODDS}_p_holm")]
    if not tested:
        return text + "None of them was tested against chance."
    surely = [row for row in tested if beyond_chance(row)]
    if not surely:
        return text + "None of them has odds farther apart than chance alone may put them."
    return (
        text
        + f"Chance alone hardly gives the odds of {len(surely)} of them: "
        + (f"{'; '.join(map(name, surely[:6]))}{'; and others' if len(surely) > 6 else ''}.")
    )


def _largest(rows: Rows) -> Table:
    table: list[tuple[Cell, ...]] = []
    for grouping in dict.fromkeys(row["grouping"] for row in rows):
        these = [row for row in rows if row["grouping"] == grouping]
        cells: list[tuple[str, ...]] = []
        for gap in GAPS:
            column = f"{gap}_difference"
            values = floats(these, column)
            if np.isnan(values).all():
                cells.append((UNKNOWN, ""))
                continue
            row = these[int(np.nanargmax(values))]
            widest = f"{named(row['attribute'])} {figure(np.nanmax(values))}"
            cells.append((widest, between(*bounds(row, column)), against_chance(row, column)))
        table.append((named(grouping), *cells))
    header = ("grouping", *GAPS.values())
    return Table("The largest difference of each kind on test", header, table)


def _rates_of(row: Mapping[str, str], rates: Rows) -> Table:
    """The rates of the groups that chance explains the least."""
    table: list[tuple[Cell, ...]] = [
        (
            named(one["group"]),
            one.get("identities") or UNKNOWN,
            one["n"],
            one.get("positives") or UNKNOWN,
            *((figure(number(one, rate)), between(*bounds(one, rate))) for rate in RATES),
        )
        for one in rates_like(row, rates)
    ]
    which = "Farther apart than by chance" if beyond_chance(row) else "The least likely by chance"
    odds = f"{figure(number(row, ODDS))} {between(*bounds(row, ODDS))}".strip()
    against = f" ({against_chance(row, ODDS)})" if against_chance(row, ODDS) else ""
    caption = f"{which}: {name(row)}, an equalized odds difference of {odds}{against}"
    return Table(caption, ("group", "people", "images", "with it", *map(name_of, RATES)), table)


def _signed(rows: Rows) -> list[Table]:
    """The differences of two groups, with their sign."""
    tables = []
    for grouping in dict.fromkeys(row["grouping"] for row in rows):
        these = [row for row in rows if row["grouping"] == grouping]
        if "," not in grouping and any(row.get("tpr_difference") for row in these):
            table: list[tuple[Cell, ...]] = [
                (
                    named(row["attribute"]),
                    *(side_by_side(row, rate) for rate in RATES),
                    (figure(number(row, ODDS)), against_chance(row, ODDS)),
                )
                for row in these
            ]
            caption = (
                f"{sentence(named(f'{grouping}=1'))} less {named(f'{grouping}=0')}: an interval "
                f"with 0 in it shows no "
                f"difference, and one in twenty without any has no 0 in it"
            )
            header = ("attribute", *map(name_of, RATES), GAPS["equalized_odds"])
            tables.append(Table(caption, header, table, folded=True))
    return tables


def _pictures(fairness: Rows, rows: Rows, rates: Rows) -> list[Picture]:
    kept = {id(row) for row in rows}
    attributes, groupings = ({row[key] for row in rows} for key in ("attribute", "grouping"))
    nothing = {f"{gap}_difference": "" for gap in GAPS}
    drawn = [
        row if id(row) in kept else {**row, **nothing}
        for row in fairness
        if row["attribute"] in attributes and row["grouping"] in groupings
    ]
    widest = [(name(row), rates_like(row, rates)) for row in rows[:6]]
    shown = [
        Picture(
            "groups",
            "Heat map of the differences between groups by attribute, grouping and measure; "
            "the largest are in the table above.",
            f"Differences between groups in percentage points; {UNKNOWN} is not compared.",
            pictures.gaps(drawn),
        ),
        Picture(
            "groups_worst",
            "True positive rates with 95 % intervals of the groups whose difference chance "
            f"explains the least: {'; '.join(name for name, _ in widest)}.",
            "Rates of the groups whose equalized odds difference is the least likely by chance; "
            "bars are 95 % intervals.",
            pictures.group_rates(widest),
        ),
    ]
    return shown if rates else shown[:1]


def _left_out(fairness: Rows, rates: Rows) -> Table | None:
    """The attributes that are not compared, by grouping."""
    left: dict[tuple[str, str], list[str]] = {}
    for row in fairness:
        if (why := standing(row, rates)) != COMPARED:
            left.setdefault((row["grouping"], why), []).append(named(row["attribute"]))
    rows = [(named(grouping), why, ", ".join(names)) for (grouping, why), names in left.items()]
    caption = "Attributes that are not compared: too few people or images, or they make the groups"
    header = ("grouping", "why", "attributes")
    return Table(caption, header, rows, folded=True, words=True) if rows else None


def _means(rates: Rows) -> Table:
    by_group: dict[str, list[Mapping[str, str]]] = {}
    for row in rates:
        by_group.setdefault(row["group"], []).append(row)
    rows = [
        (named(name), these[0]["n"], *(figure(mean(floats(these, rate))) for rate in RATES))
        for name, these in by_group.items()
    ]
    header = ("group", "images", *map(name_of, RATES))
    caption = "Rates of each group, as annotated, on test: means over the attributes"
    return Table(caption, header, rows)
