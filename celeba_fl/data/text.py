"""Text files that others have written: one way to read them, whatever saved them.

A file may be UTF-8, or UTF-16 with its byte order mark, as spreadsheets write it. In a table, cells
end at commas, semicolons or tabs, whichever the first line has most of.
"""

import codecs
import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from celeba_fl.common.errors import InputError

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
DELIMITERS = ",;\t"
WHOLE = np.iinfo(np.int32)
# How a split is written in the names of files and folders.
SPLIT_WORDS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid"}
SPLIT_WORDS |= {"dev": "valid", "test": "test"}
# What people call a column that is known here by another name.
SYNONYMS = {
    "split": ("partition", "evalpartition", "set", "subset", "fold", "phase", "usage"),
    "celeb_id": ("identity", "person", "personid", "subject", "subjectid", "patientid", "patient"),
}


def read_text(path: Path) -> str:
    """The text of a file, without its byte order mark.

    Raises
    ------
    InputError
        If it is in another encoding, or no file.
    """
    if path.exists() and not path.is_file():  # such as a pipe, which would be waited for
        raise InputError(f"{path}: should be a file, and is something else")
    with path.open("rb") as file:
        data = file.read()
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
        wrong = -1 if "\0" not in text else data.find(b"\0")
    except UnicodeDecodeError as error:
        wrong = error.start
    if wrong >= 0:
        seems = "UTF-16 without its mark, or no text" if b"\0" in data else "cp1252 or the like"
        raise InputError(
            f"{path}, line {data.count(10, 0, wrong) + 1}: is not in the encoding "
            f"{encoding.upper()} (it seems to be {seems}); save the file as UTF-8"
        )
    return text


def read_lines(path: Path) -> list[str]:
    """The lines of a file; empty ones at its end do not count."""
    return [line.rstrip("\r") for line in read_text(path).rstrip().split("\n")]


@dataclass(frozen=True)
class Cells:
    """A table of text: `columns`, `rows` of as many cells each, and the lines they are on."""

    path: Path
    columns: list[str]
    rows: list[list[str]]
    lines: list[int]

    def __getitem__(self, column: str) -> list[str]:
        """All cells of a column."""
        place = self.columns.index(column)
        return [row[place] for row in self.rows]

    def check_columns(self, needed: tuple[str, ...], known: tuple[str, ...] = ()) -> None:
        """Raise InputError if a column is missing, or one that is not known seems to be meant."""
        for column in self.columns:
            meant = meant_by(column, (*needed, *known))
            if meant and meant != column:
                raise InputError(
                    f"{self.path}, line 1: column {column!r} seems to mean {meant!r}, and would "
                    f"not be read; rename it to that, or to what is unlike any column known here"
                )
        missing = [name for name in needed if name not in self.columns]
        if missing:
            raise InputError(
                f"{self.path} lacks the columns {', '.join(missing)}; there should be "
                f"{', '.join(needed[:3])} and so on, {len(needed)} in all"
            )


def read_cells(path: Path) -> Cells:
    """Read a file of delimited cells under a line of names.

    Raises
    ------
    InputError
        If it is in another encoding, a name is there twice, or a row has more or fewer cells.
    """
    text = read_text(path)
    delimiter = max(DELIMITERS, key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        columns = [name.strip() for name in next(reader, [])]
        for row in reader:
            if row:
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: is no row of a table: {error}") from None
    name, times = next(iter(Counter(columns).most_common(1)), ("", 0))
    if times > 1:
        raise InputError(f"{path}, line 1: names the column {name!r} {times} times; once is right")
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(columns):
            raise InputError(
                f"{path}, line {line}: has {len(row)} cells; there should be {len(columns)}, as "
                f"there are columns in line 1"
            )
    return Cells(path, columns, rows, lines)


def meant_by(column: str, known: tuple[str, ...]) -> str | None:
    """The known name that a column's name is, or nearly is; None if it is unlike all of them."""
    if column in known:
        return column
    plain = {_plain(name): name for name in known}
    for name in known:
        plain.update(dict.fromkeys(SYNONYMS.get(name, ()), name))
    near = get_close_matches(_plain(column), plain, n=1, cutoff=0.8)
    return plain[near[0]] if near else None


def whole_number(text: str) -> int | None:
    """The number that a text is, if it is whole and fits into 32 bits; else None."""
    if not re.fullmatch("-?[0-9]{1,10}", text):
        return None
    number = int(text)
    return number if WHOLE.min <= number <= WHOLE.max else None


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.casefold())
