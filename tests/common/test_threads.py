"""PyTorch's threads, with a module in its place that notes what it is told."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from celeba_fl.common.threads import one_thread


@pytest.fixture
def set_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[int]]:
    """A module called torch that can be imported; gives the numbers of threads that it was set to.

    None if it has not been imported.
    """
    (tmp_path / "torch.py").write_text(
        "numbers = []\ndef set_num_threads(number):\n    numbers.append(number)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    return lambda: sys.modules["torch"].numbers


def test_an_import_in_between_is_followed_by_one_thread(set_to: Callable[[], list[int]]) -> None:
    with one_thread():
        import torch  # noqa: F401

        assert set_to() == [1]
    assert set_to() == [1]


def test_what_is_imported_already_is_set_at_once(set_to: Callable[[], list[int]]) -> None:
    import torch  # noqa: F401

    assert set_to() == []
    with one_thread():
        assert set_to() == [1]


def test_where_there_is_one_thread_nothing_is_set_again(set_to: Callable[[], list[int]]) -> None:
    import torch  # noqa: F401

    with one_thread():
        with one_thread():
            pass
        assert set_to() == [1]
    with one_thread():
        assert set_to() == [1, 1]


def test_nothing_is_imported_and_nothing_stays_behind(set_to: Callable[[], list[int]]) -> None:
    finders = list(sys.meta_path)
    with one_thread():
        assert "torch" not in sys.modules
    assert sys.meta_path == finders
    import torch  # noqa: F401

    assert set_to() == []


def test_an_error_leaves_nothing_behind(set_to: Callable[[], list[int]]) -> None:
    finders = list(sys.meta_path)
    with pytest.raises(RuntimeError, match="no power"), one_thread():
        raise RuntimeError("no power")
    assert sys.meta_path == finders
