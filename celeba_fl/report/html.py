"""What a page is made of, and how it becomes one self-contained HTML file."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from celeba_fl.common.log import LOG
from celeba_fl.report.templates import PAGE, STYLE

UNKNOWN = "\N{EN DASH}"

# No interval.
NONE = (float("nan"), float("nan"))

# A text, or a text and lines of small print below it.
Cell = str | tuple[str, ...]


@dataclass(frozen=True)
class Cards:
    """Headline numbers: label, value, and what to hold it against."""

    kind: ClassVar = "cards"
    cards: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Parameters
    ----------
    caption : str
        What it shows.
    header : Sequence[str]
        Names of the columns.
    rows : Sequence[Sequence[Cell]]
        Cells; the first of a row is its name.
    folded : bool (default: False)
        Whether it opens on a click.
    words : bool (default: False)
        Whether cells are text (to the left), not numbers (to the right).
    """

    kind: ClassVar = "table"
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    folded: bool = False
    words: bool = False


@dataclass(frozen=True)
class Picture:
    """A PNG or WebP with its caption, and its text for those who do not see it."""

    data: bytes
    alt: str
    caption: str

    @property
    def base64(self) -> str:
        """For a data URL."""
        return base64.b64encode(self.data).decode()

    @property
    def mime(self) -> str:
        """Its type."""
        return "image/webp" if self.data.startswith(b"RIFF") else "image/png"

    @property
    def width(self) -> int:
        """Pixels; known in advance they keep the page from jumping."""
        return self._size[0]

    @property
    def height(self) -> int:
        """Pixels."""
        return self._size[1]

    @cached_property
    def _size(self) -> tuple[int, int]:
        from PIL import Image

        with Image.open(io.BytesIO(self.data)) as image:
            return image.size


@dataclass(frozen=True)
class Pictures:
    """Pictures side by side where there is room."""

    kind: ClassVar = "pictures"
    pictures: Sequence[Picture]


Block = str | Cards | Table | Pictures


@dataclass(frozen=True)
class Section:
    """A titled part of a page."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """All that a page shows."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    footer: str
    status: str = ""
    notes: Sequence[str] = field(default=())

    def render(self) -> str:
        """The HTML: nothing in it is fetched from anywhere, and no script runs."""
        from jinja2 import Environment, StrictUndefined

        environment = Environment(autoescape=True, undefined=StrictUndefined)
        template = environment.from_string(PAGE.lstrip())
        return template.render(style=STYLE, **vars(self))


def build_section(title: str, build: Callable[[], Sequence[Block]]) -> Section:
    """A section, or a word on why there is none: one broken file must not hide the others."""
    try:
        return Section(title, build())
    except Exception as error:
        LOG.warning("Report: %r could not be made: %r", title, error)
        return Section(title, [f"This part could not be made: {error!r}"])


def figure(value: float) -> str:
    """A metric."""
    return f"{value:.3f}" if value == value else UNKNOWN


def difference(value: float) -> str:
    """A difference of metrics, with its sign."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}") if value == value else UNKNOWN


def between(low: float, high: float, write: Callable[[float], str] = figure) -> str:
    """An interval; nothing where there is none."""
    return f"[{write(low)}, {write(high)}]" if low == low and high == high else ""


def sentence(text: str) -> str:
    """With a capital first letter."""
    return text[:1].upper() + text[1:]


def named(raw: str) -> str:
    """An attribute, a group or a grouping, in words that a line can break between."""
    return raw.replace("_", " ").replace(",", ", ")
