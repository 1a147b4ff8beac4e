"""Clients that are switched off stay off."""

from pathlib import Path

import pytest

from celeba_fl.dashboard.remembered import FILE, keep, remembered


def test_who_is_off_is_kept_by_connection(tmp_path: Path) -> None:
    folder = tmp_path / "not there yet"
    assert remembered(folder, "clinics") == set()
    keep(folder, "clinics", {"a", "b"})
    keep(folder, "local", {"3"})
    keep(folder, "clinics", {"Zürich"})
    assert remembered(folder, "clinics") == {"Zürich"}
    assert remembered(folder, "local") == {"3"}


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b'{"clinics": 5}'])
def test_a_file_of_another_kind_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert remembered(tmp_path, "clinics") == set()
    keep(tmp_path, "clinics", {"a"})
    assert remembered(tmp_path, "clinics") == {"a"}
