"""The picture of fairer heads: how far groups are apart, against what that costs."""

import altair as alt

from celeba_fl.report.charts import (
    COLOURS,
    Look,
    Series,
    across_axis,
    layers,
    marks,
    plot,
    values_axis,
)
from celeba_fl.report.reading import Rows, bounds, number

GAP, COST = "gap of the widest (points)", "accuracy, less the plain head's (points)"
RIDGE = "fair ridge, by penalty"
LOOKS = {
    "LEACE": Look(COLOURS[1], shape="square"),
    "thresholds by group": Look(COLOURS[2], shape="diamond"),
}


def heads(rows: Rows) -> alt.LayerChart:
    """The heads of `fairer.csv`: those of the ridge are a line, with the penalty at each."""
    found = []
    for row in rows:
        low, high = bounds(row, "widest_equalized_odds_difference")
        penalty = row["penalty"]
        found.append(
            {
                "series": row["head"] if row["head"] in LOOKS else RIDGE,
                COST: 100 * number(row, "accuracy_difference"),
                GAP: 100 * number(row, "widest_equalized_odds_difference"),
                "low": 100 * low,
                "high": 100 * high,
                "penalty": float(penalty) if penalty else None,
                "label": f"{float(penalty):g}" if penalty else "",
            }
        )
    there = {row["series"] for row in found}
    looks = {RIDGE: Look(COLOURS[0])} | {name: one for name, one in LOOKS.items() if name in there}
    series, chart = Series(looks), plot(found)
    x, y = across_axis(COST, COST, padding=14), values_axis(GAP, zero=True)
    return layers(
        chart.mark_rule(strokeWidth=1.5, opacity=0.45).encode(
            x, values_axis("low", zero=True).title(GAP), alt.Y2("high"), **series.encode("color")
        ),
        chart.mark_line(strokeWidth=2).encode(
            x, y, alt.Order("penalty:Q"), **series.encode("color")
        ),
        marks(chart, 60).encode(x, y, **series.encode("color", "shape")),
        chart.mark_text(dx=8, dy=-8, align="left", fontSize=11).encode(x, y, alt.Text("label:N")),
    )
