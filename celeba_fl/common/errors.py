"""The one error that users can correct themselves, and what of any error others may read."""

import ast
import linecache
import os
import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

# Files whose names say nothing of an image or a person.
TABLES = {".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".safetensors"}
# Of what others say, so many characters are shown.
WORDS_LENGTH = 300
# Of where an error came from, so many lines.
MOST_LINES = 60


class InputError(ValueError):
    """An input is at fault; the message names it, its value, and what would be right.

    Whoever owns the input reads the whole message, others what `for_others` leaves of it. An error
    whose values are known to all, such as keys of the run, says so by `open_to_all`.
    """

    def __init__(self, message: str, *, open_to_all: bool = False) -> None:
        super().__init__(encodable(message))
        self.open_to_all = open_to_all


class OwnError(RuntimeError):
    """Something here fails, such as a full disk: no client's fault, so the run ends by it."""


def encodable(text: str) -> str:
    """The text with escapes for what no UTF-8 can say, such as a byte of a foreign file name."""
    return text.encode(errors="backslashreplace").decode()


def printable(words: object) -> str:
    """Words of others on one line, without control characters; of long ones the end."""
    shown = "".join(c if c.isprintable() else " " for c in str(words))
    line = " ".join(shown.split())
    return line if len(line) <= WORDS_LENGTH else f"... {line[-WORDS_LENGTH:]}"


def in_full(error: BaseException) -> str:
    """What whoever owns the data reads of an error: its message, and mostly where it came from.

    An `InputError` says what is at fault by itself. The frame that caught the error is left out.
    """
    if isinstance(error, InputError):
        return str(error)
    trace = error.__traceback__
    inner = trace and (trace.tb_next or trace)
    lines = "".join(traceback.format_exception(type(error), error, inner)).rstrip()
    return f"{str(error) or repr(error)}\n{lines}"


def printable_lines(words: str) -> str:
    """Lines of others without control characters; of many the last ones, of long ones the start."""
    shown = ("".join(c if c.isprintable() else " " for c in line) for line in words.splitlines())
    lines = [line.rstrip()[:WORDS_LENGTH] for line in shown][-MOST_LINES:]
    return "\n    ".join(lines)  # indented, no line looks like one of a log


def for_others(error: BaseException, known: Mapping[str, object] | None = None) -> str:
    """What whoever does not own the data may read of an error: its kind, and its place in a file.

    A message is made of words that stand in the code and of values, and a value may be a person's
    name or a row of labels. So values are left out, but for the name of a table, a line number, and
    those of the `known` keys, as in ``key = value``.
    """
    if isinstance(error, InputError) and error.open_to_all:
        return str(error)
    if isinstance(error, OSError) and isinstance(error.errno, int):
        return os.strerror(error.errno)
    file, line = _raised_at(error.__traceback__)
    template, kind = _template(file, line), type(error).__name__
    if not any(template):
        return f"{kind} in {Path(file).name}, line {line} of the code"
    words = _filled(template, error, known or {})
    return words if isinstance(error, InputError) else f"{kind}: {words}"


def _raised_at(trace: TracebackType | None) -> tuple[str, int]:
    """File and line of the code at the inner end of a traceback."""
    if trace is None:
        return "", 0
    while trace.tb_next:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename, trace.tb_lineno


def _template(file: str, line: int) -> list[str]:
    """The message in the ``raise`` at a line of code, in parts; a value is an empty one."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return []
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.lineno <= line <= (node.end_lineno or 0):
            arguments = node.exc.args[:1] if isinstance(node.exc, ast.Call) else []
            for first in arguments:
                parts = first.values if isinstance(first, ast.JoinedStr) else [first]
                return [_words(part) for part in parts]
    return []


def _words(part: ast.expr) -> str:
    return part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else ""


def _filled(template: list[str], error: BaseException, known: Mapping[str, object]) -> str:
    """The words of a template, with as much of an error's values as others may read."""
    message, cause = str(error), error.__cause__ or error.__context__
    pattern = "".join(re.escape(part) or "(.*?)" for part in template)
    found = re.fullmatch(pattern, message, re.DOTALL)
    values = list(found.groups()) if found else []
    said = ""
    for part in template:
        value = values.pop(0) if values and not part else ""
        if value and value == str(cause):
            said += for_others(cause, known)  # type: ignore[arg-type]
        else:
            said += part or _tellable(value, said, known)
    return said


def _tellable(value: str, before: str, known: Mapping[str, object]) -> str:
    """A value, after the words before it, as others may read it; else dots."""
    key = re.search(r"([\w-]+) = $", before)
    if key and key[1] in known and value in (str(known[key[1]]), repr(known[key[1]])):
        return value
    if before.endswith("line ") and re.fullmatch("[0-9]{1,12}", value):
        return value
    path = Path(value)
    if not before and path.is_absolute() and path.suffix in TABLES and path.name.isprintable():
        return path.name
    return "..."
