"""What others may read of an error."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from celeba_fl.common.errors import (
    WORDS_LENGTH,
    InputError,
    for_others,
    in_full,
    printable,
    printable_lines,
)

TABLE = Path("/srv/meier/list_attr_celeba.txt")
ROW = "anna meier.jpg -1 1, line 7: x"


def told(fail: Callable[[], object]) -> str:
    """What others read of what `fail` raises."""
    try:
        fail()
    except Exception as error:
        return for_others(error)
    pytest.fail("nothing was raised")


def bad_row() -> None:
    raise InputError(f"{TABLE}, line {3}: {ROW!r} should be a name and 40 of -1, 1")


def bad_cell() -> None:
    names = ["Smiling", "Bald"]
    raise InputError(
        f"{TABLE.with_name('metadata.csv')}: {names[0]} of {ROW} is {'yes'!r}, and should be one "
        f"of {', '.join(names)}"
    )


def bad_image() -> None:
    raise InputError(f"{TABLE.with_name('anna meier.jpg')} cannot be read")


def bad_key() -> None:
    raise InputError(f"node config {ROW}: names no images") from KeyError(ROW)


def bad_library() -> None:
    float(ROW)


def bad_mapping() -> None:
    {}[ROW]


def bad_variable() -> None:
    message = f"{ROW} is bad"
    raise ValueError(message)


def bad_addition() -> None:
    raise ValueError("the row " + ROW)


def bad_name() -> None:
    raise FileNotFoundError(errno.ENOENT, f"no {ROW}", ROW)


def passed_on() -> None:
    try:
        bad_row()
    except InputError as error:
        raise InputError(f"{ROW} cannot be read: {error}") from error


def constant() -> None:
    raise InputError("this client prepares images in another way than the server")


def known() -> None:
    raise InputError(f"min-partition-size = {3} is out of reach", open_to_all=True)


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (bad_row, "list_attr_celeba.txt, line 3: ... should be a name and 40 of -1, 1"),
        (bad_cell, "metadata.csv: ... of ... is ..., and should be one of ..."),
        (bad_image, "... cannot be read"),
        (bad_key, "node config ...: names no images"),
        (bad_name, "No such file or directory"),
        (
            passed_on,
            "... cannot be read: list_attr_celeba.txt, line 3: ... should be a name and 40 of "
            "-1, 1",
        ),
        (constant, "this client prepares images in another way than the server"),
        (known, "min-partition-size = 3 is out of reach"),
    ],
)
def test_the_words_of_the_code_are_told_and_values_are_not(
    fail: Callable[[], object], words: str
) -> None:
    assert told(fail) == words


def test_a_key_of_the_run_has_the_value_that_all_know() -> None:
    def fail() -> None:
        raise InputError(f"teacher = {'/no/such.csv'!r}: no such file; it has {7} rows")

    def read(**known: object) -> str:
        try:
            fail()
        except InputError as error:
            return for_others(error, known)
        return ""

    assert read(teacher="/no/such.csv", rows=7) == (
        "teacher = '/no/such.csv': no such file; it has ... rows"
    )
    assert read(teacher="/another.csv") == "teacher = ...: no such file; it has ... rows"
    assert read() == "teacher = ...: no such file; it has ... rows"


@pytest.mark.parametrize("fail", [bad_library, bad_mapping, bad_variable, bad_addition])
def test_of_any_other_error_the_kind_and_the_place_in_the_code(fail: Callable[[], object]) -> None:
    kind = "KeyError" if fail is bad_mapping else "ValueError"
    assert told(fail).startswith(f"{kind} in test_errors.py, line ")
    assert "meier" not in told(fail)


def test_words_of_others_are_one_line_without_control_characters() -> None:
    assert printable("a\n\x1b[31m b\0\t c\u202e") == "a [31m b c"
    long = printable("x" * 1000 + " KeyError: the end")
    assert long.endswith("the end")
    assert len(long) == WORDS_LENGTH + 4
    assert printable(None) == "None"


def test_in_full_an_error_says_where_it_came_from_unless_its_words_do() -> None:
    def caught(error: Exception) -> Exception:
        def raise_() -> None:
            raise error

        try:
            raise_()
        except Exception as one:
            return one
        return error

    assert in_full(caught(InputError("key = 3: too much"))) == "key = 3: too much"
    words = in_full(caught(RuntimeError("no power")))
    first, *_, last = words.splitlines()
    assert (first, last) == ("no power", "RuntimeError: no power")
    assert ", in raise_\n" in words
    assert ", in caught\n" not in words  # which caught it
    assert in_full(KeyError()).splitlines()[0] == "KeyError()"


def test_lines_of_others_are_short_few_and_printable() -> None:
    words = "\n".join(["first", *["x" * 999] * 70, "la\x1b[31mst "])
    lines = printable_lines(words).splitlines()
    assert (len(lines), max(map(len, lines)), lines[-1]) == (60, 304, "    la [31mst")
    assert all(line.startswith("    ") for line in lines[1:])  # like none of a log
