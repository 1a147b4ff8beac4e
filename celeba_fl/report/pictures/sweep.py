"""The picture of a sweep."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from celeba_fl.report.charts import (
    REFERENCE,
    Look,
    Series,
    column,
    layers,
    look,
    plot,
    values_axis,
)
from celeba_fl.report.names import PARTS, name_of


def sweep(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], metric: str) -> alt.LayerChart:
    """The metric that ranks a grid by its first key, a line for each value of the other keys.

    Parameters
    ----------
    rows : Sequence[Mapping[str, Any]]
        Of `sweep.csv`, the best first.
    keys : Sequence[str]
        The run-config keys that the grid varies.
    metric : str
        The column that ranks.
    """
    first, *others = keys
    part = max((part for part in PARTS if metric.startswith(part)), key=len)
    title = f"{name_of(metric.removeprefix(f'{part}_'))}, {PARTS[part]}"
    known = [row for row in rows if row[metric] is not None]
    points = [
        {
            "series": ", ".join(f"{key} {row[key]}" for key in others) or title,
            first: str(row[first]),
            title: row[metric],
            "low": row[metric] - (row[f"{metric}_std"] or 0),
            "high": row[metric] + (row[f"{metric}_std"] or 0),
        }
        for row in sorted(known, key=lambda row: [row[key] for key in (*others, first)])
    ]
    ticks = [str(value) for value in sorted({row[first] for row in known})]
    names = dict.fromkeys(point["series"] for point in points)
    series = Series({name: look(i) for i, name in enumerate(names)} | {"best": Look(REFERENCE)})
    x = alt.X(
        **column(first, "ordinal"),
        title=first,
        scale=alt.Scale(type="point", domain=ticks, padding=0.4),
        axis=alt.Axis(labelAngle=0),
    )
    y, chart = values_axis(title, padding=12), plot(points)
    best = plot([{"series": "best", first: str(known[0][first]), title: known[0][metric]}])
    line = ("color", "strokeDash")
    parts = [
        best.mark_point(size=260, strokeWidth=2).encode(x, y, **series.encode("color", "shape")),
        chart.mark_line(strokeWidth=1.8).encode(x, y, **series.encode(*line)),
        chart.mark_point(filled=True, size=45, opacity=1).encode(
            x, y, **series.encode("color", "shape")
        ),
    ]
    if any(row[f"{metric}_std"] for row in known):
        spread = chart.mark_errorbar(ticks=True)
        low = values_axis("low", padding=12).title(title)
        parts.append(spread.encode(x, low, alt.Y2("high"), **series.encode("color")))
    return layers(*parts)
