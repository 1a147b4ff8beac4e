"""What a client may be asked for under a privacy budget."""

import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.privacy.gate import check_asked


@pytest.mark.parametrize(
    ("kind", "sums", "unit"),
    [
        ("train", False, "person"),  # a model that is trained has no noise in it
        ("train", False, "image"),
        ("train", True, "client"),
        ("evaluate", False, "person"),
        ("evaluate", False, "client"),
    ],
)
def test_nobody_is_asked_for_what_no_ledger_counts(kind: str, sums: bool, unit: str) -> None:
    with pytest.raises(InputError, match=f"{kind}: under a privacy budget"):
        check_asked(kind, sums, unit)


def test_what_is_counted_may_be_asked_for() -> None:
    check_asked("query", sums=False, unit="person")
    check_asked("train", sums=True, unit="image")
    check_asked("train", sums=False, unit="client")
