"""What a server sees of its clients, by the audit of a run; and whether it tells them apart.

Each search gives its findings in words, one line each; none is what a run with secure sums must
have.
"""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from scipy.stats import chi2_contingency, chisquare

from celeba_fl.common.arrays import Arrays
from celeba_fl.data.schema import ATTRIBUTES

# A run has some thousand statistics; one that is as rare as this by chance is not chance.
RARE = 1e-9
# They say how long a reply took, and which code a client runs.
HARMLESS = {"seconds", "code", "path"}
# Part of two arrays of bytes that may be equal by chance.
SAME = 0.25
HEXADECIMAL = re.compile(r"\b(?:[0-9a-f]{2}){16,}\b")
LOOKED_FOR = 16  # numbers of an array, from the first that is not 0
ATTRIBUTE_AND_VALUE = re.compile(rf"\b({'|'.join(ATTRIBUTES)})\b\W{{0,5}}\d")


@dataclass(frozen=True)
class Seen:
    """A reply as it arrived; JSON that came as an array of bytes is one of the records."""

    exchange: str
    client: str
    said: dict[str, Any]  # the JSON
    arrays: Arrays

    @property
    def where(self) -> str:
        """Its place in the audit."""
        return f"{self.exchange}/{self.client}"

    @property
    def text(self) -> str:
        """Its records, but for what is harmless."""
        records = self.said.get("records", {}).items()
        kept = {
            name: {key: value for key, value in record.items() if key not in HARMLESS}
            for name, record in records
        }
        return json.dumps(kept)

    @property
    def numbers(self) -> set[int | float]:
        """The numbers in its records that are not 0."""
        found: set[int | float] = set()
        _collect(json.loads(self.text), found)
        return found

    @property
    def data(self) -> Arrays:
        """Its arrays that are not all 0, and the bytes that are written in hexadecimal."""
        found = {name: array for name, array in self.arrays.items() if array.any()}
        written = b"".join(bytes.fromhex(text) for text in HEXADECIMAL.findall(self.text))
        return found | ({"hexadecimal": np.frombuffer(written, np.uint8)} if written else {})


def audit_of(run: Path) -> list[Seen]:
    """All replies of a run, by exchange and client."""
    replies = []
    for path in sorted(run.glob("audit/*/*.json")):
        said, file = json.loads(path.read_text()), path.with_suffix(".safetensors")
        arrays = load_file(file) if file.exists() else {}
        for name in [name for name, array in arrays.items() if array.dtype == np.uint8]:
            with suppress(ValueError):
                said["records"][name] = {"json": json.loads(arrays[name].tobytes())}
                del arrays[name]
        replies.append(Seen(path.parent.name, path.stem, said, arrays))
    assert replies, f"{run} has no audit"
    return replies


def plain_data(audit: Iterable[Seen], plain: Iterable[Seen]) -> list[str]:
    """Where a client's replies show what they have in the `plain` run of the same data.

    Arrays are looked for in all arrays and in hexadecimal, as they are and as numbers of 64 bits;
    numbers among all numbers.
    """
    forms: dict[str, dict[bytes, str]] = {}
    numbers: dict[str, set[int | float]] = {}
    for seen in plain:
        for name, array in seen.arrays.items():
            forms.setdefault(seen.client, {}).update(dict.fromkeys(_forms(array), name))
        numbers.setdefault(seen.client, set()).update(seen.numbers)
    findings = []
    for seen in audit:
        for place, array in seen.data.items():
            hay = array.tobytes()
            found = [what for form, what in forms.get(seen.client, {}).items() if form in hay]
            findings += [f"{seen.where}: {place} has {what}" for what in found]
        told = sorted(seen.numbers & numbers.get(seen.client, set()))
        findings += [f"{seen.where}: its records have {number}" for number in told]
    return findings


def attributes_with_values(text: str) -> list[str]:
    """Names of attributes with a number after them, in a log or an error."""
    return [found[0] for found in ATTRIBUTE_AND_VALUE.finditer(text)]


def unmasked(audit: Iterable[Seen]) -> list[str]:
    """Arrays of clients that are not uniform words of 64 bits, of all clients together."""
    arrays: dict[tuple[str, str], list[np.ndarray]] = {}
    findings = []
    for seen in audit:
        for name, array in seen.data.items():
            if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
                arrays.setdefault((seen.exchange, name), []).append(array.ravel())
            elif name in seen.arrays:
                findings.append(f"{seen.where}: {name} holds {array.dtype}, not words of 64 bits")
    for (exchange, name), words in arrays.items():
        if (chance := uniformity(np.concatenate(words))) < RARE:
            findings.append(f"{exchange}: {name} is not uniform (p = {chance:.1g})")
    return findings


def told_apart(audit: Iterable[Seen], other: Iterable[Seen]) -> list[str]:
    """Replies of two runs, in the same places, that a statistic tells apart, or that are equal."""
    others = {seen.where: seen for seen in other}
    findings = []
    for seen in audit:
        where, twin = seen.where, others[seen.where]
        if HEXADECIMAL.sub("", seen.text) != HEXADECIMAL.sub("", twin.text):
            findings.append(f"{where}: its records say {seen.text}, and {twin.text} in the other")
        for name, array in seen.data.items():
            again = twin.data.get(name, np.zeros(0))
            if array.shape != again.shape or array.dtype != again.dtype:
                findings.append(f"{where}: {name} has another form")
            elif (array == again).mean() > SAME:
                findings.append(f"{where}: {name} is the same in both")
            elif (chance := homogeneity(array, again)) < RARE:
                findings.append(f"{where}: {name} is distributed otherwise (p = {chance:.1g})")
    return findings


def uniformity(words: np.ndarray) -> float:
    """The chance that uniform words are as uneven as these: chi-square over the bytes.

    Each of a word's 8 bytes is judged by itself, if there are enough words; the rarest counts.
    """
    table = words.astype("<u8").view(np.uint8).reshape(-1, 8)
    columns = [*table.T] if len(table) >= 256 * 5 else [table.ravel()]
    chances = [chisquare(np.bincount(column, minlength=256)).pvalue for column in columns]
    return float(min(1.0, min(chances) * len(chances)))


def homogeneity(one: np.ndarray, other: np.ndarray) -> float:
    """The chance that arrays of one distribution have bytes that differ as much as these do."""
    data = (np.frombuffer(array.tobytes(), np.uint8) for array in (one, other))
    counts = np.array([np.bincount(of, minlength=256) for of in data])
    counts = counts[:, counts.any(axis=0)]
    return float(chi2_contingency(counts).pvalue) if counts.shape[1] > 1 else 1.0


def _forms(array: np.ndarray) -> set[bytes]:
    """The beginning of an array, as bytes that can be looked for; none if chance could have it."""
    values = array.ravel()
    first = int(np.flatnonzero(values)[0]) if values.any() else 0
    piece = values[first : first + LOOKED_FOR]
    forms = (piece.astype(kind) for kind in (array.dtype, np.int64, np.float64))
    return {form.tobytes() for form in forms if np.count_nonzero(form) >= 4}


def _collect(value: Any, found: set[int | float]) -> None:
    """Add the numbers in a JSON value that are not 0."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            _collect(one, found)
    elif type(value) in (int, float) and value:
        found.add(value)
