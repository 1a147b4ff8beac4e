"""The pictures of a page: embedded in it, and as files beside it."""

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from PIL import Image

from celeba_fl.common.files import write_bytes
from celeba_fl.common.log import LOG
from celeba_fl.report.charts import draw, for_page, to_png
from celeba_fl.report.html import (
    Block,
    Embedded,
    Figures,
    Picture,
    Pictures,
    Section,
    for_others,
)

T = TypeVar("T")


def build_sections(
    sections: Mapping[str, Callable[[T], Sequence[Block]]],
    subject: T,
    folder: Path | None = None,
    png: bool = False,
) -> list[Section]:
    """Build the sections that have blocks; see `embed` for the files of their pictures.

    A section that cannot be made says why, and hides no other.
    """

    def build(title: str) -> Section:
        try:
            blocks = [
                _figures(block, folder, png) if isinstance(block, Pictures) else for_others(block)
                for block in sections[title](subject)
            ]
        except Exception as error:
            LOG.warning("Report: the section %r could not be made: %r", title, error)
            blocks = [f"This section could not be made: {error!r}"]
        return Section(title, blocks)

    # While one thread waits for a picture, the other computes.
    with ThreadPoolExecutor(2) as pool:
        return [section for section in pool.map(build, sections) if section.blocks]


def _figures(block: Pictures, folder: Path | None, png: bool) -> Figures:
    to = None if block.small else folder
    return Figures([embed(picture, to, png) for picture in block.pictures], block.small)


def embed(picture: Picture, folder: Path | None = None, png: bool = False) -> Embedded:
    """Draw a picture for a page; with a folder, write its file there, of a chart its SVG.

    With `png`, a PNG of the chart lies beside it.
    """
    if isinstance(picture.source, bytes):
        kind = "webp" if picture.source.startswith(b"RIFF") else "png"
        files = {kind: picture.source}
        mime, shown = f"image/{kind}", picture.source
        with Image.open(io.BytesIO(picture.source)) as image:
            width, height = image.size
    else:
        svg = draw(picture.source)
        files = {"svg": svg.encode(), **({"png": to_png(svg)} if png else {})}
        mime, shown = "image/svg+xml", for_page(svg).encode()
        width, height = (int(n) for n in re.findall(r' (?:width|height)="(\d+)', svg)[:2])
    if folder:
        for kind, data in files.items():
            write_bytes(folder / f"{picture.name}.{kind}", data)
    url = f"data:{mime};base64,{base64.b64encode(shown).decode()}"
    return Embedded(picture.name, url, width, height, picture.alt, picture.caption)
