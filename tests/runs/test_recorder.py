"""What the log says of a run's figures; `tests/app/test_rounds_csv.py` has what is written."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from adding import Adding, run


def messages(caplog: pytest.LogCaptureFixture, first: str) -> list[str]:
    """The log's lines that begin so."""
    lines = [record.getMessage() for record in caplog.records]
    return [line for line in lines if line.startswith(first)]


@pytest.fixture(autouse=True)
def _all_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "flwr")


def test_who_holds_how_much_and_who_lacks_what(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Client i holds i + 1 examples; that of an even i has none that is odd."""
    run(tmp_path, 5, num_server_rounds=1)
    (line,) = messages(caplog, "5 clients")
    assert re.findall(r"\d+", line) == ["5", "1", "3", "5"]  # smallest, median, largest
    (line,) = messages(caplog, "Clients without")
    assert line.endswith("odd 3")


def test_the_median_of_an_even_number_lies_between_the_two(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As the report has it."""
    run(tmp_path, 4, num_server_rounds=1)
    (line,) = messages(caplog, "4 clients")
    assert "smallest 1, median 2.5, largest 4" in line


def test_nobody_lacks_what_all_have(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Adding, "count_names", ())
    describe = Adding.describe

    def without_counts(self: Adding, node: object, instructions: object) -> object:
        description = describe(self, node, instructions)
        return replace(description, counts=description.counts[:0])

    monkeypatch.setattr(Adding, "describe", without_counts)
    run(tmp_path, num_server_rounds=1)
    assert not messages(caplog, "Clients without")


def test_a_round_leads_with_test(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, num_server_rounds=1)
    line = messages(caplog, "round 1:")[0]
    assert line.startswith("round 1: test: loss 997.6667, score 1002.3333 (3 clients, ")
    assert "valid" not in line


def test_a_round_leads_with_valid_where_the_server_has_no_data(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Adding, "central_parts", ())
    monkeypatch.setattr(Adding, "evaluate_centrally", lambda self, arrays: {})
    run(tmp_path, num_server_rounds=1)
    assert messages(caplog, "round 1:")[0].startswith("round 1: valid: loss 97.6667, score 2.3333 ")


def test_a_round_says_how_many_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(client: int, server_round: int) -> None:
        if client == 2 and server_round:
            raise RuntimeError("no power")

    monkeypatch.setattr(Adding, "fault", staticmethod(fault))
    run(tmp_path, num_server_rounds=1)
    assert "(3 clients, 1 left out, " in messages(caplog, "round 1:")[0]
