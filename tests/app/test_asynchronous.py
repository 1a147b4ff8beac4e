"""Asynchronous rounds of the whole app, in one process on a virtual clock."""

from pathlib import Path
from typing import Any

import pytest
from adding import Adding, Nodes, column, info, outcome, run, settings
from flwr.app import Context, RecordDict

from celeba_fl.client_app import app as client_app
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as server_app

KEYS: dict[str, Any] = {"scheduler": "asynchronous", "client_seconds": "1, 2=3.5", "buffer_size": 2}


def without(path: Path, *columns: str) -> dict[str, Any]:
    """All that a run recorded, without some columns."""
    return {
        name: [{key: value for key, value in row.items() if key not in columns} for row in rows]
        for name, rows in outcome(path).items()
    }


def test_each_client_has_its_staleness(tmp_path: Path) -> None:
    path = run(tmp_path, **KEYS, num_server_rounds=5)
    rows = [
        (int(row["round"]), row["client"], row["staleness"], row["evaluated"])
        for row in read_csv(path / "clients.csv")
    ]
    # Clients 0 and 1 answer each second, client 2 after 3.5; then the round waits for client 0.
    assert [row for row in rows if row[0] == 1] == [(1, "0", "0", "1"), (1, "1", "0", "1")]
    assert (4, "2", "3", "") in rows
    assert (4, "0", "0", "4") in rows
    assert {row for row in rows if row[0] == 0} == {(0, "0", "", "0"), (0, "1", "", "0")}
    assert [row[3] for row in rows if row[0] == 5] == ["5", "5", "5"]  # all evaluate the last model
    assert column(path, "seconds") == [0, 1, 1, 1, 1, 1]
    assert [row["staleness"] for row in read_csv(path / "rounds.csv")][4] == "1.5"


def test_rounds_of_all_clients_are_synchronous_ones(tmp_path: Path) -> None:
    own = ("staleness", "evaluated")
    together = run(tmp_path / "a", 4, scheduler="asynchronous", buffer_size=4)
    assert without(together, *own) == outcome(run(tmp_path / "s", 4))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["fedavg", "fedprox"])
@pytest.mark.parametrize("split", [1, 4])
def test_a_run_in_two_parts_equals_one(tmp_path: Path, strategy: str, split: int) -> None:
    keys = {**KEYS, "strategy": strategy, "num_server_rounds": 6}
    whole = run(tmp_path / "whole", 4, **keys)
    run(tmp_path / "parts", 4, **{**keys, "num_server_rounds": split})
    path = run(tmp_path / "parts", 4, resume="latest", **keys)
    assert outcome(path) == outcome(whole)
    assert column(path, "seconds") == column(whole, "seconds")


def test_stop_rules_hold(tmp_path: Path) -> None:
    path = run(tmp_path, **KEYS, num_server_rounds=99, target=9.0)
    assert info(path)["status"] == "stopped"
    assert info(path)["reason"].startswith("target: server_valid_score is 9.")
    late = run(tmp_path / "late", **KEYS, num_server_rounds=99, max_seconds=12.0)
    assert info(late)["reason"] == "max-seconds: 12 s of 12 s are over"


def test_failures_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(client: int, number: int) -> None:
        if client == 1 and number in (1, 2):
            raise RuntimeError("no power")

    monkeypatch.setattr(Adding, "fault", staticmethod(fault))
    path = run(tmp_path, 4, **KEYS, num_server_rounds=15)
    assert column(path, "failures") == [0, 1] + [0] * 14
    clients = [row["client"] for row in read_csv(path / "clients.csv") if row["local_loss"]]
    assert clients.count("1") > 0


@pytest.mark.parametrize(
    ("keys", "wrong"),
    [
        ({"secure-aggregation": True}, "secure-aggregation = true: masks are for those who answer"),
        ({"strategy": "fedadam"}, "strategy = 'fedadam'"),
        ({"strategy": "closed-form"}, "strategy = 'closed-form'"),
        ({"fraction-train": 0.5}, "fraction-train = 0.5"),
        ({"scheduler": "synchronous", "buffer-size": 3}, "buffer-size = 3"),
        ({"scheduler": "later"}, "scheduler = 'later': must be one of synchronous, asynchronous"),
    ],
)
def test_what_does_not_go_with_it_is_refused(keys: dict[str, Any], wrong: str) -> None:
    with pytest.raises(InputError, match=wrong):
        RunConfig.load({"scheduler": "asynchronous", **keys})


def test_only_a_run_in_one_process_has_a_virtual_clock(tmp_path: Path) -> None:
    keys = settings(tmp_path, client_seconds="1, 2=3")
    grid = Nodes(client_app, 2, keys=keys)  # without a clock, as Flower's
    with pytest.raises(InputError, match=r"client-seconds = '1, 2=3': .* --inline"):
        server_app(grid, Context(grid.run.run_id, 0, {}, RecordDict(), keys))
