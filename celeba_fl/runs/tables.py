"""Tables as files: CSV and parquet, written whole and read up to the last whole row."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from celeba_fl.common.errors import encodable
from celeba_fl.common.files import write_bytes

# A cell that begins so is a formula to a spreadsheet, or looks like one that has been quoted.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a whole CSV file; undefined values are empty cells."""
    write_bytes(path, csv_text(rows, header=True).encode())


def write_parquet(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write a parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table({key: _to_arrow(column) for key, column in columns.items()}), sink)
    write_bytes(path, sink.getvalue().to_pybytes())


def _to_arrow(column: np.ndarray) -> Any:
    """A column as it is in memory, if it is of texts, booleans or numbers.

    Before `pa.array` makes an array it imports pandas, which takes longer than writing the file.
    """
    import pyarrow as pa

    if column.dtype.kind not in "Ubiuf":
        return pa.array(column)
    kind = pa.from_numpy_dtype(column.dtype)
    parts: list[Any] = [column]
    if column.dtype.kind == "U":
        texts = [text.encode() for text in column.tolist()]
        parts = [np.cumsum([0, *map(len, texts)], dtype=np.int32), b"".join(texts)]
    elif column.dtype == bool:
        parts = [np.packbits(column, bitorder="little")]
    buffers = [pa.py_buffer(np.ascontiguousarray(part)) for part in parts]
    return pa.Array.from_buffers(kind, len(column), [None, *buffers])


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, empty without one; a row cut off by a kill is left out.

    So are zeros, which a power cut can leave in the place of rows.
    """
    whole = _whole_lines(path)
    rows = csv.DictReader(io.StringIO(whole))
    if "'" not in whole:  # nothing is quoted
        return list(rows)
    return [{_plain(key): _plain(cell) for key, cell in row.items()} for row in rows]


def count_rows(path: Path) -> int:
    """The number of rows of a CSV file of numbers alone, as `read_csv` would read them."""
    return max(_whole_lines(path).count("\n") - 1, 0)


def _whole_lines(path: Path) -> str:
    """The text of a file, empty without one, up to the last line that was written whole."""
    text = path.read_text(encoding="utf-8").partition("\0")[0] if path.exists() else ""
    return text[: text.rfind("\n") + 1]


def csv_text(rows: Iterable[Mapping[str, Any]], header: bool) -> str:
    """Rows as CSV; undefined values are empty cells, and floats keep all their digits."""
    rows = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    if header:
        writer.writerow({key: _quoted(key) for key in writer.fieldnames})
    writer.writerows({key: _quoted(defined(cell)) for key, cell in row.items()} for row in rows)
    return encodable(text.getvalue())


def columns_of(path: Path) -> list[str]:
    """The columns of a CSV file, from its first line."""
    with path.open(newline="", encoding="utf-8") as file:
        return [_plain(name) for name in next(csv.reader(file), [])]


def _quoted(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _plain(cell: Any) -> Any:
    """Undo `_quoted`."""
    quoted = isinstance(cell, str) and cell.startswith("'") and cell[1:].startswith(FORMULA)
    return cell[1:] if quoted else cell


def defined(value: Any) -> Any:
    """A plain Python value, None for NaN."""
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and math.isnan(plain) else plain
