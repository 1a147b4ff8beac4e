"""Pictures of demographic groups: how far they are apart, and the rates of some."""

from collections.abc import Sequence

import altair as alt

from celeba_fl.report.charts import (
    COLOURS,
    REFERENCE,
    ROW,
    Look,
    Series,
    across_axis,
    column,
    layers,
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
