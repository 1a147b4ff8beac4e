"""What a page says, for tests: its text, its tables and what it refers to."""

from html.parser import HTMLParser
from pathlib import Path


class PageParser(HTMLParser):
    """Collects cells, tags and links of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._rows: list[list[str]] = []
        self._hidden = False
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        self._hidden = tag == "style"
        if tag == "div" and values.get("role") == "region":
            self._rows = self.tables.setdefault(str(values["aria-label"]), [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag == "small":
            self._rows[-1][-1] += " "

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False
        if tag == "table":
            self._rows = []

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data
        if self._rows and self._rows[-1]:
            self._rows[-1][-1] += data.strip()

    def table(self, caption: str) -> list[list[str]]:
        """The cells of the table whose caption has this in it, header first."""
        (found,) = (rows for name, rows in self.tables.items() if caption in name)
        return found

    def row(self, caption: str, name: str) -> list[str]:
        """The cells after the name of a row."""
        (found,) = (row[1:] for row in self.table(caption) if row[0] == name)
        return found


def check_page(page: PageParser) -> None:
    """What holds for every page: nothing is fetched, no script, and all can read it."""
    for tag, attributes in page.tags:
        for key in ("src", "href", "srcset", "data", "action", "poster"):
            target = attributes.get(key)
            assert target is None or target.startswith(("data:", "#")), (tag, target)
        assert tag not in ("script", "iframe", "object")
        assert not [key for key in attributes if key.startswith("on")]
        if tag == "img":
            assert attributes["alt"]
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
    assert "url(" not in page.source
    assert "@import" not in page.source
    names = [tag for tag, _ in page.tags]
    assert names.count("h1") == names.count("main") == 1
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
