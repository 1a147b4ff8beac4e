"""Curves: how something goes round after round, and along the values of a setting."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from celeba_fl.report.charts import (
    COLOURS,
    LEVELS,
    LINE,
    REFERENCE,
    Look,
    Series,
    column,
    layers,
    look,
    marks,
    minutes_axis,
    plot,
    rounds_axis,
    values_axis,
)
from celeba_fl.report.names import PARTS, name_of
from celeba_fl.report.reading import Rows, floats, spaced

MINUTES = "minutes"
MEDIAN = "median of the clients"


def rounds(rows: Rows, metric: str, reference: Mapping[str, float]) -> alt.LayerChart:
    """A metric by round on every split, with level lines to hold the test curve against."""
    curves = {label: (rows, f"{part}_{metric}") for part, label in PARTS.items()}
    return _curves(curves, name_of(metric), reference)


def compared_rounds(
    runs: Mapping[str, Rows], part: str, metric: str, by: str = "round", smoothing: float = 0.0
) -> alt.LayerChart:
    """A metric of a split, one curve a run, by round or by `MINUTES` since the first round began.

    Under `smoothing`, from 0 to below 1, a point has so much of the smoothed point before it.
    """
    column, curves = f"{part}_{metric}", {}
    for name, rows in runs.items():
        minutes = np.nancumsum(floats(rows, "seconds")) / 60
        values, before = [], np.nan
        for value in floats(rows, column):
            smoothed = value if np.isnan(before) else smoothing * before + (1 - smoothing) * value
            before = before if np.isnan(smoothed) else smoothed  # a round without it counts nothing
            values.append(smoothed)
        smooth = [
            {**row, MINUTES: f"{at}", column: "" if np.isnan(value) else f"{value}"}
            for row, at, value in zip(rows, minutes, values, strict=True)
        ]
        curves[name] = smooth, column
    return _curves(curves, f"{name_of(metric)}, {PARTS[part]}", {}, by)


def client_curves(rows: Rows, metric: str, chosen: Collection[str]) -> alt.LayerChart:
    """A column of `clients.csv` by round: the chosen clients, among thin lines of others.

    Of many others, the lines are a sample.
    """
    title = name_of(metric.replace("valid_", "validation "))
    others = "other clients" if chosen else "each client"
    names = sorted({row["client"] for row in rows}.intersection(chosen))
    known = [row for row in rows if row.get(metric)]
    rest = [name for name in dict.fromkeys(row["client"] for row in known) if name not in names]
    sample = {*spaced(rest)}
    if len(sample) < len(rest):
        others = f"{len(sample)} of {len(rest):,} {'other ' if chosen else ''}clients"
    numbers, values = floats(known, "round"), floats(known, metric)
    front: list[dict[str, Any]] = [
        {"series": MEDIAN, "client": "", "round": at, title: np.median(values[numbers == at])}
        for at in np.unique(numbers)
    ]
    back: list[dict[str, Any]] = []
    for row, at, value in zip(known, numbers, values, strict=True):
        client = row["client"]
        line = {"client": client, "round": at, title: value}
        if client in names:
            front.append({"series": f"client {client}", **line})
        elif client in sample:
            back.append({"series": others, **line})
    looks = {name: look(i) for i, name in enumerate([MEDIAN, *(f"client {n}" for n in names)])}
    series = Series({others: Look(REFERENCE, shape=LINE)} | looks)
    x, y = rounds_axis(), values_axis(title)
    thin = plot(back).mark_line(strokeWidth=0.8, opacity=0.45)
    return layers(
        thin.encode(x, y, alt.Detail("client:N"), **series.encode("color")),
        *_lines(plot(front), x, y, series),
    )


def client_spread(rows: Rows, metric: str) -> alt.LayerChart:
    """Quantiles over the clients of a validation metric, by round."""
    title = f"validation {name_of(metric)}"
    numbers, values = floats(rows, "round"), floats(rows, f"valid_{metric}")
    names = ("10 %", "25 %", title, "75 %", "90 %")
    points = []
    for at in np.unique(numbers):
        quantiles = np.quantile(values[numbers == at], (0.1, 0.25, 0.5, 0.75, 0.9))
        points.append({"round": at, **dict(zip(names, quantiles, strict=True))})
    chart = plot(points)
    bands = {"middle 80 %": names[::4], "middle half": names[1::2]}
    pale = {name: Look(f"rgba(86, 180, 233, 0.{3 * i})") for i, name in enumerate(bands, start=1)}
    series = Series(pale | {MEDIAN: Look(COLOURS[0])})
    x = rounds_axis()
    area = chart.mark_area(opacity=1)
    parts = {
        name: area.encode(x, values_axis(low).title(title), alt.Y2(high))
        for name, (low, high) in bands.items()
    }
    parts[MEDIAN] = chart.mark_line(strokeWidth=2).encode(x, values_axis(title))
    return layers(*(series.one(part, name, "color") for name, part in parts.items()))


def epochs(rows: Rows, columns: Mapping[str, str]) -> alt.LayerChart:
    """Columns of `epochs.csv`, by the names they get: median and range over the clients."""
    x, y = "local epoch, round after round", name_of("loss")
    each = max(int(row["epoch"]) for row in rows)
    at = np.array([(int(row["round"]) - 1) * each + int(row["epoch"]) for row in rows])
    points = []
    for key, name in columns.items():
        values = floats(rows, key)
        for epoch in np.unique(at):
            low, median, high = np.quantile(values[at == epoch], (0, 0.5, 1))
            points.append({"series": name, x: epoch, y: median, "lowest": low, "highest": high})
    series = Series({name: look(i) for i, name in enumerate(columns.values())})
    chart, axis = plot(points), rounds_axis(x)
    band = chart.mark_area(opacity=0.25).encode(
        axis, values_axis("lowest").title(y), alt.Y2("highest"), **series.encode("color")
    )
    median = chart.mark_line(strokeWidth=1.5)
    return layers(band, median.encode(axis, values_axis(y), **series.encode("color", "strokeDash")))


def sweep(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], metric: str) -> alt.LayerChart:
    """The metric that ranks a grid by its first key, a line for each value of the other keys.

    The rows are those of `sweep.csv`, the best first.
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
    parts = [
        best.mark_point(size=260, strokeWidth=2).encode(x, y, **series.encode("color", "shape")),
        *_lines(chart, x, y, series, size=45),
    ]
    if any(row[f"{metric}_std"] for row in known):
        spread = chart.mark_errorbar(ticks=True)
        low = values_axis("low", padding=12).title(title)
        parts.append(spread.encode(x, low, alt.Y2("high"), **series.encode("color")))
    return layers(*parts)


def _curves(
    curves: Mapping[str, tuple[Rows, str]],
    y: str,
    levels: Mapping[str, float],
    by: str = "round",
) -> alt.LayerChart:
    """A curve for each of some columns that has values, and level lines."""
    points = [
        {"series": name, by: number, y: value}
        for name, (rows, key) in curves.items()
        for number, value in zip(floats(rows, by), floats(rows, key), strict=True)
        if value == value
    ]
    there = {point["series"] for point in points}
    looks = {name: look(i) for i, name in enumerate(curves) if name in there}
    series = Series(looks | dict(zip(levels, LEVELS, strict=False)))
    x, axis = rounds_axis(by) if by == "round" else minutes_axis(by), values_axis(y)
    numbers = [point[by] for point in points] or [0]
    ends = [
        {"series": name, by: number, y: value}
        for name, value in levels.items()
        for number in (min(numbers), max(numbers))
    ]
    parts = _lines(plot(points), x, axis, series)
    if ends:
        line = plot(ends).mark_line(strokeWidth=1.5)
        parts.append(line.encode(x, axis, **series.encode("color", "strokeDash")))
    return layers(*parts)


def _lines(
    chart: alt.Chart, x: alt.X, y: alt.Y, series: Series, size: float = 26
) -> list[alt.Chart]:
    """Lines with a mark at each point."""
    return [
        chart.mark_line(strokeWidth=1.8).encode(x, y, **series.encode("color", "strokeDash")),
        marks(chart, size).encode(x, y, **series.encode("color", "shape")),
    ]
