"""What all pictures share: their look, their rows, and how a chart becomes SVG and PNG.

A picture is a chart of altair, described once: a page shows it as SVG and the dashboard shows it
natively. Text and grid take their colours from where the chart is shown, light or dark, so nothing
that a picture draws itself is black or white.
"""

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert
from altair.utils import schemapi
from PIL import Image

from celeba_fl.report.drawing import drawer
from celeba_fl.runs.tables import defined

Chart = alt.Chart | alt.LayerChart
# Every part of a chart would be checked as it is made, each row too: tests check whole charts.
schemapi.disable_debug_mode()

REFERENCE = "#808a93"  # can be seen on white and on black
# Okabe and Ito's colours, told apart with every kind of colour vision (Okabe and Ito 2008); their
# black is our grey.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", REFERENCE)
# So that nothing hangs on colour alone.
DASHES = ((1, 0), (6, 3), (7, 2, 2, 2), (2, 2))
SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "triangle-right")
WIDTH, HEIGHT, ROW = 420, 210, 16  # pixels of a picture, of its plot and of a named row in it
CHARACTER, SYMBOL = 6.4, 34  # pixels of a legend's text and of what stands beside it
VERSION = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])  # of Vega-Lite

# The look of a picture on a page, in colours that a page may replace; Streamlit has its own.
PAPER, INK, GRID = "#ffffff", "#16191c", "#d9dde1"
# As wide as Liberation Sans, by which vl-convert measures.
FONT = "Arial, Helvetica, Arimo, 'Liberation Sans', sans-serif"
TEXT = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12}
STYLE: Mapping[str, Any] = {
    "aria": False,  # a picture is described as a whole
    "background": PAPER,
    "font": FONT,
    "axis": {**TEXT, "gridColor": GRID, "tickColor": GRID, "domainColor": GRID}
    | {"titleFontWeight": "normal"},
    "legend": TEXT,
    "text": {"color": INK},
    "view": {"stroke": None},
}
# CSS in an SVG on a page: the page's own background; where it is dark, light text and a lighter
# blue.
DARK = {INK: "#e4e7ea", GRID: "#3a4149", COLOURS[0]: "#3391cf"}
ON_A_PAGE = (
    f'<style>[fill="{PAPER}"]{{fill:none}}@media screen and (prefers-color-scheme:dark){{'
    + "".join(
        f'[fill="{light}"]{{fill:{dark}}}[stroke="{light}"]{{stroke:{dark}}}'
        for light, dark in DARK.items()
    )
    + "}</style>"
)


def draw(chart: Chart) -> str:
    """SVG of a chart; nothing is fetched for it."""
    spec = chart.to_dict(validate=False)
    asked = {"vl_spec": spec, "vl_version": VERSION, "config": dict(STYLE)}
    return str(drawer().ask(**asked, allowed_base_urls=[])["svg"])


def to_png(svg: str) -> bytes:
    """PNG of a drawn chart, sharp enough for slides."""
    with Image.open(io.BytesIO(vl_convert.svg_to_png(svg, scale=2))) as drawn, io.BytesIO() as png:
        drawn.convert("RGB").save(png, "PNG")  # a quarter of the size
        return png.getvalue()


def for_page(svg: str) -> str:
    """A drawn chart that is as light or dark as the page that shows it."""
    return re.sub("<svg[^>]*>", lambda tag: tag[0] + ON_A_PAGE, svg, count=1)


def table(chart: Chart) -> list[dict[str, Any]]:
    """The rows that a chart shows: for those who do not see it."""
    parts = [chart, *(chart.layer if isinstance(chart, alt.LayerChart) else ())]
    tables: list[list[dict[str, Any]]] = []
    for part in parts:
        if part.data is not alt.Undefined and part.data["values"] not in tables:
            tables.append(part.data["values"])
    return [row for rows in tables for row in rows if row]


# ---- parts of a picture -------------------------------------------------------------------


def plot(rows: Sequence[Mapping[str, Any]]) -> alt.Chart:
    """A chart of some rows, of the same columns each."""
    plain = [{key: defined(value) for key, value in row.items()} for row in rows]
    return alt.Chart(alt.InlineData(values=plain))


def marks(chart: alt.Chart, size: float = 42, **style: Any) -> alt.Chart:
    """A filled mark for each row."""
    return chart.mark_point(filled=True, size=size, **{"opacity": 1} | style)


def level(**at: Any) -> alt.Chart:
    """A straight line across the picture, at ``x=`` or ``y=``."""
    line = alt.Chart(alt.InlineData(values=[{}]))
    return line.mark_rule(color=REFERENCE, strokeWidth=1.5).encode(**at)


def layers(*parts: alt.Chart, height: float = HEIGHT) -> alt.LayerChart:
    """Parts laid over each other to a picture; it is as wide as there is room."""
    return alt.LayerChart(
        layer=list(parts),
        width=WIDTH,
        height=height,
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
    )


def column(name: str, kind: str = "quantitative") -> dict[str, Any]:
    """A column of the rows, whatever it is called: Vega-Lite looks into names with dots."""
    return {"field": re.sub(r"""([.\[\]\\'"])""", r"\\\1", name), "type": kind}


def rounds_axis(name: str = "round") -> alt.X:
    """Rounds or epochs from left to right; there is nothing between two of them."""
    # With two or three rounds, Vega puts ticks between them all the same.
    whole = "datum.value % 1 ? '' : datum.label"
    axis = alt.Axis(tickMinStep=1, format="d", labelExpr=whole, grid=False)
    return alt.X(**column(name), title=name, axis=axis)


def minutes_axis(name: str) -> alt.X:
    """Time from left to right."""
    return alt.X(**column(name), title=name, axis=alt.Axis(grid=False))


def values_axis(name: str, **scale: Any) -> alt.Y:
    """Values from the bottom up, from where they begin."""
    scaled = alt.Scale(**{"zero": False} | scale)
    return alt.Y(**column(name), title=name, scale=scaled, axis=alt.Axis(tickCount=5))


def across_axis(name: str, title: str, **scale: Any) -> alt.X:
    """Values from left to right in named rows."""
    scaled = alt.Scale(**{"zero": False} | scale)
    return alt.X(**column(name), title=title, scale=scaled, axis=alt.Axis(tickCount=6))


def names_axis(name: str, order: Iterable[str], **axis: Any) -> alt.Y:
    """Named rows from the top down."""
    options = {"labelLimit": 170, "labelOverlap": False, "ticks": False, "domain": False}
    options["labelPadding"] = 7
    scale = alt.Scale(domain=list(dict.fromkeys(order)))
    return alt.Y(
        **column(name, "nominal"), title=None, scale=scale, axis=alt.Axis(**options | axis)
    )


@dataclass(frozen=True)
class Look:
    """How a series looks, in more than its colour."""

    color: str
    strokeDash: tuple[int, ...] = (1, 0)  # noqa: N815 (a channel of Vega-Lite)
    shape: str = "circle"


# In a legend, lines without marks, and a mark that is a small upright line.
LINE = "M-1,-.1h2v.2h-2z"
TICK = "M-.15,-1h.3v2h-.3z"
LEVELS = (
    Look(REFERENCE, (2, 2), "M-1,-.12h.3v.24h-.3zM-.4,-.12h.3v.24h-.3zM.2,-.12h.3v.24h-.3z"),
    Look(REFERENCE, (6, 3), "M-1,-.12h.8v.24h-.8zM.2,-.12h.8v.24h-.8z"),
)


def look(i: int) -> Look:
    """A look for the series of this number: the first 28 are told apart without colours."""
    return Look(COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)], SHAPES[i % len(SHAPES)])


class Series:
    """The series of a picture by their names, in one legend above the plot."""

    def __init__(self, looks: Mapping[str, Look]) -> None:
        self.looks = dict(looks)
        longest = max(map(len, self.looks), default=0)
        wide = max(1, int(WIDTH / (CHARACTER * longest + SYMBOL)))
        self.legend = alt.Legend(
            title=None,
            orient="top",
            columns=min(wide, 4),
            labelLimit=WIDTH - SYMBOL,
            symbolOpacity=1,
            symbolStrokeWidth=0,
            offset=10,
        )

    def encode(self, *channels: str) -> dict[str, Any]:
        """Channels by the column `series`: all parts of a picture name it so, for one legend."""
        names, looks = list(self.looks), self.looks.values()
        return {
            channel: getattr(alt, channel[0].upper() + channel[1:])(
                **column("series", "nominal"),
                scale=alt.Scale(domain=names, range=[getattr(look, channel) for look in looks]),
                legend=None if channel == "strokeDash" else self.legend,
            )
            for channel in channels
        }

    def one(self, chart: alt.Chart, name: str, *channels: str) -> alt.Chart:
        """A part of a picture that is one series as a whole."""
        return chart.transform_calculate(series=json.dumps(name)).encode(**self.encode(*channels))
