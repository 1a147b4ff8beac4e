"""Sections of a report as Markdown, their pictures as files."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from celeba_fl.report.html import Block, Cards, Cell, Picture, Pictures, Table
from celeba_fl.report.plots import embed

PICTURES = "pictures"


def section(blocks: Iterable[Block], folder: Path) -> str:
    """Paragraphs, tables and pictures; the PNG files go to ``folder/pictures``."""
    return "\n\n".join(filter(None, (_block(block, folder) for block in blocks)))


def _block(block: Block, folder: Path) -> str:
    if isinstance(block, str):
        return plain(block)
    if isinstance(block, Pictures):
        return "\n\n".join(_picture(picture, folder) for picture in block.pictures)
    return "" if isinstance(block, Cards) else _table(block)


def _picture(picture: Picture, folder: Path) -> str:
    file = f"{PICTURES}/{picture.name}.png"
    embed(picture, folder / PICTURES, png=True)
    (folder / file).with_suffix(".svg").unlink(missing_ok=True)
    return f"![{plain(picture.alt)}]({file})\n\n*{plain(picture.caption)}*"


def _table(table: Table) -> str:
    """A table below its caption; one that a page folds is folded here too."""
    lines = [_row(table.header), _row(["---"] * len(table.header)), *map(_row, table.rows)]
    text = "\n".join(lines)
    if table.folded:
        return f"<details>\n<summary>{plain(table.caption)}</summary>\n\n{text}\n\n</details>"
    return f"**{plain(table.caption)}**\n\n{text}"


def _row(cells: Sequence[Cell]) -> str:
    texts = (cell if isinstance(cell, str) else " ".join(filter(None, cell)) for cell in cells)
    return "| " + " | ".join(map(plain, texts)) + " |"


def plain(text: str) -> str:
    """Text in which no character means anything to Markdown or HTML."""
    for mark in "\\|*_<`[":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")
