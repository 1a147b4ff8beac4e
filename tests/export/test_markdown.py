"""Sections of a report as Markdown."""

import io
from pathlib import Path

from PIL import Image

from celeba_fl.export.markdown import section
from celeba_fl.report.html import Cards, Picture, Pictures, Table


def test_a_section_keeps_its_texts_tables_and_pictures(tmp_path: Path) -> None:
    with io.BytesIO() as png:
        Image.new("RGB", (2, 3)).save(png, "PNG")
        picture = Picture("dots", "Dots.", "Two dots.", png.getvalue())
    table = Table("Rates", ("group", "rate"), [("Male=1", ("0.5", "[0.4, 0.6]"))])
    folded = Table("More", ("a",), [("1",)], folded=True)
    blocks = ["It *is*.", Cards([("a", "1", "")]), table, folded, Pictures([picture])]
    assert section(blocks, tmp_path) == (
        "It \\*is\\*.\n\n"
        "**Rates**\n\n| group | rate |\n| --- | --- |\n| Male=1 | 0.5 \\[0.4, 0.6] |\n\n"
        "<details>\n<summary>More</summary>\n\n| a |\n| --- |\n| 1 |\n\n</details>\n\n"
        "![Dots.](pictures/dots.png)\n\n*Two dots.*"
    )
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["dots.png"]


def test_names_cannot_break_a_table_or_become_html(tmp_path: Path) -> None:
    table = Table("T", ("<b>",), [("a|b\nc",)])
    assert section([table], tmp_path).endswith("| \\<b> |\n| --- |\n| a\\|b c |")
