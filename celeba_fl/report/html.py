"""What a page is made of, and how it becomes one self-contained HTML file."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from celeba_fl.report.templates import PAGE, STYLE
from celeba_fl.report.words import without_folders

if TYPE_CHECKING:
    from celeba_fl.report.charts import Chart

MADE = "Made by celeba-fl from the files of the run directory alone."
INTERVALS = (
    "The 95 % intervals come from "
    "leaving out one person of the test split at a time, and Student's t for as many people; an "
    "attribute that is undefined without someone does not count then. They show how much a figure "
    "would change with other people like these, not with another seed, and they hold one by one: "
    "of twenty, one is expected to miss the truth."
)
# A text, or a text and lines of small print below it.
Cell = str | tuple[str, ...]


@dataclass(frozen=True)
class Cards:
    """Headline numbers: label, value, and what to hold it against."""

    kind: ClassVar = "cards"
    cards: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows; if it is folded, it opens on a click.

    Cells are numbers, to the right. Text is to the left: with `words`, all cells; else those of the
    columns `texts`, counted from 0.
    """

    kind: ClassVar = "table"
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    folded: bool = False
    words: bool = False
    texts: Collection[int] = ()


@dataclass(frozen=True)
class Picture:
    """A chart, or an image as the bytes of a PNG or WebP file.

    Its files in `plots/` have its name; `alt` says what it shows to those who do not see it.
    """

    name: str
    alt: str
    caption: str
    source: "Chart | bytes"


@dataclass(frozen=True)
class Pictures:
    """Some pictures, which belong side by side; small ones are not kept as files."""

    pictures: Sequence[Picture]
    small: bool = False


Block = str | Cards | Table | Pictures


def for_others(block: str | Cards | Table) -> str | Cards | Table:
    """A block without the folders of this machine: a page is made to be passed on."""

    def cell(it: Cell) -> Cell:
        return without_folders(it) if isinstance(it, str) else tuple(map(without_folders, it))

    if isinstance(block, str):
        return without_folders(block)
    if isinstance(block, Cards):
        cards = [tuple(map(without_folders, card)) for card in block.cards]
        return Cards([(label, value, detail) for label, value, detail in cards])
    header, caption = [*map(without_folders, block.header)], without_folders(block.caption)
    rows = [[*map(cell, row)] for row in block.rows]
    return replace(block, caption=caption, header=header, rows=rows)


@dataclass(frozen=True)
class Embedded:
    """A picture in the page itself, as large as it is: that keeps a page from jumping."""

    name: str
    url: str
    width: int
    height: int
    alt: str
    caption: str


@dataclass(frozen=True)
class Figures:
    """Embedded pictures side by side where there is room."""

    kind: ClassVar = "figures"
    pictures: Sequence[Embedded]
    small: bool = False


@dataclass(frozen=True)
class Section:
    """A titled part of a page."""

    title: str
    blocks: Sequence[str | Cards | Table | Figures]


@dataclass(frozen=True)
class Page:
    """All that a page shows; its foot explains `intervals` where there are some."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    status: str = ""
    lede: str = ""
    notes: Sequence[str] = ()
    front: Sequence[Embedded] = ()
    intervals: bool = False

    def render(self) -> str:
        """The HTML: nothing in it is fetched from anywhere, and no script runs."""
        from jinja2 import Environment, StrictUndefined

        environment = Environment(autoescape=True, undefined=StrictUndefined)
        template = environment.from_string(PAGE.lstrip())
        footer = f"{MADE} {INTERVALS}" if self.intervals else MADE
        return template.render(style=STYLE, footer=footer, **vars(self))
