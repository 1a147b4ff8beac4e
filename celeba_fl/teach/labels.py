"""The file of a teacher's labels: 40 rows for each image, written at once, so it can be resumed.

Beside ``labels.csv`` stands ``labels.csv.json``, which says who labelled: labels of two teachers
must not be mixed.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import append_bytes, make_folder, write_json
from celeba_fl.common.log import LOG
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.data.teacher import COLUMNS
from celeba_fl.teach.questions import Answer

HEADER = f"{','.join(COLUMNS)}\n".encode()


class LabelFile:
    """A teacher's labels on the disk; a context manager, of one process at a time.

    The file is created if it does not exist; else it must be by the same teacher. An image that a
    killed process has half written is removed. `done` holds the images that are labelled.

    Raises
    ------
    InputError
        If the file is by another teacher, is not such a file, is damaged, or is in use.
    """

    def __init__(self, path: Path, teacher: Mapping[str, Any]) -> None:
        self.path = path
        self.done: set[str] = set()
        self._lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
        try:
            make_folder(path.parent)
            self._lock.acquire()
        except Timeout:
            raise InputError(f"{path}: another process is labelling into it") from None
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error}") from error
        try:
            self._open(teacher)
        except BaseException as error:
            self._lock.release()
            if isinstance(error, OSError):
                raise InputError(f"{path} cannot be read or written: {error}") from error
            raise

    def __enter__(self) -> "LabelFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _open(self, teacher: Mapping[str, Any]) -> None:
        path = self.path
        beside = path.with_name(f"{path.name}.json")
        try:
            owner = json.loads(beside.read_text()) if beside.exists() else None
        except ValueError as error:
            raise InputError(f"{beside} is not JSON: {error}") from error
        content = path.read_bytes() if path.exists() else b""
        if owner is None:
            if content:
                raise InputError(
                    f"{path} is there, and {beside} does not say who labelled it; give another "
                    f"file in --out"
                )
            write_json(beside, dict(teacher))
        elif owner != teacher:
            differ = {key: owner.get(key) for key in teacher if owner.get(key) != teacher[key]}
            raise InputError(
                f"{path} is labelled by another teacher: {differ or owner}, now "
                f"{ {key: teacher[key] for key in differ} or dict(teacher) }; give another file in "
                f"--out, or the same settings as then"
            )
        whole = self._whole(content)
        if whole < len(content):
            LOG.info("%s: took off %d bytes half written", path, len(content) - whole)
        if content:
            with path.open("r+b") as file:  # which also tells now whether it can be written
                file.truncate(whole)
        if not whole:
            append_bytes(path, HEADER)

    def append(self, image: str, answers: Sequence[Answer]) -> None:
        """Write the labels of an image; InputError if that fails, and those before are kept."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        for attribute, answer in zip(ATTRIBUTES, answers, strict=True):
            confidence = "" if answer.confidence is None else f"{answer.confidence:g}"
            rows.writerow([image, attribute, answer.value, confidence])
        try:
            append_bytes(self.path, text.getvalue().encode())
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error}") from error
        self.done.add(image)

    def _whole(self, content: bytes) -> int:
        """Number of bytes that hold complete images, whose names go into `done`."""
        lines = content.splitlines(keepends=True)
        if not lines or HEADER.startswith(content):
            return len(HEADER) * (content == HEADER)
        if lines[0] != HEADER:
            raise InputError(f"{self.path}: its first line must be {','.join(COLUMNS)}")
        if not lines[-1].endswith(b"\n"):
            lines.pop()
        size = len(HEADER)
        for start in range(1, len(lines), len(ATTRIBUTES)):
            block = lines[start : start + len(ATTRIBUTES)]
            try:
                rows = list(csv.reader(line.decode() for line in block))
            except (UnicodeDecodeError, csv.Error):
                rows = []
            image = rows[0][0] if rows and rows[0] else ""
            if [row[:2] for row in rows] != [[image, name] for name in ATTRIBUTES[: len(block)]]:
                raise InputError(
                    f"{self.path}, from line {start + 1}: must be the {len(ATTRIBUTES)} attributes "
                    f"of one image, as celeba-fl teach writes them"
                )
            if len(block) == len(ATTRIBUTES):
                self.done.add(image)
                size += sum(map(len, block))
        return size
