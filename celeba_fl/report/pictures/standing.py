"""The picture of how good a model is: its first figures, from a simple guess to no mistake."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt

from celeba_fl.report.charts import (
    COLOURS,
    HEIGHT,
    REFERENCE,
    TICK,
    Look,
    Series,
    across_axis,
    layers,
    marks,
    names_axis,
    plot,
)
from celeba_fl.report.words import figure

RUN, GUESS = "this run", "a simple guess"
# Beside them, models of the same data.
OTHERS = {
    "all examples in one place": Look(COLOURS[1], shape="square"),
    "each client alone": Look(COLOURS[2], shape="diamond"),
}


@dataclass(frozen=True)
class Standing:
    """A figure of a run that is 1 without any mistake; NaN where something is not known."""

    metric: str  # as people call it
    value: float
    guess: float
    ends: tuple[float, float]  # its interval
    others: Mapping[str, float]  # by the names in `OTHERS`


def standing(figures: Sequence[Standing]) -> alt.LayerChart:
    """Each figure as a bar from what a simple guess gives, on the way to 1."""
    y, lowest = names_axis("metric", [one.metric for one in figures]), 1.0
    run, beside = [], []
    for one in figures:
        low, high = one.ends
        known = {GUESS: one.guess, **one.others}
        lowest = min([lowest, one.value, *(value for value in known.values() if value == value)])
        row = {"metric": one.metric, "series": RUN, "figure": one.value, "guess": one.guess}
        run.append({**row, "low": low, "high": high, "label": figure(one.value)})
        beside += [
            {"metric": one.metric, "series": name, "figure": value}
            for name, value in known.items()
            if value == value
        ]
    there = {row["series"] for row in beside}
    looks = {RUN: Look(COLOURS[0]), GUESS: Look(REFERENCE, shape=TICK), **OTHERS}
    series = Series({name: look for name, look in looks.items() if name in there | {RUN}})
    title = "1 is no mistake"
    unit = {"domain": [min(0.5, lowest) if lowest > 0.4 else 0, 1], "nice": False}
    x, chart = across_axis("figure", title, **unit), plot(run)
    others = plot(beside)
    guesses = others.transform_filter(alt.datum.series == GUESS)
    models = others.transform_filter(alt.datum.series != GUESS)
    ends = across_axis("low", title, **unit)
    return layers(
        chart.mark_bar(height=13, opacity=0.45).encode(
            y, x, alt.X2("guess"), **series.encode("color")
        ),
        guesses.mark_tick(thickness=3, size=24, opacity=1).encode(y, x, **series.encode("color")),
        marks(models, 80).encode(y, x, **series.encode("color", "shape")),
        chart.mark_rule(strokeWidth=2).encode(y, ends, alt.X2("high"), **series.encode("color")),
        marks(chart, 90).encode(y, x, **series.encode("color", "shape")),
        chart.mark_text(dy=-16, fontWeight="bold", fontSize=13).encode(y, x, alt.Text("label:N")),
        height=HEIGHT * len(figures) / max(len(figures), 3),
    )
