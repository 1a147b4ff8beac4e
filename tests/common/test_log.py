import logging
import time

import pytest
from adding import Nodes, adding_app, record
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAvg

from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG, Progress, quiet_flower


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
