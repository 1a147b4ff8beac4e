"""`celeba-fl credentials`."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest


def test_credentials_tell_their_expiry_and_who_gets_what(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--nodes", "2", "--host", "fl.example.org", "--host", "10.0.0.7", "--days", "9"]
    assert call("credentials", *words, "--out", str(tmp_path / "c")) == 0
    printed = capsys.readouterr().out
    expiry = datetime.now(UTC) + timedelta(days=9)
    assert f"fl.example.org, 10.0.0.7, valid until {expiry:%Y-%m-%d}" in printed
    assert sorted(path.name for path in (tmp_path / "c").glob("node-*")) == [
        "node-0.key",
        "node-0.pub",
        "node-1.key",
        "node-1.pub",
    ]
    assert call("credentials", *words, "--out", str(tmp_path / "c")) == 2
    assert "is there already" in capsys.readouterr().err
