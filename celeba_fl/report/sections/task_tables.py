"""The CSV tables of a task that no other section shows, whatever they hold."""

import re

from celeba_fl.report.html import Block, Table
from celeba_fl.report.reading import Rows, Run
from celeba_fl.report.words import named, sentence

FOLDED_FROM = 20  # rows
MOST = 300  # rows that are shown
NUMBER = re.compile(r"(?:[-+]?\d*((?:\.\d+)?(?:[eE][-+]?\d+)?)|nan|-?inf)")  # or nothing


def task_tables(run: Run) -> list[Block]:
    """Each table of a task, with the name of its file as heading."""
    return [_table(name, rows) for name, rows in run.tables.items() if rows]


def _table(name: str, rows: Rows) -> Table:
    caption = sentence(named(name))
    if len(rows) > MOST:
        caption += f": the first {MOST} of {len(rows):,} rows of {name}.csv"
    header = list(rows[0])
    shown = rows[:MOST]
    return Table(
        caption,
        [named(key) for key in header],
        [tuple(_cell(row[key]) for key in header) for row in shown],
        folded=len(rows) > FOLDED_FROM,
        texts=[
            i
            for i, key in enumerate(header)
            if not all(NUMBER.fullmatch(row[key]) for row in shown)
        ],
    )


def _cell(text: str) -> str:
    """A number that is not whole with four digits; all else as it is."""
    number = NUMBER.fullmatch(text)
    return f"{float(text):.4g}" if number and number[1] else text
