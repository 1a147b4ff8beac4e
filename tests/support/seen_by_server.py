"""What a server sees of its clients, by the audit of a run; and whether it tells them apart.

Each search gives its findings in words, one line each; none is what a run with secure sums must
have.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
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
# It says how long a reply took.
HARMLESS = {"seconds"}
LOOKED_FOR = 16  # numbers of an array, from the first that is not 0
ATTRIBUTE_AND_VALUE = re.compile(rf"\b({'|'.join(ATTRIBUTES)})\b\W{{0,5}}\d")


@dataclass(frozen=True)
class Seen:
    """A reply as it arrived."""

    exchange: str
    client: str
    said: dict[str, Any]  # the JSON
    arrays: Arrays

    @property
    def where(self) -> str:
        """Its place in the audit."""
        return f"{self.exchange}/{self.client}"

    def numbers(self) -> Iterator[tuple[str, int | float]]:
        """The numbers in its records, with their keys; those of a list one by one."""
        for record in self.said.get("records", {}).values():
            for key, value in record.items():
                for number in value if isinstance(value, list) else [value]:
                    if type(number) in (int, float) and key not in HARMLESS:
                        yield key, number

    def hexadecimal(self) -> Iterator[str]:
        """The bytes in its records."""
        return (m[1] for m in re.finditer(r'"((?:[0-9a-f]{2}){16,})"', json.dumps(self.said)))


def audit_of(run: Path) -> list[Seen]:
    """All replies of a run, by exchange and client."""
    replies = []
    for path in sorted(run.glob("audit/*/*.json")):
        arrays = path.with_suffix(".safetensors")
        found = load_file(arrays) if arrays.exists() else {}
        replies.append(Seen(path.parent.name, path.stem, json.loads(path.read_text()), found))
    assert replies, f"{run} has no audit"
    return replies


def plain_data(audit: Iterable[Seen], plain: Iterable[Seen]) -> list[str]:
    """Where a client's replies show what they have in the `plain` run of the same data.

    Arrays are looked for in all arrays and in hexadecimal, as they are and as numbers of 64 bits;
    numbers among all numbers.
    """
    forms: dict[str, dict[bytes, str]] = {}
    numbers = set()
    for seen in plain:
        for name, array in seen.arrays.items():
            forms.setdefault(seen.client, {}).update(dict.fromkeys(_forms(array), name))
        numbers |= {(seen.client, number) for _, number in seen.numbers() if number}
    findings = []
    for seen in audit:
        hay = {name: array.tobytes() for name, array in seen.arrays.items()}
        hay["its records"] = b"".join(bytes.fromhex(text) for text in seen.hexadecimal())
        for form, what in forms.get(seen.client, {}).items():
            places = (place for place, data in hay.items() if form in data)
            findings += [f"{seen.where}: {place} has {what}" for place in places]
        told = ((key, n) for key, n in seen.numbers() if (seen.client, n) in numbers)
        findings += [f"{seen.where}: {key} = {number}" for key, number in told]
    return findings


def attributes_with_values(text: str) -> list[str]:
    """Names of attributes with a number after them, in a log or an error."""
    return [found[0] for found in ATTRIBUTE_AND_VALUE.finditer(text)]


def unmasked(audit: Iterable[Seen]) -> list[str]:
    """Arrays of clients that are not uniform words of 64 bits, of all clients together."""
    arrays: dict[tuple[str, str], list[np.ndarray]] = {}
    findings = []
    for seen in audit:
        for name, array in seen.arrays.items():
            if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
                arrays.setdefault((seen.exchange, name), []).append(array.ravel())
            elif array.size:
                findings.append(f"{seen.where}: {name} holds {array.dtype}, not words of 64 bits")
    for (exchange, name), words in arrays.items():
        if (chance := uniformity(np.concatenate(words))) < RARE:
            findings.append(f"{exchange}: {name} is not uniform (p = {chance:.1g})")
    return findings


def told_apart(audit: Iterable[Seen], other: Sequence[Seen]) -> list[str]:
    """Replies of two runs, in the same places, that a statistic tells apart, or that are equal."""
    others = {seen.where: seen for seen in other}
    findings = []
    for seen in audit:
        for name, array in seen.arrays.items():
            twin = others[seen.where].arrays[name]
            if array.shape != twin.shape or array.dtype != twin.dtype:
                findings.append(f"{seen.where}: {name} has another form")
            elif array.size and (array == twin).mean() > 0.01:
                findings.append(f"{seen.where}: {name} is the same in both")
            elif array.size and (chance := homogeneity(array, twin)) < RARE:
                findings.append(f"{seen.where}: {name} is distributed otherwise (p = {chance:.1g})")
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
    if np.count_nonzero(piece) < 4:
        return set()
    return {piece.astype(kind).tobytes() for kind in (array.dtype, np.int64, np.float64)}
