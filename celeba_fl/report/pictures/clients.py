"""Pictures of the clients: what each holds, and how each is served."""

import altair as alt
import numpy as np

from celeba_fl.evaluation.metrics import ratio
from celeba_fl.report.charts import (
    COLOURS,
    LEVELS,
    Look,
    Series,
    across_axis,
    column,
    layers,
    look,
    marks,
    plot,
    values_axis,
)
from celeba_fl.report.names import name_of
from celeba_fl.report.reading import Rows, floats
from celeba_fl.report.words import named

MOST_TICKS = 12


def partitions(rows: Rows, shares: bool = False) -> alt.LayerChart:
    """Who holds what: train examples of each client, stacked by group (``Male=1,Young=0``)."""
    y = "train examples" + (" (%)" if shares else "")
    groups = [key for key in rows[0] if "=" in key]
    counts = np.array([floats(rows, group) for group in groups or ["num_examples"]])
    if shares:
        counts = 100 * ratio(counts, counts.sum(axis=0) + np.zeros_like(counts))
    names = [row["client"] for row in rows]
    labels = [named(group) for group in groups] or ["all"]
    held = [
        {"client": name, "series": label, y: value, "place": i}
        for i, (label, values) in enumerate(zip(labels, counts, strict=True))
        for name, value in zip(names, values, strict=True)
    ]
    x = alt.X(
        **column("client", "nominal"),
        scale=alt.Scale(domain=names, paddingInner=0.12),
        axis=alt.Axis(
            values=names[:: -(-len(names) // MOST_TICKS)],
            labelAngle=0 if max(map(len, names)) < 4 else -40,
            ticks=False,
        ),
    )
    series = Series({label: look(i) for i, label in enumerate(labels)})
    return layers(
        plot(held)
        .mark_bar()
        .encode(
            x,
            values_axis(y, zero=True, **({"domainMax": 100} if shares else {})),
            alt.Order("place:Q"),
            **(series.encode("color") if groups else {"color": alt.value(COLOURS[0])}),
        )
    )


def clients(rows: Rows, metric: str) -> alt.LayerChart:
    """A validation metric of each client over the number of its train examples."""
    x, y = "train examples of the client", f"validation {name_of(metric)}"
    values = floats(rows, f"valid_{metric}")
    label = "median of the clients"
    series = Series({"a client": Look(COLOURS[0]), label: LEVELS[1]})
    points = [
        {"series": "a client", "client": row["client"], x: size, y: value}
        for row, size, value in zip(rows, floats(rows, "num_examples"), values, strict=True)
    ]
    sizes, served = across_axis(x, x, zero=True), values_axis(y)
    median = plot([{"series": label, y: float(np.nanmedian(values))}])
    return layers(
        marks(plot(points), 45, opacity=0.65).encode(
            sizes, served, alt.Detail("client:N"), **series.encode("color", "shape")
        ),
        median.mark_rule(strokeWidth=1.5).encode(
            served, **series.encode("color", "shape", "strokeDash")
        ),
    )
