"""Keys: declared once, with type, range, default and meaning."""

from dataclasses import dataclass
from typing import Any

import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.common.keys import Key, declared_keys, key


def test_keys_of_a_dataclass_and_its_parents_by_their_names() -> None:
    @dataclass(frozen=True)
    class Parent:
        first: int = key("one", 1)

    @dataclass(frozen=True)
    class Child(Parent):
        second_key: float = key("two", 0.5, low=0, high=1)

    assert declared_keys(Child) == {
        "first": Key("one", 1),
        "second-key": Key("two", 0.5, low=0, high=1),
    }


def test_a_key_that_is_not_declared_by_key_is_named() -> None:
    @dataclass(frozen=True)
    class Plain:
        width: int = 3

    with pytest.raises(InputError, match=r"Plain\.width: must be declared as in 'width: int = key"):
        declared_keys(Plain)


def test_a_key_whose_default_is_of_another_type_is_named() -> None:
    @dataclass(frozen=True)
    class Wrong:
        rate: float = key("a rate", 1)

    with pytest.raises(InputError, match=r"Wrong\.rate: .* with a default of its type"):
        declared_keys(Wrong)


def test_a_class_without_the_decorator_is_named() -> None:
    @dataclass(frozen=True)
    class Parent:
        first: int = key("one", 1)

    class Child(Parent):
        second: int = key("two", 2)

    with pytest.raises(InputError, match=r"Child: needs @dataclass\(frozen=True\) .*'second'"):
        declared_keys(Child)


@pytest.mark.parametrize(
    ("rules", "right", "wrong"),
    [
        (Key("k", 1.0, above=0, below=1), 0.5, 1.0),
        (Key("k", 1, low=1), 1, 0),
        (Key("k", "a", choices=("a", "b")), "b", "c"),
        (Key("k", "", empty=True), "", 1),
        (Key("k", "a"), "b", ""),
        (Key("k", False), True, 1),
    ],
)
def test_values_in_and_out_of_range(rules: Key, right: Any, wrong: Any) -> None:
    rules.check("name", right)
    with pytest.raises(InputError, match=f"^name = {wrong!r}: must be "):
        rules.check("name", wrong)
