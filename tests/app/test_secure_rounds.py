"""Rounds under `secure-aggregation` that fail: what is tried again, and what never is."""

from pathlib import Path
from typing import Any

import pytest
from adding import settings
from flwr.app import Message
from watched import Watched, info, lost, watch

from celeba_fl.common.flower import failure
from celeba_fl.deployment.credentials import write_credentials
from celeba_fl.privacy.packets import unpacked
from celeba_fl.rounds.exchange import Replies
from celeba_fl.runs.tables import read_csv


def opened(grid: Watched) -> set[str]:
    """The exchanges whose masks were taken off."""
    replies = [unpacked(reply) for _, step, reply in grid.seen if step == "unmask"]
    return {serial for said in replies for serial in said["unmasked"]}


def silent_in_unmasking(client: int, step: str, serial: int) -> bool:
    """Two of four give no shares, so that a total cannot be opened."""
    return step == "unmask" and serial == 2 and client < 2


# The exchanges: 1 is of the roll call's numbers, 2 of the first round.
def test_an_attempt_that_does_not_count_is_not_opened_and_loses_no_evaluation(
    tmp_path: Path,
) -> None:
    keys = settings(tmp_path, min_replies=1.0, num_server_rounds=1)
    grid, path = watch(keys, 5, lost(3, "mask", 2))
    assert info(path)["status"] == "completed"
    assert opened(grid) == {"1", "3", "4"}
    assert [row["clients"] for row in read_csv(path / "rounds.csv")] == ["5", "5"]


def test_a_total_that_was_asked_for_is_made_no_second_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = settings(tmp_path, num_server_rounds=1, round_retries=3)
    grid, path = watch(keys, 4, silent_in_unmasking)
    assert info(path)["status"] == "failed"
    assert "tried 1 times; its total was asked for, so it is not tried again" in caplog.text
    assert opened(grid) == {"1", "2"}
    assert [*(path / "checkpoints").iterdir()]


def test_a_client_adds_what_it_trained_to_one_total_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that tries again all the same is refused by those that gave shares."""
    monkeypatch.setattr(Replies, "opened", property(lambda _: False, lambda *_: None))
    grid, path = watch(settings(tmp_path, num_server_rounds=1), 4, silent_in_unmasking)
    assert info(path)["status"] == "failed"
    why = "round 1: what this client said is in a total, and goes into no second one"
    assert sum(why in error for error in grid.errors) == 2


def test_a_client_says_in_one_total_alone_what_it_counted(tmp_path: Path) -> None:
    """A server that makes a message of the first round one of the roll call's is refused."""

    def lie(client: int, said: dict[str, Any]) -> None:
        if said["step"] == "mask" and said["sums"][0]["serial"] == 2:
            said["sums"][0]["parts"] = []

    grid, _ = watch(settings(tmp_path, round_retries=0), 4, change=lie)
    why = "the roll call: what this client said is in a total, and goes into no second one"
    assert sum(why in error for error in grid.errors) >= 4


class Deaf(Watched):
    """What the first client says while masks are taken off, shares for later too, is lost."""

    def _answer(self, message: Message) -> Message:
        first = self.partition[message.metadata.dst_node_id] == 0
        step = unpacked(message.content)["step"]
        reply = super()._answer(message)
        return Message(failure("lost"), reply_to=message) if first and step == "unmask" else reply


def test_shares_that_were_lost_on_the_way_do_not_cost_the_next_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watched.Watched", Deaf)
    grid, path = watch(settings(tmp_path), 4)
    assert isinstance(grid, Deaf)
    assert info(path)["status"] == "completed"
    assert grid.errors == []
    assert [row["clients"] for row in read_csv(path / "rounds.csv")] == ["4"] * 5


# ---- a server that asks for more than a sum -------------------------------------------------


def spoil_a_share(said: dict[str, Any], name: str) -> None:
    said["sums"][0]["peers"]["2"]["sealed"] = "00" * 80


def ask_twice(said: dict[str, Any], name: str) -> None:
    said["sums"] *= 2


def lower_the_floor(said: dict[str, Any], name: str) -> None:
    said["sums"][0]["survivors"] = sorted({name, "0", "1"})[:2] if name < "2" else ["0", name]


def hand_out_own_keys(said: dict[str, Any], name: str) -> None:
    for one in said["share"]:
        one["peers"]["1"]["key"] = "11" * 32


@pytest.mark.parametrize(
    ("step", "change", "why"),
    [
        ("mask", spoil_a_share, "the share of 2 is refused: it was changed on the way"),
        ("mask", ask_twice, "it was answered before"),
        ("unmask", ask_twice, "it was not begun, or was answered before"),
        ("unmask", lower_the_floor, "a total over 2 clients, and this one takes part in totals"),
        ("share", hand_out_own_keys, "the key of 1 has changed within the run"),
    ],
)
def test_it_is_refused_and_the_run_fails_with_its_last_checkpoint(
    tmp_path: Path, step: str, change: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All goes well for a round, then the server asks every client for more."""

    def lie(client: int, said: dict[str, Any]) -> None:
        serials = [one["serial"] for one in said.get("sums", said.get("share", []))]
        if said["step"] == step and max(serials) >= 3:
            change(said, str(client))

    # Shares are asked for by themselves where one client had none to give ahead.
    lose = lost(0, "unmask", 2) if step == "share" else lost(9, "")
    grid, path = watch(settings(tmp_path), 4, lose, lie)
    assert info(path)["status"] == "failed"
    assert any(why in error for error in grid.errors)
    assert why in caplog.text
    assert any("round-0001" in file.name for file in (path / "checkpoints").iterdir())


@pytest.mark.parametrize("forged", [True, False])
def test_keys_that_their_owner_has_not_signed_fail_the_run(
    tmp_path: Path, forged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    sites = ["a", "b", "c"]
    write_credentials(tmp_path / "c", sites, ["localhost"], 1)
    nodes = [
        {
            **{"site": site, "partition-id": i, "num-partitions": 3},
            "roster": str(tmp_path / "c" / "roster.toml"),
            "signing-key": str(tmp_path / "c" / f"node-{i}-signing.key"),
        }
        for i, site in enumerate(sites)
    ]

    def lie(client: int, said: dict[str, Any]) -> None:
        for one in said.get("share", []) if forged else []:
            one["peers"]["b"]["key"] = "11" * 32

    _, path = watch(settings(tmp_path / "runs", num_server_rounds=1), nodes, change=lie)
    assert info(path)["status"] == ("failed" if forged else "completed")
    assert ("client b are not signed" in caplog.text) == forged
