"""Demographic groups in all runs."""

from collections.abc import Mapping

import numpy as np

from celeba_fl.evaluation.metrics import mean
from celeba_fl.report.html import Block, Cell, Table
from celeba_fl.report.names import GAPS, name_of
from celeba_fl.report.reading import Rows, Run, floats, rows_of
from celeba_fl.report.words import figure, named, sentence


def groups(runs: Mapping[str, Run]) -> list[Block]:
    """Rates of the groups, then the differences between them."""
    rates = {name: rows_of(run.groups) for name, run in runs.items() if rows_of(run.groups)}
    gaps = {name: rows_of(run.fairness) for name, run in runs.items() if rows_of(run.fairness)}
    blocks: list[Block] = []
    for rate in ("accuracy", "tpr"):
        names = dict.fromkeys(row["group"] for rows in rates.values() for row in rows)
        table = [
            (named(group), *(_mean_of(rows, "group", group, rate) for rows in rates.values()))
            for group in names
        ]
        if table:
            caption = f"{sentence(name_of(rate))} of each group on test, mean over the attributes"
            blocks.append(Table(caption, ("group", *rates), table))
    groupings = dict.fromkeys(row["grouping"] for rows in gaps.values() for row in rows)
    for gap in GAPS if gaps else ():
        column = f"{gap}_difference"
        table = [
            (
                named(grouping),
                *(_mean_of(rows, "grouping", grouping, column) for rows in gaps.values()),
            )
            for grouping in groupings
        ]
        caption = (
            f"{sentence(name_of(column))} on test: mean over the attributes, below it the largest"
        )
        blocks.append(Table(caption, ("grouping", *gaps), table))
    return blocks


def _mean_of(rows: Rows, key: str, value: str, column: str) -> Cell:
    """Mean of a column over the attributes, and for differences the largest."""
    these = [row for row in rows if row[key] == value]
    values = floats(these, column)
    average = figure(mean(values))
    if key == "group" or np.isnan(values).all():
        return average
    worst = these[int(np.nanargmax(values))]["attribute"]
    return average, f"{figure(np.nanmax(values))} {named(worst)}"
