"""The blocks of a report as a page shows them: the same words, and charts that can be pointed at.

A part of a page that cannot be made says so in its place, and hides no other.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import streamlit as st

from celeba_fl.common.errors import InputError
from celeba_fl.report.charts import Chart, table
from celeba_fl.report.html import Block, Cards, Cell, Pictures, Table
from celeba_fl.report.words import UNKNOWN

SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-!|~$:<>&^])")
# A metric is never cut off, and a row of them breaks where it has to.
METRIC_WIDTH = 165
NUMBERS = ",.5~r"  # of a chart, in the notation of d3


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


def show_chart(chart: Chart, alt: str, caption: str, key: str) -> None:
    """A chart, what it shows in words, and its numbers for those who ask."""
    st.altair_chart(chart.configure(numberFormat=NUMBERS), key=f"chart-{key}", alt=alt)
    st.caption(plain(caption))
    what = re.split("[.:;]", caption)[0]
    if st.toggle(plain(f"As a table: {what}"), key=f"table-{key}"):
        st.dataframe(table(chart), hide_index=True, alt=plain(caption))


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
                if isinstance(picture.source, bytes):
                    st.image(picture.source, plain(picture.caption), alt=picture.alt)
                else:
                    show_chart(picture.source, picture.alt, picture.caption, f"{key}-{number}")


def _words(cell: Cell) -> str:
    return cell if isinstance(cell, str) else " ".join(filter(None, cell))
