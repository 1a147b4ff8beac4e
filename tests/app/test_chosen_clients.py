"""Runs in which only the clients that are named take part."""

from pathlib import Path

import pytest
from adding import Adding, column, info, outcome, run

from celeba_fl.common.errors import InputError
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv


def test_only_the_chosen_clients_take_part(tmp_path: Path) -> None:
    path = run(tmp_path, 4, num_server_rounds=2, clients="3,0")

    # (1 * 1 + 4 * 4) / 5 more in every round
    assert column(path, "valid_score") == pytest.approx([0, 17 / 5, 34 / 5])
    assert column(path, "clients") == [2, 2, 2]
    assert [row["client"] for row in read_csv(path / "partitions.csv")] == ["0", "3"]
    assert [row["client"] for row in read_csv(path / "nodes.csv")] == ["0", "3"]
    assert info(path)["num_clients"] == 2


def test_clients_that_sit_out_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the clients of `Adding` do depends on their own names alone."""
    run(tmp_path / "parts", 6, clients="0,1,2", num_server_rounds=2)
    refuse = staticmethod(lambda client, number: client > 2 and pytest.fail("it works"))
    monkeypatch.setattr(Adding, "fault", refuse)
    path = run(tmp_path / "parts", 6, clients="0,1,2", resume="latest")
    assert outcome(path) == outcome(run(tmp_path / "three", 3))


def test_one_chosen_client_is_enough(tmp_path: Path) -> None:
    assert column(run(tmp_path, 3, clients="2", num_server_rounds=1), "valid_score") == [0, 3]


def test_choosing_a_client_that_does_not_exist_fails_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"clients: 5 cannot take part; there are 0, 1, 2"):
        run(tmp_path, 3, clients="1,5")
    assert info(Path(read_runs(tmp_path)[0].path))["status"] == "failed"


def test_a_run_resumes_with_the_same_clients_only(tmp_path: Path) -> None:
    run(tmp_path, 3, clients="0,1", num_server_rounds=1)
    with pytest.raises(InputError, match=r"clients was '0,1' and is ''"):
        run(tmp_path, 3, resume="latest")
