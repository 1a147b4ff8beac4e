"""`celeba-fl credentials`, `check-site` and `split`."""

import json
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
        f"node-{node}{end}" for node in (0, 1) for end in ("-signing.key", ".key", ".pub")
    ]
    assert call("credentials", *words, "--out", str(tmp_path / "c")) == 2
    assert "is there already" in capsys.readouterr().err


def test_credentials_belong_to_sites_by_name_and_then_to_partitions(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--host", "a", "--site", "St. Mary", "--site", "hospital-b"]
    assert call("credentials", *words, "--out", str(tmp_path / "c")) == 0
    printed = capsys.readouterr().out
    assert "node-0.key, node-0-signing.key (client St. Mary); node-1.key, node-1-s" in printed
    more = ["--nodes", "4", "--out", str(tmp_path / "d"), "--json"]
    assert call("credentials", *words, *more) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["keys"]["hospital-b"] == ["node-1.key", "node-1-signing.key"]
    assert (told["folder"], told["hosts"], len(told["keys"])) == (str(tmp_path / "d"), ["a"], 4)
    lines = (tmp_path / "d" / "client-keys").read_text().splitlines()
    assert [line.split(maxsplit=2)[2] for line in lines] == ["St. Mary", "hospital-b", "0", "1"]


@pytest.mark.parametrize("words", [[], ["--site", "b", "--site", "c", "--nodes", "1"]])
def test_there_is_a_node_for_each_site_and_one_at_least(
    words: list[str], call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("credentials", *words, "--host", "a", "--out", str(tmp_path / "c")) == 2
    assert "a node for each site" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_what_a_site_needs_is_told_to_programs_too(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = tmp_path / "node.toml"
    node.write_text("partition-id = 0\nnum-partitions = 2\n")
    call("check-site", str(node), "--json")
    answers = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
    assert answers["node config"]["right"]
    assert "partition 0 of 2" in answers["data"]["words"]
    assert call("check-site", str(tmp_path / "none.toml"), "--json") == 1
    assert json.loads(capsys.readouterr().out)[0]["right"] is False


def test_the_folders_of_a_split_are_told_to_programs_too(
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("celeba_fl.data.splitting.split", lambda *_, **__: {"site-1": 3})
    assert call("split", "drawn", "--sites", "1", "--out", str(tmp_path), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == [{"folder": str(tmp_path / "site-1"), "images": 3}]
