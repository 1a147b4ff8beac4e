"""Pictures of the attributes, each a row, and of demographic groups."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from celeba_fl.report.charts import (
    COLOURS,
    REFERENCE,
    ROW,
    TICK,
    Look,
    Series,
    across_axis,
    column,
    layers,
    level,
    look,
    marks,
    names_axis,
    plot,
)
from celeba_fl.report.names import GAPS, name_of
from celeba_fl.report.reading import Rows, bounds, number
from celeba_fl.report.words import UNKNOWN, named

WHITE_FROM = 55  # points, where a cell is dark
BREAK = "\n"  # between the set of groups that a row belongs to and its own name
HEADING = f"indexof(datum.value, {BREAK!r})"


def attributes(rows: Rows) -> alt.LayerChart:
    """Accuracy of each attribute as a bar from what the majority's answer scores."""
    over, below, majority = "accuracy, not below the majority", "accuracy, below it", "majority"
    found = [
        {
            "attribute": row["attribute"],
            "series": over if row["accuracy"] >= row[majority] else below,
            **row,
        }
        for row in _values(rows, {"accuracy": "accuracy", majority: "majority_accuracy"})
    ]
    series = Series(
        {
            over: Look(COLOURS[0]),
            below: Look(COLOURS[5], shape="diamond"),
            "majority's answer": Look(REFERENCE, shape=TICK),
        }
    )
    y = _rows(rows)
    x = across_axis("accuracy", "share of images answered rightly")
    chart = plot(found)
    ticks = chart.mark_tick(thickness=2, size=11, opacity=1)
    return layers(
        chart.mark_bar(height=7, opacity=0.5).encode(
            y, x, alt.X2(majority), **series.encode("color")
        ),
        series.one(ticks.encode(y, across_axis(majority, "")), "majority's answer", "color"),
        marks(chart).encode(y, x, **series.encode("color", "shape")),
        height=ROW * len(rows),
    )


def ranking(rows: Rows) -> alt.LayerChart:
    """Balanced accuracy as a bar from chance, and AUROC, of each attribute."""
    balanced = name_of("balanced_accuracy")
    chart = plot(_values(rows, {balanced: "balanced_accuracy", "AUROC": "auroc"}))
    series = Series(
        {balanced: Look(COLOURS[4], shape="square"), "AUROC": Look(COLOURS[5], shape="diamond")}
    )
    y, both = _rows(rows), ("color", "shape")
    x = across_axis(balanced, "0.5 is chance, and what the majority's answer scores")
    return layers(
        series.one(chart.mark_bar(height=9).encode(y, x, alt.X2Datum(0.5)), balanced, *both),
        series.one(marks(chart).encode(y, across_axis("AUROC", "")), "AUROC", *both),
        level(x=alt.XDatum(0.5)),
        height=ROW * len(rows),
    )


def corrections(rows: Rows) -> alt.LayerChart:
    """Answers on each attribute that were fixed, to the right, and broken, to the left."""
    net = "fixed less broken"
    answers = _values(rows, {"fixed": "fixed", "broken": "broken"})
    chart = plot([{**row, net: row["fixed"] - row["broken"]} for row in answers])
    series = Series(
        {
            "fixed": Look(COLOURS[0], shape="square"),
            "broken": Look(COLOURS[5], shape="square"),
            net: Look(REFERENCE, shape="diamond"),
        }
    )
    y, both = _rows(rows), ("color", "shape")
    x = across_axis("fixed", "test images").axis(
        labelExpr="format(abs(datum.value), ',')", tickMinStep=1, tickCount=6
    )
    bars = chart.transform_calculate(left="-datum.broken").mark_bar(height=11)
    nets = marks(chart, stroke="white", strokeWidth=1)
    return layers(
        series.one(bars.encode(y, x), "fixed", *both),
        series.one(bars.encode(y, across_axis("left", "")), "broken", *both),
        series.one(nets.encode(y, across_axis(net, "")), net, *both),
        level(x=alt.XDatum(0)),
        height=ROW * len(rows),
    )


def compared_attributes(runs: Mapping[str, Rows], metric: str) -> alt.LayerChart:
    """A metric of each attribute, one mark a run."""
    first = next(iter(runs.values()))
    title, names = name_of(metric), {named(row["attribute"]) for row in first}
    series = Series({label: look(i) for i, label in enumerate(runs)})
    found = [
        {"series": label, **row}
        for label, rows in runs.items()
        for row in _values(rows, {title: metric})
        if row["attribute"] in names
    ]
    chart = marks(plot(found), opacity=0.9)
    return layers(
        chart.encode(_rows(first), across_axis(title, title), **series.encode("color", "shape")),
        height=ROW * len(first),
    )


def differences(rows: Sequence[tuple[str, float, float, float]], metric: str) -> alt.LayerChart:
    """Differences to a reference with their 95 % intervals: name, difference, low and high."""
    title = f"difference in {name_of(metric)}"
    chart = plot([dict(zip(("model", title, "low", "high"), row, strict=True)) for row in rows])
    y = names_axis("model", [row[0] for row in rows])
    return layers(
        level(x=alt.XDatum(0)),
        chart.mark_rule(color=COLOURS[0], strokeWidth=2).encode(
            y, across_axis("low", title, padding=8), alt.X2("high")
        ),
        marks(chart, 60, color=COLOURS[0]).encode(
            y, across_axis(title, title, zero=True, padding=8)
        ),
        height=2 * ROW * len(rows),
    )


def gaps(rows: Rows) -> alt.LayerChart:
    """Heat map of the differences between groups, attributes by grouping and measure."""
    names = [named(row["attribute"]) for row in rows]
    groupings = [named(name) for name in dict.fromkeys(row["grouping"] for row in rows)]
    cells = [
        {
            "attribute": named(row["attribute"]),
            "grouping": named(row["grouping"]),
            "measure": short,
            "points": 100 * number(row, f"{gap}_difference"),
            "column": f"{named(row['grouping'])}{BREAK}{short}",
        }
        for gap, short in GAPS.items()
        for row in rows
    ]
    # An empty column between two groupings.
    columns = [f"{name}{BREAK}{short}" for name in groupings for short in (*GAPS.values(), "")]
    x = alt.X(
        **column("column", "nominal"),
        title=None,
        scale=alt.Scale(domain=columns[:-1], padding=0.04),
        axis=alt.Axis(
            labelExpr=f"slice(datum.value, {HEADING} + 1)",
            orient="top",
            labelAngle=-45,
            labelOverlap=False,
            ticks=False,
            domain=False,
        ),
    )
    y = names_axis("attribute", names, grid=False)
    chart = plot(cells)
    shades = alt.Scale(scheme="blues", domain=[0, 100])
    missing = "datum.points === null"
    titles = plot(
        [{"column": f"{name}{BREAK}{list(GAPS.values())[1]}", "title": name} for name in groupings]
    )
    return layers(
        chart.mark_rect(invalid="show").encode(
            x,
            y,
            alt.condition(
                missing, alt.value("#c9ced3"), alt.Color("points:Q", scale=shades, legend=None)
            ),
        ),
        chart.mark_text(fontSize=9)
        .transform_calculate(text=f"{missing} ? {UNKNOWN!r} : format(datum.points, '.0f')")
        .encode(
            x,
            y,
            alt.Text("text:N"),
            color=alt.condition(
                f"datum.points > {WHITE_FROM}", alt.value("white"), alt.value("black")
            ),
        ),
        titles.mark_text(fontWeight="bold", color=REFERENCE, baseline="top", dy=6).encode(
            x, alt.Text("title:N"), y=alt.value("height")
        ),
        height=ROW * len(set(names)),
    )


def group_rates(shown: Sequence[tuple[str, Rows]]) -> alt.LayerChart:
    """TPR and FPR with their intervals, of each group of some titled sets of groups."""
    names: list[str] = []
    found = []
    for title, rows in shown:
        names.append(title)
        for row in rows:
            names.append(f"{title}{BREAK}{named(row['group'])}")
            for rate in ("tpr", "fpr"):
                low, high = bounds(row, rate)
                value = {"rate": number(row, rate), "low": low, "high": high}
                found.append({"of": names[-1], "series": name_of(rate), **value})
    chart = plot([row for row in found if row["rate"] == row["rate"]])
    y = names_axis("of", names, labelExpr=f"{HEADING} < 0 ? '' : slice(datum.value, {HEADING} + 1)")
    series = Series(
        {name_of("tpr"): Look(COLOURS[0]), name_of("fpr"): Look(COLOURS[5], shape="square")}
    )
    beside = alt.YOffset("series:N", scale=alt.Scale(domain=list(series.looks), paddingOuter=0.6))
    unit = {"domain": [0, 1], "nice": False}
    titles = plot([{"of": title, "title": title} for title, _ in shown])
    return layers(
        chart.mark_rule(strokeWidth=1.5).encode(
            y, across_axis("low", "rate", **unit), alt.X2("high"), beside, **series.encode("color")
        ),
        marks(chart).encode(
            y, across_axis("rate", "rate", **unit), beside, **series.encode("color", "shape")
        ),
        titles.mark_text(fontWeight="bold", color=REFERENCE, align="left").encode(
            y, alt.Text("title:N"), x=alt.value(0)
        ),
        height=(ROW + 4) * len(names),
    )


def _values(rows: Rows, columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """Columns of the attributes, by the names that they have in a picture."""
    return [
        {"attribute": named(row["attribute"])}
        | {name: number(row, column) for name, column in columns.items()}
        for row in rows
    ]


def _rows(rows: Rows) -> alt.Y:
    return names_axis("attribute", [named(row["attribute"]) for row in rows])
