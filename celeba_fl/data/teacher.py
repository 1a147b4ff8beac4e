"""A teacher: labels from elsewhere for the train images, such as a stronger model's answers.

Its file has a row for each question that was asked, an attribute of an image; `celeba-fl teach`
writes it. A simulated teacher is wrong in a given share of its answers.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import hash_file, hash_key, keep, stamp_key
from celeba_fl.common.keys import split_names
from celeba_fl.common.log import LOG
from celeba_fl.data.draws import uniform
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.data.table import Table

COLUMNS = ("image", "attribute", "value", "confidence")
VALUES = {"1": 1, "0": 0, "": -1}
UNSURE, UNASKED = -1, -2
# Apart from the keys of other choices by the content of an image.
SIMULATED = 2**62

Answers = NDArray[np.int8]


class Teacher:
    """A teacher of the images of a table: ``simulated``, or a file of its answers.

    Those are kept in ``home/teachers`` once the file was read; an answer below `confidence` counts
    as none. A simulated teacher has a share of `errors` for each of `ATTRIBUTES`, other ones by
    another seed.

    Raises
    ------
    InputError
        If the file is not there, is not of the form above, or is of other images.
    """

    def __init__(
        self,
        name: str,
        table: Table,
        home: Path,
        *,
        confidence: float,
        errors: Sequence[float],
        seed: int,
    ) -> None:
        self.table, self.seed, self.errors = table, seed, np.array(errors)
        self._answers: Answers | None = None
        if name != "simulated":
            path = Path(name).expanduser()
            if not path.is_file():
                raise InputError(
                    f"teacher = {name!r}: no such file; celeba-fl teach writes one, and "
                    f"'simulated' needs none"
                )
            key = hash_key(stamp_key([path]), table.fingerprint, confidence)
            parse = partial(_parse, path, table, confidence)
            self._answers = np.load(keep(home / "teachers" / f"{key}.npy", parse), mmap_mode="r")

    def __call__(self, rows: np.ndarray) -> Answers:
        """Answers for some images, (k, attributes): 1, 0, `UNSURE` or `UNASKED`."""
        if self._answers is not None:
            return np.asarray(self._answers[rows])
        content = self.table.content[rows]
        keys = [self.seed + SIMULATED + i * 2**32 for i in range(len(ATTRIBUTES))]
        chance = np.stack([uniform(content, key) for key in keys], axis=1)
        return (self.table.labels[rows] ^ (chance < self.errors)).astype(np.int8)


def error_rates(text: str) -> tuple[float, ...]:
    """The error rate of a simulated teacher for each of `ATTRIBUTES`, from `teacher-error`.

    Raises
    ------
    InputError
        If the text is not of the form ``0.1`` or ``0.1, Bald=0.02``.
    """
    rates: dict[str, float] = {}
    for part in split_names(text):
        name, _, number = (word.strip() for word in part.rpartition("="))
        try:
            rate = float(number)
        except ValueError:
            rate = math.nan
        if name not in ("", *ATTRIBUTES) or name in rates or not 0 <= rate <= 1:
            raise InputError(
                f"teacher-error = {text!r}: {part!r} should be a rate from 0 to 1, such as 0.1 for "
                f"all attributes, or one for an attribute, Bald=0.02; each once"
            )
        rates[name] = rate
    return tuple(rates.get(name, rates.get("", 0.0)) for name in ATTRIBUTES)


def teacher_provenance(name: str) -> dict[str, str]:
    """Record of a teacher for `run.json`: its name, and the SHA-256 (hex) of a file."""
    path = Path(name).expanduser()
    file = {"sha256": hash_file(path)} if name != "simulated" and path.is_file() else {}
    return {"name": name, **file}


def _parse(path: Path, table: Table, least: float, kept: Path) -> None:
    """Write the answers to the images of a table, (n, attributes) int8, as a NumPy file."""
    LOG.info("Reading the answers of the teacher, %s, once", path)
    row_of = {name: row for row, name in enumerate(table.image.tolist())}
    column_of = {name: column for column, name in enumerate(ATTRIBUTES)}
    answers = np.full((len(table), len(ATTRIBUTES)), UNASKED, np.int8)
    others = 0
    for number, row in _lines(path):
        image, attribute, value, confidence = row
        try:
            sure = float(confidence or 1)
            place = row_of.get(image, -1), column_of[attribute]
            answer = VALUES[value] if sure >= least else UNSURE
            if not 0 <= sure <= 1:
                raise ValueError
        except (KeyError, ValueError) as error:
            raise InputError(
                f"{path}, line {number}: {row} should be an image, an attribute of CelebA, a value "
                f"(1, 0, or empty for unsure) and a confidence (0 to 1, or empty)"
            ) from error
        if place[0] < 0:
            others += 1
        elif answers[place] != UNASKED:
            raise InputError(f"{path}, line {number}: a second answer for {attribute} of {image}")
        else:
            answers[place] = answer
    if (answers == UNASKED).all():
        raise InputError(f"{path} has no answer for any image of {table.name}")
    if others:
        LOG.warning("%s has %d answers for images that are not in %s", path, others, table.name)
    with kept.open("wb") as file:
        np.save(file, answers)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows after the header, with the number of their line."""
    with path.open(newline="", encoding="utf-8-sig") as file:  # too long to be held as a whole
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            if header != [*COLUMNS]:
                raise InputError(f"{path}, line 1: should be {','.join(COLUMNS)}, not {header}")
            for row in reader:
                if len(row) != len(COLUMNS):
                    raise InputError(f"{path}, line {reader.line_num}: {row} should have 4 cells")
                yield reader.line_num, row
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path}, after line {reader.line_num}: {error}") from error
