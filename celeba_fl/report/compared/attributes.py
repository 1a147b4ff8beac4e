"""Every attribute, and demographic groups, in all runs."""

from collections.abc import Mapping

import numpy as np

from celeba_fl.evaluation.metrics import mean
from celeba_fl.evaluation.resampling import attribute_difference_intervals
from celeba_fl.report.gaps import compared
from celeba_fl.report.html import Block, Cell, Picture, Pictures, Table
from celeba_fl.report.names import GAPS, name_of
from celeba_fl.report.pictures.attributes import compared_attributes
from celeba_fl.report.reading import Rows, Run, by_prevalence, floats, rows_of
from celeba_fl.report.sections.results import own_scores
from celeba_fl.report.words import NONE, between, difference, figure, named, sentence


def attributes(runs: Mapping[str, Run]) -> list[Block]:
    """Balanced accuracy and AUROC of every attribute, and their differences to the first run."""
    rows = {name: rows_of(run.attributes) for name, run in runs.items()}
    known = {name: by_prevalence(found) for name, found in rows.items() if found}
    if len(known) < 2:
        return []
    pictures = [
        Picture(
            metric,
            f"{sentence(name_of(metric))} of each attribute, one mark a run; the balanced "
            f"accuracies are in the table below.",
            f"{sentence(name_of(metric))} of each attribute on test, the most frequent first.",
            compared_attributes(known, metric),
        )
        for metric in ("balanced_accuracy", "auroc")
    ]
    return [Pictures(pictures), _attribute_table(runs, known)]


def groups(runs: Mapping[str, Run]) -> list[Block]:
    """Rates of the groups, then the differences between them."""
    rates = {name: rows for name, run in runs.items() if (rows := rows_of(run.groups))}
    gaps: dict[str, Rows] = {
        name: compared(rows, rates.get(name, []))
        for name, run in runs.items()
        if (rows := rows_of(run.fairness))
    }
    gaps = gaps if any(gaps.values()) else {}
    how = "of each group on test, mean over the attributes"
    blocks: list[Block] = [
        _means(rates, "group", rate, how) for rate in ("accuracy", "tpr") if rates
    ]
    how = "on test: mean over the attributes that can be compared, below it the largest"
    return blocks + [_means(gaps, "grouping", f"{gap}_difference", how) for gap in GAPS if gaps]


def _means(known: Mapping[str, Rows], key: str, column: str, how: str) -> Table:
    """A column in each group or grouping, whichever `key` is, and in each run."""
    names = dict.fromkeys(row[key] for rows in known.values() for row in rows)
    table = [
        (named(name), *(_mean_of(rows, key, name, column) for rows in known.values()))
        for name in names
    ]
    return Table(f"{sentence(name_of(column))} {how}", (key, *known), table)


def _attribute_table(runs: Mapping[str, Run], known: Mapping[str, Rows]) -> Table:
    """Balanced accuracy by attribute, with the interval of the difference."""
    names = [row["attribute"] for row in next(iter(known.values()))]
    first = next(iter(known))
    cells: dict[str, list[Cell]] = {name: [] for name in names}
    for label, rows in known.items():
        values = dict(zip((r["attribute"] for r in rows), _balanced(rows), strict=True))
        bounds = {} if label == first else _attribute_bounds(runs[first], runs[label])
        base = dict(zip(names, _balanced(known[first]), strict=True))
        for name in names:
            value = values.get(name, float("nan"))
            small = "" if label == first else difference(value - base[name])
            small += f" {between(*bounds.get(name, NONE), difference)}"
            cells[name].append((figure(value), small.strip()))
    return Table(
        "Balanced accuracy of each attribute, and its difference to the first",
        ("attribute", *known),
        [(named(name), *row) for name, row in cells.items()],
        folded=True,
    )


def _attribute_bounds(one: Run, other: Run) -> dict[str, tuple[float, float]]:
    """Intervals of the differences in balanced accuracy, by attribute."""
    mine, theirs = own_scores(one), own_scores(other)
    if mine is None or theirs is None or not mine.pairs_with(theirs):
        return {}
    ends = attribute_difference_intervals(mine, theirs, "balanced_accuracy")
    return dict(
        zip(mine.attributes, zip(*(end.tolist() for end in ends), strict=True), strict=True)
    )


def _balanced(rows: Rows) -> list[float]:
    return floats(rows, "balanced_accuracy").tolist()


def _mean_of(rows: Rows, key: str, value: str, column: str) -> Cell:
    """Mean of a column over the attributes, and for differences the largest."""
    these = [row for row in rows if row[key] == value]
    values = floats(these, column)
    average = figure(mean(values))
    if key == "group" or np.isnan(values).all():
        return average
    worst = these[int(np.nanargmax(values))]["attribute"]
    return average, f"{figure(np.nanmax(values))} {named(worst)}"
