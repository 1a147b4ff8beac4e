"""Flower's commands: their environment, and what is shown of their log."""

import os
import sys
from pathlib import Path

import pytest

from celeba_fl.launch.flower import flower_environment, without_noise

LOG = """\
\x1b[92mINFO \x1b[0m:      Run directory: /runs/1
/lib/ray/_private/worker.py:2051: FutureWarning: Tip: In future versions of Ray, Ray will no longer
  warnings.warn(
\x1b[92mINFO \x1b[0m:      Reading images: 3 of 3
\x1b[33mWARNING\x1b[0m:    Manually terminating ClientAppActor
  warnings.warn(
round 1: test: loss 0.3
"""


def test_the_log_is_shown_without_what_says_nothing_of_the_run() -> None:
    assert [line.split(" ")[-1].strip() for line in without_noise(LOG.splitlines())] == [
        "/runs/1",
        "3",
        "warnings.warn(",
        "0.3",
    ]


def test_commands_beside_this_python_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/elsewhere")
    own = str(Path(sys.executable).parent)
    assert flower_environment()["PATH"] == f"{own}{os.pathsep}/elsewhere"
    monkeypatch.delenv("PATH")
    assert flower_environment()["PATH"].startswith(f"{own}{os.pathsep}")


def test_what_flower_prints_is_utf_8_whatever_the_terminal_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert flower_environment()["PYTHONIOENCODING"] == "utf-8"


@pytest.mark.parametrize(
    ("tmpdir", "own", "expected"),
    [("/tmp", None, None), ("/" + "t" * 80, None, "/tmp"), ("/" + "t" * 80, "/ray", "/ray")],
)
def test_rays_sockets_have_short_names(
    monkeypatch: pytest.MonkeyPatch, tmpdir: str, own: str | None, expected: str | None
) -> None:
    monkeypatch.setenv("TMPDIR", tmpdir)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    if own:
        monkeypatch.setenv("RAY_TMPDIR", own)
    assert flower_environment().get("RAY_TMPDIR") == expected
