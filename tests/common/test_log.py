import logging
import time
from pathlib import Path

import pytest
from adding import Nodes, adding_app, record
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAvg

from celeba_fl.common.errors import InputError
from celeba_fl.common.log import FLOWER, LOG, LogFile, Progress, quiet_flower


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(time, "monotonic", lambda: Clock.now)
    return Clock


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, LOG.name)
    return lambda: [record.getMessage() for record in caplog.records]


def test_lines_by_hand(clock, lines):
    work = Progress("Sorting", 100, every=5)
    clock.now += 4
    work.advance(10)
    assert lines() == []
    clock.now += 1
    work.advance(15)
    assert lines() == ["Sorting: 25 of 100 (5/s, 15 s left)"]
    clock.now += 4
    work.advance(15)
    assert len(lines()) == 1
    clock.now += 1
    work.advance(10)
    assert lines()[1:] == ["Sorting: 50 of 100 (5/s, 10 s left)"]
    clock.now += 2.5
    work.advance(50)
    assert lines()[2:] == ["Sorting: 100 of 100 (8/s, 12 s)"]


def test_a_short_job_logs_its_end_only(clock, lines):
    work = Progress("Sorting", 3)
    for _ in range(3):
        clock.now += 0.5
        work.advance()
    assert lines() == ["Sorting: 3 of 3 (2/s, 2 s)"]


def test_a_slow_job_has_a_rate_and_a_line_may_have_a_note(clock, lines):
    work = Progress("Asking", 10)
    clock.now += 8
    work.advance(2, note="5 tokens")
    assert lines() == ["Asking: 2 of 10 (0.25/s, 32 s left, 5 tokens)"]


def test_a_job_that_takes_no_time_at_all(clock, lines):
    Progress("Sorting", 1).advance()
    assert lines()[0].startswith("Sorting: 1 of 1 (")


def test_lines_reach_flowers_log():
    assert logging.getLogger("flwr") is LOG.parent


def test_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)


def test_the_lines_of_strategies_are_left_out_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "flwr")

    def log_a_round() -> list[str]:
        caplog.clear()
        FedAvg(1, 1, 1, 1, 1).configure_train(1, record({"w": [1.0]}), ConfigRecord(), nodes)
        logging.getLogger("flwr").info("something else")
        LOG.info("configure_train: Sampled by ourselves")
        return [line.getMessage() for line in caplog.records]

    nodes = Nodes(adding_app(), 2)
    others = ["something else", "configure_train: Sampled by ourselves"]
    with quiet_flower():
        assert log_a_round() == others
    assert log_a_round() == ["configure_train: Sampled 2 nodes (out of 2)", *others]


def test_so_are_those_of_the_engine_about_a_client_that_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    flower = logging.getLogger("flwr")
    with quiet_flower():
        flower.error("An exception was raised when processing a message by %s", "RayBackend")
        flower.error(RuntimeError("\nClientAppException occurred. Message: no power"))
        flower.error("Traceback (most recent call last):\n  ...\nClientAppException: no power")
        flower.error("Simulation Runtime crashed.")
    assert [line.getMessage() for line in caplog.records] == ["Simulation Runtime crashed."]


def test_a_log_file_has_what_is_logged_as_long_as_it_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time, kind and words; nothing below INFO, and whatever cannot be said as an escape."""
    monkeypatch.setattr(FLOWER, "propagate", False)  # pytest-xdist cannot carry such characters
    for words in ("one", "two"):
        file = LogFile(tmp_path / "log.txt")
        LOG.info("%s \udce4", words)
        LOG.debug("this says too much")
        file.close()
        LOG.info("elsewhere")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        f"INFO    {words} \\udce4" for words in ("one", "two")
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full here")
def test_a_full_disk_costs_lines_and_not_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    file = LogFile(Path("/dev/full"))
    LOG.info("lost")
    file.close()
    assert "Logging error" not in capsys.readouterr().err
