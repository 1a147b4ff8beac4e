"""The picture of contributions: what changes when each client leaves."""

import altair as alt

from celeba_fl.report.charts import (
    COLOURS,
    ROW,
    Look,
    Series,
    across_axis,
    layers,
    level,
    marks,
    names_axis,
    plot,
)
from celeba_fl.report.reading import MOST_CLIENTS, Rows, bounds, number

LOSS, UNIT = "change of the loss on validation when it leaves (thousandths)", 1000
HONEST, ACCUSED = "not accused", "accused"


def changes(rows: Rows) -> alt.LayerChart:
    """Clients from the one whose leaving costs most to the one whose leaving helps most.

    Of more than can be read, those at both ends.
    """
    half = MOST_CLIENTS // 2
    shown = [*rows[:half], *rows[-half:]] if len(rows) > MOST_CLIENTS else rows
    found = []
    for row in shown:
        low, high = (UNIT * end for end in bounds(row, "loss_change"))
        found.append(
            {
                "client": row["client"],
                "series": ACCUSED if row["accused"] else HONEST,
                LOSS: UNIT * number(row, "loss_change"),
                "low": low,
                "high": high,
            }
        )
    looks = {HONEST: Look(COLOURS[0]), ACCUSED: Look(COLOURS[5], shape="diamond")}
    there = {row["series"] for row in found}
    series = Series({name: one for name, one in looks.items() if name in there})
    chart, y = plot(found), names_axis("client", [row["client"] for row in shown])
    return layers(
        level(x=alt.datum(0)),
        chart.mark_rule(strokeWidth=1.5, opacity=0.45).encode(
            across_axis("low", LOSS), y, alt.X2("high"), **series.encode("color")
        ),
        marks(chart, 60).encode(across_axis(LOSS, LOSS), y, **series.encode("color", "shape")),
        height=ROW * len(shown),
    )
