"""The blocks of a report as a page shows them: the same words, and charts in the place of pictures.

A part of a page that cannot be made says so in its place, and hides no other.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from celeba_fl.common.errors import InputError
from celeba_fl.dashboard import charts
from celeba_fl.report.html import UNKNOWN, Block, Cards, Cell, Picture, Pictures, Table
from celeba_fl.report.plots import Album, draw

SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-!|~$:<>&^])")
# A metric is never cut off, and a row of them breaks where it has to.
METRIC_WIDTH = 165


@dataclass(frozen=True)
class Chart(Picture):
    """A picture whose PNG need not be drawn."""

    figure: go.Figure = field(default_factory=go.Figure)


class Charts(Album):
    """An album that takes the chart for each picture of which there is one."""

    def add(self, name: str, alt: str, caption: str, picture: Callable[[], Any]) -> Picture:
        """The chart of the same name, with the arguments of the picture."""
        if isinstance(picture, partial) and hasattr(charts, picture.func.__name__):
            make = getattr(charts, picture.func.__name__)
            figure = make(*picture.args, **picture.keywords)
            return Chart(b"", alt, caption, figure)
        return Picture(draw(picture), alt, caption)


def plain(text: object) -> str:
    """A text that Markdown leaves as it is: names and reasons are not ours."""
    return SPECIAL.sub(r"\\\1", str(text))


@contextmanager
def part(title: str) -> Iterator[None]:
    """A part of a page."""
    try:
        yield
    except InputError as error:
        st.error(plain(error))
    except Exception as error:
        st.warning(plain(f"{title} cannot be shown: {error!r}"))


def live(title: str, every: float, show: Callable[..., None], *arguments: Any) -> None:
    """A part of a page that is shown again every so many seconds, and nothing else with it."""

    def shown() -> None:
        with part(title):
            show(*arguments)

    st.fragment(run_every=every)(shown)()


def show(blocks: Sequence[Block], key: str) -> None:
    """Show blocks, one below the other; `key` tells their widgets from others of the page."""
    for number, block in enumerate(blocks):
        if isinstance(block, str):
            st.markdown(plain(block))
        elif isinstance(block, Cards):
            with st.container(horizontal=True):
                for label, value, against in block.cards:
                    if value != UNKNOWN:
                        with st.container(width=METRIC_WIDTH, gap=None):
                            st.metric(plain(label), value)
                            st.caption(plain(against))
        elif isinstance(block, Table):
            _show_table(block)
        else:
            _show_pictures(block, f"{key}-{number}")


def show_chart(figure: go.Figure, alt: str, caption: str, key: str) -> None:
    """A chart, what it shows in words, and its numbers for those who ask."""
    st.plotly_chart(figure, key=f"chart-{key}", config=charts.CONFIG, alt=alt)
    st.caption(plain(caption))
    what = re.split("[.:;]", caption)[0]
    if st.toggle(plain(f"As a table: {what}"), key=f"table-{key}"):
        st.dataframe(charts.table(figure), hide_index=True, alt=plain(caption))


def _show_table(block: Table) -> None:
    rows = [dict(zip(block.header, map(_words, row), strict=True)) for row in block.rows]
    place = st.container()
    if block.folded:
        place = st.expander(plain(block.caption))
    else:
        place.markdown(f"**{plain(block.caption)}**")
    with place:
        st.dataframe(rows, hide_index=True, alt=block.caption)


def _show_pictures(block: Pictures, key: str) -> None:
    shown = block.pictures
    per_row = min(2, len(shown))
    for start in range(0, len(shown), per_row):
        columns = st.columns(per_row)
        for number, picture in enumerate(shown[start : start + per_row], start):
            with columns[number - start]:
                if isinstance(picture, Chart):
                    show_chart(picture.figure, picture.alt, picture.caption, f"{key}-{number}")
                else:
                    st.image(picture.data, plain(picture.caption), alt=picture.alt)


def _words(cell: Cell) -> str:
    return cell if isinstance(cell, str) else " ".join(filter(None, cell))
