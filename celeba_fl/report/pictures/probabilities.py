"""Pictures of probabilities: how often what gets one comes true."""

from collections.abc import Mapping

import altair as alt

from celeba_fl.report.charts import (
    LEVELS,
    Look,
    Series,
    across_axis,
    layers,
    look,
    marks,
    plot,
    values_axis,
)
from celeba_fl.report.reading import Rows, bounds, number

RIGHT = "as often as said"


def reliability(splits: Mapping[str, Rows]) -> alt.LayerChart:
    """The share that has an attribute by the mean probability, of each band and split."""
    said, true = "mean probability", "share that has the attribute"
    points = [
        {"series": name, said: number(row, "predicted"), true: number(row, "observed")}
        | dict(zip(("low", "high"), bounds(row, "observed"), strict=True))
        for name, rows in splits.items()
        for row in rows
    ]
    looks: dict[str, Look] = {name: look(i) for i, name in enumerate(splits)}
    series = Series({**looks, RIGHT: LEVELS[0]})
    x, y = (
        axis.scale(domain=[0, 1])
        for axis in (across_axis(said, said), values_axis(true).title(true))
    )
    diagonal = plot([{"series": RIGHT, said: end, true: end} for end in (0.0, 1.0)])
    chart = plot(points)
    return layers(
        diagonal.mark_line(strokeWidth=1.5).encode(x, y, **series.encode("color", "strokeDash")),
        chart.mark_rule(strokeWidth=1.5).encode(
            x, values_axis("low").title(true), alt.Y2("high"), **series.encode("color")
        ),
        marks(chart).encode(x, y, **series.encode("color", "shape")),
    )
