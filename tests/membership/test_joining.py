"""Clients that come late, in whole runs."""

from pathlib import Path
from typing import Any

import pytest
from adding import info
from late import Late, figures, join, keys, nodes, solve, weight

from celeba_fl.client_app import app as client_app
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.membership import joining
from celeba_fl.membership.withdrawals import Withdrawals
from celeba_fl.runs.kept_sums import KeptSums
from celeba_fl.runs.reopened import ReopenedRun
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as server_app

Patch = pytest.MonkeyPatch
Log = pytest.LogCaptureFixture


def failing(*clients: int, number: int = 1) -> Any:
    """A fault of some clients: in the roll call, number 0, or when they are asked for sums."""

    def fault(client: int, at: int) -> None:
        if client in clients and at == number:
            raise RuntimeError("no power")

    return staticmethod(fault)


def test_a_late_run_is_one_from_the_start_and_asks_new_clients_alone(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    whole = solve(tmp_path / "whole", (0, 1, 2, 3))
    late = solve(tmp_path / "late", (1, 3))
    asked: list[int] = []
    monkeypatch.setattr(Late, "asked", asked)
    join(late, (0, 1, 3))
    join(late, (0, 1, 2, 3))
    assert asked == [0, 2]
    assert figures(late) == figures(whole)
    assert weight(late) == 1111
    heads = read_csv(late / "heads.csv")
    assert [(row["clients"], row["joined"]) for row in heads] == [("2", ""), ("3", "0"), ("4", "2")]
    copies = {path.name: path.read_bytes() for path in (late / "heads").iterdir()}
    assert sorted(copies) == [f"head-000{number}.safetensors" for number in (1, 2, 3)]
    assert copies["head-0003.safetensors"] == (late / "model.safetensors").read_bytes()
    said = info(late)
    assert (said["status"], said["num_clients"], len(said["flwr_run_ids"])) == ("completed", 4, 3)
    assert said["config"]["join"] == ""


def test_who_is_in_it_need_not_be_there(tmp_path: Path) -> None:
    late = join(solve(tmp_path, (0, 1)), (1, 2))
    assert weight(late) == 111
    assert {row["client"] for row in read_csv(late / "clients.csv")} == {"1", "2"}
    assert [row["client"] for row in read_csv(late / "partitions.csv")] == ["0", "1", "2"]


def test_who_failed_from_the_start_can_join(tmp_path: Path, monkeypatch: Patch) -> None:
    whole = solve(tmp_path / "whole", (0, 1, 2))
    with monkeypatch.context() as broken:
        broken.setattr(Late, "fault", failing(1))
        late = solve(tmp_path / "late", (0, 1, 2))
    assert weight(late) == 101
    assert figures(join(late, (0, 1, 2))) == figures(whole)


def test_a_client_that_fails_keeps_nobody_out(
    tmp_path: Path, monkeypatch: Patch, caplog: Log
) -> None:
    late = solve(tmp_path / "late", (0,))
    monkeypatch.setattr(Late, "fault", failing(2))
    join(late, (0, 1, 2))
    assert "client 2 does not join" in caplog.text
    assert figures(late) == figures(solve(tmp_path / "two", (0, 1)))
    with pytest.raises(InputError, match="joining: 2 cannot join"):
        join(late, (0, 1, 2), joining="2")
    assert figures(late) == figures(solve(tmp_path / "two", (0, 1)))


def test_only_who_is_named_joins(tmp_path: Path) -> None:
    assert weight(join(solve(tmp_path, (0,)), (0, 1, 2), joining="2")) == 101


def test_with_nobody_new_the_head_stays_what_it_was(tmp_path: Path, caplog: Log) -> None:
    path = solve(tmp_path, (0, 1))
    before = figures(path)
    join(path, (0, 1))
    assert figures(path) == before
    assert "Nobody new is here" in caplog.text
    assert len(read_csv(path / "heads.csv")) == 1


def test_partitions_of_another_dealing_are_refused(tmp_path: Path, monkeypatch: Patch) -> None:
    path = solve(tmp_path, (0, 1))
    monkeypatch.setattr(Late, "held", staticmethod(lambda client: 7))
    with pytest.raises(InputError, match="client 0: it holds 7 train images, and its sums are of"):
        join(path, (0, 1, 2))
    assert weight(path) == 11
    assert info(path)["status"] == "completed"


def test_a_site_with_other_data_sits_out(tmp_path: Path, monkeypatch: Patch, caplog: Log) -> None:
    sites = [{**node, "site": f"site-{i}"} for i, node in enumerate(nodes(0, 1, 2))]
    run_inline(RunConfig.load(keys(tmp_path)), sites[:2], server_app, client_app)
    (path,) = tmp_path.glob("2*")
    monkeypatch.setattr(Late, "held", staticmethod(lambda client: 9 if client == 1 else client + 1))
    run_inline(RunConfig.load(keys(tmp_path, join=str(path))), sites, server_app, client_app)
    assert "client site-1 sits out: it holds 9 train images" in caplog.text
    assert weight(path) == 111
    assert {row["client"] for row in read_csv(path / "clients.csv")} == {"site-0", "site-2"}


def test_a_join_that_is_cut_off_is_repeated(tmp_path: Path, monkeypatch: Patch) -> None:
    path = solve(tmp_path / "late", (0, 1))
    model = (path / "model.safetensors").read_bytes()
    with monkeypatch.context() as cut:
        cut.setattr(joining, "make_head", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            join(path, (0, 1, 2))
    assert (path / "model.safetensors").read_bytes() == model
    assert KeptSums(path).clients() == ["0", "1", "2"]
    monkeypatch.setattr(Late, "fault", failing(0, 1, 2))  # nobody is asked for sums again
    join(path, (0, 1, 2))
    monkeypatch.undo()
    assert figures(path) == figures(solve(tmp_path / "whole", (0, 1, 2)))


@pytest.mark.parametrize(
    ("first", "then", "words"),
    [
        ({"strategy": "fedavg", "keep_sums": False}, {}, "its model is an average over rounds"),
        ({"keep_sums": False}, {}, "it has kept no client's sums"),
        ({"fraction_train": 0.5}, {}, "fraction-train = 0.5"),
        ({}, {"seed": 1}, "it is another experiment: seed was 42 and is 1"),
    ],
)
def test_runs_that_nobody_can_join(
    tmp_path: Path, first: dict[str, Any], then: dict[str, Any], words: str
) -> None:
    path = solve(tmp_path, (0, 1), **first)
    with pytest.raises(InputError, match=f"nobody can join {path.name}: {words}"):
        join(path, (0, 1, 2), **{**first, **then})


def test_a_withdrawal_that_was_cut_off_comes_first(tmp_path: Path) -> None:
    path = solve(tmp_path, (0, 1))
    Withdrawals(path).begin("1")
    with pytest.raises(InputError, match=f"repeat celeba-fl withdraw {path} 1"):
        join(path, (0, 1, 2))


def test_other_data_on_the_server_are_refused(tmp_path: Path, monkeypatch: Patch) -> None:
    path = solve(tmp_path, (0, 1))
    monkeypatch.setattr(Late, "fingerprint", "others")
    with pytest.raises(InputError, match="dataset was"):
        join(path, (0, 1, 2))


def test_while_somebody_writes_nobody_joins(tmp_path: Path) -> None:
    path = solve(tmp_path, (0,))
    with (
        ReopenedRun(path, RunConfig.load(keys(tmp_path))),
        pytest.raises(InputError, match="another process"),
    ):
        join(path, (0, 1))


def test_a_run_that_was_joined_is_not_resumed(tmp_path: Path) -> None:
    path = join(solve(tmp_path, (0, 1)), (0, 1, 2))
    with pytest.raises(InputError, match="celeba-fl join goes on with it"):
        solve(tmp_path, (0, 1), resume=str(path), num_server_rounds=9)


def test_keys_that_need_a_run_to_join(tmp_path: Path) -> None:
    for own in ({"joining": "1"}, {"stay-open": True}, {"join": "latest", "resume": "latest"}):
        with pytest.raises(InputError, match="join"):
            RunConfig.load(own)
