"""The pictures of `celeba_fl.report.plots` to point at: Plotly figures of the same names.

Every series has a name, and a dash or a marker besides its colour; `table` says any of them in
rows. Text and grid take their colours from the page, light or dark, so nothing here is black.
"""

from collections.abc import Collection, Mapping, Sequence
from html import escape, unescape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from celeba_fl.evaluation.metrics import ratio
from celeba_fl.report import plots
from celeba_fl.report.html import UNKNOWN, named
from celeba_fl.report.reading import PARTS, Rows, floats, name_of

REFERENCE = "#808a93"  # can be seen on white and on black
COLOURS = (*plots.COLOURS[:-1], REFERENCE)
DASHES = ("solid", "dash", "dashdot", "dot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "star", "x")
SHAPES = ("", "/", ".", "x", "\\", "-", "|", "+")
HEIGHT = 320
ROW = 19  # pixels of an attribute
MOST_TICKS = 12
# Not the zoom that would keep a finger from scrolling the page.
CONFIG = {"displayModeBar": False, "scrollZoom": False}


def rounds(rows: Rows, metric: str, reference: Mapping[str, float]) -> go.Figure:
    """A metric by round on every split, with level lines to hold the test curve against."""
    figure = _by_round(rows, name_of(metric))
    x = floats(rows, "round")
    for i, (part, label) in enumerate(PARTS.items()):
        _curve(figure, x, floats(rows, f"{part}_{metric}"), label, i)
    for (label, value), dash in zip(reference.items(), ("dot", "dash"), strict=False):
        line = {"color": REFERENCE, "dash": dash, "width": 1.5}
        figure.add_scatter(x=x[[0, -1]], y=[value] * 2, name=label, mode="lines", line=line)
    return figure


def compared_rounds(runs: Mapping[str, Rows], part: str, metric: str) -> go.Figure:
    """A metric of a split by round, one curve a run."""
    figure = _by_round(
        [row for rows in runs.values() for row in rows], f"{name_of(metric)}, {PARTS[part]}"
    )
    for i, (name, rows) in enumerate(runs.items()):
        _curve(figure, floats(rows, "round"), floats(rows, f"{part}_{metric}"), _text(name), i)
    return figure


def client_curves(rows: Rows, column: str, chosen: Collection[str]) -> go.Figure:
    """A column of `clients.csv` by round: the chosen clients, among thin lines of all others."""
    lines: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        lines.setdefault(row["client"], []).append(row)
    figure = _by_round(rows, name_of(column.replace("valid_", "validation ")))
    others = [row for name, line in lines.items() if name not in chosen for row in (*line, {})]
    figure.add_scatter(
        x=floats(others, "round"),
        y=floats(others, column),
        text=[f"client {_text(row['client'])}" if row else "" for row in others],
        name="other clients" if chosen else "each client",
        mode="lines",
        line={"color": REFERENCE, "width": 0.8},
        opacity=0.45,
        hoverinfo="text+x+y",
    )
    known = [row for row in rows if row.get(column)]
    rounds, values = floats(known, "round"), floats(known, column)
    x = np.unique(rounds)
    y = np.array([np.median(values[rounds == number]) for number in x])
    _curve(figure, x, y, "median of the clients", 0)
    for i, name in enumerate(sorted(chosen & lines.keys()), start=1):
        line = lines[name]
        _curve(figure, floats(line, "round"), floats(line, column), f"client {_text(name)}", i)
    return figure


def partitions(rows: Rows, shares: bool = False) -> go.Figure:
    """Who holds what: train examples of each client, stacked by group (``Male=1,Young=0``)."""
    figure = _figure("client", "train examples" + (" (%)" if shares else ""))
    groups = [key for key in rows[0] if "=" in key]
    counts = np.array([floats(rows, group) for group in groups or ["num_examples"]])
    if shares:
        counts = 100 * ratio(counts, counts.sum(axis=0) + np.zeros_like(counts))
    names = [_text(row["client"]) for row in rows]
    for i, bars in enumerate(counts):
        label = _text(named(groups[i])) if groups else "train examples"
        pattern = {"shape": SHAPES[i % 8], "fillmode": "overlay", "fgopacity": 0.45, "size": 6}
        figure.add_bar(
            x=names, y=bars, name=label, marker={"color": _colour(i), "pattern": pattern}
        )
    figure.update_layout(barmode="stack", bargap=0.1, xaxis={"type": "category"})
    return figure


def attributes(rows: Rows) -> go.Figure:
    """Accuracy of each attribute as a bar from what the majority's answer scores."""
    figure = _across("share of images answered rightly", len(rows))
    names = [_text(named(row["attribute"])) for row in rows]
    accuracy, majority = floats(rows, "accuracy"), floats(rows, "majority_accuracy")
    for over, colour, mark, label in (
        (accuracy >= majority, 0, "circle", "accuracy, not below the majority"),
        (accuracy < majority, 5, "diamond", "accuracy, below it"),
    ):
        there = np.array(names)[over]
        figure.add_bar(
            x=(accuracy - majority)[over],
            base=majority[over],
            y=there,
            orientation="h",
            width=0.5,
            marker={"color": COLOURS[colour], "opacity": 0.5},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=label,
        )
        _marks(figure, accuracy[over], there, label, colour, mark, legendgroup=label)
    _marks(figure, majority, names, "majority's answer", -1, "line-ns-open", size=11)
    return _listed(figure, names)


def ranking(rows: Rows) -> go.Figure:
    """Balanced accuracy as a bar from chance, and AUROC, of each attribute."""
    figure = _across("0.5 is chance, and what the majority's answer scores", len(rows))
    names = [_text(named(row["attribute"])) for row in rows]
    balanced = floats(rows, "balanced_accuracy")
    figure.add_bar(
        x=balanced - 0.5,
        base=0.5,
        y=names,
        orientation="h",
        name="balanced accuracy",
        marker={"color": COLOURS[4]},
        customdata=balanced,
        hovertemplate="%{customdata:.3f}",
    )
    _marks(figure, floats(rows, "auroc"), names, "AUROC", 5, "diamond")
    figure.add_vline(0.5, line={"color": REFERENCE, "width": 1.5})
    return _listed(figure, names)


def gaps(rows: Rows) -> go.Figure:
    """Heat map of the differences between groups, attributes by grouping and measure."""
    names = list(dict.fromkeys(row["attribute"] for row in rows))
    groupings = list(dict.fromkeys(row["grouping"] for row in rows))
    cells = np.full((len(names), len(groupings) * len(plots.GAPS)), np.nan)
    for row in rows:
        first = groupings.index(row["grouping"]) * len(plots.GAPS)
        for j, gap in enumerate(plots.GAPS):
            cells[names.index(row["attribute"]), first + j] = floats([row], f"{gap}_difference")[0]
    figure = _across("", len(names) + 5)
    short = ("parity", "opportunity", "odds")
    figure.add_heatmap(
        z=100 * cells,
        x=[f"{_text(named(grouping))}: {measure}" for grouping in groupings for measure in short],
        y=[_text(named(name)) for name in names],
        name="difference (points)",
        zmin=0,
        zmax=100,
        colorscale="Blues",
        xgap=1,
        ygap=1,
        texttemplate="%{z:.0f}",
        colorbar={"orientation": "h", "y": -0.02, "yanchor": "top", "thickness": 10},
        hovertemplate="%{y}<br>%{x}: %{z:.1f} points",
    )
    missing = np.argwhere(np.isnan(cells))
    figure.add_scatter(
        x=[figure.data[0].x[j] for _, j in missing],
        y=[_text(named(names[i])) for i, _ in missing],
        text=[UNKNOWN] * len(missing),
        mode="text",
        hoverinfo="skip",
        showlegend=False,
    )
    figure.update_xaxes(side="top", tickangle=-45, showgrid=False, dtick=1)
    return _listed(figure, [_text(named(name)) for name in names])


def group_rates(shown: Sequence[tuple[str, Rows]]) -> go.Figure:
    """TPR and FPR with their intervals, of each group of some titled sets of groups."""
    groups = [row for _, rows in shown for row in rows]
    figure = _across("rate", 1.5 * len(groups))
    labels = [f"{_text(named(row['attribute']))}: {_text(named(row['group']))}" for row in groups]
    for rate, mark, colour in (("tpr", "circle", 0), ("fpr", "square", 5)):
        value, low, high = (floats(groups, f"{rate}{end}") for end in ("", "_low", "_high"))
        bars = {"type": "data", "array": high - value, "arrayminus": value - low, "thickness": 1.5}
        apart: Any = {"orientation": "h", "offsetgroup": rate, "error_x": bars}
        _marks(figure, value, labels, name_of(rate), colour, mark, **apart)
    figure.update_layout(scattermode="group", scattergap=0.5, xaxis={"range": [-0.02, 1.02]})
    return _listed(figure, labels)


def clients(rows: Rows, metric: str) -> go.Figure:
    """A validation metric of each client over the number of its train examples."""
    figure = _figure("train examples of the client", f"validation {name_of(metric)}")
    x, y = floats(rows, "num_examples"), floats(rows, f"valid_{metric}")
    names = [f"client {_text(row['client'])}" for row in rows]
    _marks(figure, x, y, "a client", 0, "circle", text=names, hoverinfo="text+x+y", opacity=0.7)
    line = {"color": REFERENCE, "dash": "dash", "width": 1.5}
    median, span = np.nanmedian(y), [0, np.nanmax(x)]
    label = "median of the clients"
    figure.add_scatter(x=span, y=[median] * 2, name=label, mode="lines", line=line)
    return figure


def client_spread(rows: Rows, metric: str) -> go.Figure:
    """Quantiles over the clients of a validation metric, by round."""
    figure = _by_round(rows, f"validation {name_of(metric)}")
    numbers, (low, lower, median, upper, high) = plots.client_quantiles(rows, metric)
    bands = ((low, high, "middle 80 %", 0.25), (lower, upper, "middle half", 0.5))
    for bottom, top, label, opacity in bands:
        edge = {"mode": "lines", "line": {"width": 0}, "legendgroup": label}
        figure.add_scatter(x=numbers, y=bottom, name=f"{label}, from", showlegend=False, **edge)
        fill = {"fill": "tonexty", "fillcolor": f"rgba(86, 180, 233, {opacity})"}
        figure.add_scatter(x=numbers, y=top, name=label, **fill, **edge)
    _curve(figure, numbers, median, "median of the clients", 0)
    return figure


def table(figure: go.Figure) -> list[dict[str, Any]]:
    """What a figure shows, a point a row: for those who do not see it."""
    x, y = (figure.layout[f"{axis}axis"].title.text or "of" for axis in "xy")
    rows: list[dict[str, Any]] = []
    for trace in figure.data:
        if trace.hoverinfo == "skip":
            continue  # it leads to marks that are there themselves
        if trace.type == "heatmap":
            for name, cells in zip(trace.y, trace.z, strict=True):
                rows.append({y: name, **dict(zip(trace.x, cells, strict=True))})
            continue
        at = trace.customdata if trace.type == "bar" and trace.base is not None else trace.x
        texts = trace.text if trace.text is not None else [None] * len(trace.y)
        error = trace.error_x if trace.type == "scatter" else None
        for i, (left, right, text) in enumerate(zip(at, trace.y, texts, strict=True)):
            if left == left and right == right:
                row = {"series": text or trace.name, x: left, y: right}
                if error and error.array is not None:
                    row |= {
                        "from": left - error.arrayminus[i],
                        "to": left + error.array[i],
                    }
                rows.append(row)
    return [{unescape(key): _plain(value) for key, value in row.items()} for row in rows]


def _figure(x: str, y: str, height: int = HEIGHT) -> go.Figure:
    """An empty figure for a page of any width."""
    figure = go.Figure()
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "title": None},
        xaxis={"title": {"text": _text(x)}, "automargin": True, "fixedrange": True},
        yaxis={"title": {"text": _text(y)}, "automargin": True, "fixedrange": True},
        dragmode=False,
        hoverlabel={"namelength": -1},
        uirevision="kept",
    )
    return figure


def _by_round(rows: Rows, y: str) -> go.Figure:
    """An empty figure over the rounds; there is nothing between two of them."""
    figure = _figure("round", y)
    last = max((int(row["round"]) for row in rows), default=0)
    figure.update_xaxes(dtick=1 if last <= MOST_TICKS else None)
    return figure


def _across(x: str, rows: float) -> go.Figure:
    """An empty figure of named rows."""
    figure = _figure(x, "", 130 + int(ROW * rows))
    figure.update_layout(yaxis={"type": "category", "showgrid": False}, barmode="overlay")
    return figure


def _listed(figure: go.Figure, names: Sequence[str]) -> go.Figure:
    """Every row named, from the top down."""
    figure.update_yaxes(
        categoryorder="array", categoryarray=list(names), range=[len(names) - 0.5, -0.5], dtick=1
    )
    return figure


def _curve(figure: go.Figure, x: np.ndarray, y: np.ndarray, name: str, i: int) -> None:
    known = y == y
    if known.any():
        figure.add_scatter(
            x=x[known],
            y=y[known],
            name=name,
            mode="lines+markers",
            line={"color": _colour(i), "dash": DASHES[i % len(DASHES)], "width": 2},
            marker={"symbol": MARKERS[i % len(MARKERS)], "size": 5},
        )


def _marks(
    figure: go.Figure,
    x: np.ndarray,
    y: Sequence[Any] | np.ndarray,
    name: str,
    colour: int,
    symbol: str,
    size: int = 7,
    **options: Any,
) -> None:
    line = {"width": 2 if symbol.endswith("-open") else 0}
    marker = {"color": COLOURS[colour], "symbol": symbol, "size": size, "line": line}
    figure.add_scatter(x=x, y=y, name=name, mode="markers", marker=marker, **options)


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _text(name: object) -> str:
    """A name that is not ours, as Plotly shows it: to Plotly, <a href="..."> is a link."""
    return escape(str(name), quote=False)


def _plain(value: Any) -> Any:
    """A plain Python value, texts as they were before `_text`; None for what is undefined."""
    if isinstance(value, str):
        return unescape(value)
    plain = value.item() if isinstance(value, np.generic) else value
    return None if plain != plain else plain
