"""The hash of the code that runs, ours and that of someone's own task."""

import hashlib
import importlib
import sys
from pathlib import Path

import pytest

from celeba_fl.common.bundle import PACKAGE, code_description, code_hash, code_path


def test_code_hash_by_hand_and_of_any_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hashed = code_hash.__wrapped__
    monkeypatch.setattr("celeba_fl.common.bundle.PACKAGE", tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.py").write_text("2")
    (tmp_path / "a.py").write_text("1")
    first = hashed()
    assert first == hashlib.sha256(b"a.py1sub/b.py2").hexdigest()
    (tmp_path / "notes.md").write_text("no code")
    assert hashed() == first
    (tmp_path / "sub" / "b.py").write_text("3")
    assert hashed() != first


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with a package, `own_app`, and a module, `own_module`, both imported."""
    (tmp_path / "own_app" / "sub").mkdir(parents=True)
    (tmp_path / "own_app" / "__init__.py").write_text("")
    (tmp_path / "own_app" / "sub" / "task.py").write_text("1")
    (tmp_path / "own_module.py").write_text("2")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own_app", "own_app.sub.task", "own_module"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.import_module(name)
    return tmp_path


def test_the_package_of_a_task_is_hashed_with_ours(own: Path) -> None:
    hashed = code_hash.__wrapped__
    before = hashed("own_app.sub.task")
    assert before not in (hashed(), hashed("own_module"))
    (own / "own_app" / "__init__.py").write_text("# a change outside the task's own module")
    assert hashed("own_app.sub.task") != before


def test_of_a_module_that_stands_alone_its_file_is_hashed(own: Path) -> None:
    hashed = code_hash.__wrapped__
    before = hashed("own_module")
    (own / "own_app" / "__init__.py").write_text("# another package")
    assert hashed("own_module") == before
    (own / "own_module.py").write_text("3")
    assert hashed("own_module") != before


def test_for_tasks_of_ours_nothing_is_added() -> None:
    assert code_hash("celeba_fl.tasks.lenet") == code_hash()
    assert code_path("celeba_fl.tasks.lenet") is None
    assert code_description("celeba_fl.tasks.lenet") == code_description()
    assert set(code_description()) == {"version", "sha256", "path"}


def test_a_module_without_a_file_adds_nothing() -> None:
    assert code_path("builtins") is None
    assert code_hash("builtins") == code_hash()


def test_the_place_of_both_is_told(own: Path) -> None:
    assert code_description("own_app.sub.task") == {
        **code_description(),
        "sha256": code_hash("own_app.sub.task"),
        "path": str(PACKAGE),
        "task_path": str(own / "own_app"),
    }
