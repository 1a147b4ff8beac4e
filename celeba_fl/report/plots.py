"""The pictures of a page: embedded in it, and as files beside it."""

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image

from celeba_fl.common.files import write_bytes
from celeba_fl.common.log import LOG
from celeba_fl.report.charts import draw, for_page, to_png
from celeba_fl.report.html import Block, Embedded, Figures, Picture, Pictures, Section

T = TypeVar("T")


def build_sections(
    sections: Mapping[str, Callable[[T], Sequence[Block]]], subject: T, folder: Path | None = None
) -> list[Section]:
    """Build the sections that have blocks; the files of their pictures go into `folder`, if any.

    A section that cannot be made says why, and hides no other.
    """
    built = []
    for title, build in sections.items():
        try:
            blocks = [
                Figures([embed(picture, folder) for picture in block.pictures])
                if isinstance(block, Pictures)
                else block
                for block in build(subject)
            ]
        except Exception as error:
            LOG.warning("Report: the section %r could not be made: %r", title, error)
            blocks = [f"This section could not be made: {error!r}"]
        if blocks:
            built.append(Section(title, blocks))
    return built


def embed(picture: Picture, folder: Path | None = None) -> Embedded:
    """Draw a picture for a page; with a folder, write its files there, SVG and PNG of a chart."""
    if isinstance(picture.source, bytes):
        kind = "webp" if picture.source.startswith(b"RIFF") else "png"
        files = {kind: picture.source}
        mime, shown = f"image/{kind}", picture.source
        with Image.open(io.BytesIO(picture.source)) as image:
            width, height = image.size
    else:
        svg = draw(picture.source)
        files = {"svg": svg.encode(), "png": to_png(svg)} if folder else {}
        mime, shown = "image/svg+xml", for_page(svg).encode()
        width, height = (int(n) for n in re.findall(r' (?:width|height)="(\d+)', svg)[:2])
    if folder:
        for kind, data in files.items():
            write_bytes(folder / f"{picture.name}.{kind}", data)
    url = f"data:{mime};base64,{base64.b64encode(shown).decode()}"
    return Embedded(url, width, height, picture.alt, picture.caption)
