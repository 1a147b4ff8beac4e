"""Demographic groups of a run: how far they are apart, and the worst by name."""

from collections.abc import Mapping

import numpy as np

from celeba_fl.evaluation.metrics import mean
from celeba_fl.report.html import Block, Cell, Picture, Pictures, Table
from celeba_fl.report.names import GAPS, name_of
from celeba_fl.report.pictures import attributes as pictures
from celeba_fl.report.reading import Rows, Run, bounds, floats, number, rows_of
from celeba_fl.report.words import UNKNOWN, between, figure, named

RATES = ("accuracy", "tpr", "fpr", "selection_rate")


def groups(run: Run) -> list[Block]:
    """How far demographic groups are apart, the worst by name."""
    fairness, rates = rows_of(run.fairness), rows_of(run.groups)
    blocks: list[Block] = []
    if fairness:
        blocks += [
            "Three measures say how far groups are apart. Parity is the largest difference in how "
            "often the model sees the attribute, opportunity the largest difference in true "
            "positive rates, and odds the larger of the differences in true and in false positive "
            "rates. A difference is never below 0: chance alone makes it larger, the more so the "
            "smaller a group is, and the largest of many is larger still.",
            _largest(fairness),
        ]
        shown = [
            Picture(
                "groups",
                "Heat map of the differences between groups by attribute, grouping and measure; "
                "the largest are in the table above.",
                f"Differences between groups in percentage points; {UNKNOWN} is undefined.",
                pictures.gaps(fairness),
            )
        ]
        worst = _surest(fairness)
        if worst and rates:
            blocks.append(_rates_of(worst[0], rates))
            widest = [
                (named(f"{row['attribute']} by {row['grouping']}"), _rows_like(row, rates))
                for row in worst[:6]
            ]
            shown.append(
                Picture(
                    "groups_worst",
                    "True positive rates with 95 % intervals of the groups that are farthest "
                    f"apart: {'; '.join(name for name, _ in widest)}.",
                    "Rates of the groups where the lower end of the interval of the equalized "
                    "odds difference is highest; bars are 95 % intervals.",
                    pictures.group_rates(widest),
                )
            )
        blocks.append(Pictures(shown))
    if rates:
        blocks.append(_means(rates))
    return blocks


def _surest(fairness: Rows) -> list[Mapping[str, str]]:
    """Rows with an equalized odds difference, by the lower end of its interval, highest first."""
    low = floats(fairness, "equalized_odds_difference_low")
    value = floats(fairness, "equalized_odds_difference")
    order = np.lexsort((-np.nan_to_num(value), -np.nan_to_num(low)))
    return [fairness[i] for i in order if value[i] == value[i]]


def _rows_like(worst: Mapping[str, str], rates: Rows) -> Rows:
    """The groups of a row of `fairness.csv`."""
    keys = ("grouping", "attribute")
    return [row for row in rates if all(row[key] == worst[key] for key in keys)]


def _largest(fairness: Rows) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for grouping in dict.fromkeys(row["grouping"] for row in fairness):
        these = [row for row in fairness if row["grouping"] == grouping]
        cells: list[tuple[str, str]] = []
        for gap in GAPS:
            values = floats(these, f"{gap}_difference")
            if np.isnan(values).all():
                cells.append((UNKNOWN, ""))
                continue
            row = these[int(np.nanargmax(values))]
            widest = f"{named(row['attribute'])} {figure(np.nanmax(values))}"
            cells.append((widest, between(*bounds(row, f"{gap}_difference"))))
        rows.append((named(grouping), *cells))
    header = ("grouping", *GAPS.values())
    return Table("The largest difference of each kind on test", header, rows)


def _rates_of(worst: Mapping[str, str], rates: Rows) -> Table:
    attribute, grouping = worst["attribute"], worst["grouping"]
    rows: list[tuple[Cell, ...]] = [
        (
            named(row["group"]),
            row.get("identities") or UNKNOWN,
            row["n"],
            row.get("positives") or UNKNOWN,
            *((figure(number(row, rate)), between(*bounds(row, rate))) for rate in RATES),
        )
        for row in _rows_like(worst, rates)
    ]
    odds = figure(number(worst, "equalized_odds_difference"))
    interval = between(*bounds(worst, "equalized_odds_difference"))
    caption = (
        f"The worst by the lower end of its interval: {named(attribute)} by {named(grouping)}, an "
        f"equalized odds difference of {odds} {interval}"
    )
    return Table(caption, ("group", "people", "images", "with it", *map(name_of, RATES)), rows)


def _means(rates: Rows) -> Table:
    by_group: dict[str, list[Mapping[str, str]]] = {}
    for row in rates:
        by_group.setdefault(row["group"], []).append(row)
    rows = [
        (named(name), these[0]["n"], *(figure(mean(floats(these, rate))) for rate in RATES))
        for name, these in by_group.items()
    ]
    header = ("group", "images", *map(name_of, RATES))
    return Table("Rates of each group on test, means over the attributes", header, rows)
