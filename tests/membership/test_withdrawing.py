"""Clients that leave a model, in whole runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from adding import info
from late import Late, figures, join, nodes, solve, weight

from celeba_fl.common.errors import InputError
from celeba_fl.membership import withdrawing
from celeba_fl.membership.holders import files_with
from celeba_fl.membership.withdrawing import settle, withdraw
from celeba_fl.runs.kept_sums import KeptSums
from celeba_fl.runs.reading import read_run
from celeba_fl.runs.tables import read_csv

Patch = pytest.MonkeyPatch
# What clients say of the new head nobody knows: they are not asked.
BY_CLIENTS = ("train_", "valid_")


def of_the_server(path: Path) -> dict[str, Any]:
    """The figures of a run but those that clients are asked for."""
    found = figures(path)
    del found["clients.csv"], found["attributes.csv"]
    for row in found["rounds.csv"]:
        for key in [key for key in row if key.startswith(BY_CLIENTS) or key == "clients"]:
            del row[key]
    return found


def leave(path: Path, client: str) -> dict[str, Any]:
    return withdraw(read_run(path), client)


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which client 1 has never been."""
    return solve(tmp_path_factory.mktemp("without"), (0, 1, 2), clients="0,2")


def text_of(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("*.csv"))


def test_a_head_without_it_is_that_of_a_run_without_it(
    tmp_path: Path, without: Path, monkeypatch: Patch
) -> None:
    path = solve(tmp_path, (0, 1, 2), audit=True)
    before = figures(path)
    (path / "baseline.json").write_text("{}")
    KeptSums(path).path("1").write_bytes(b"damaged, which is no reason to stay")
    monkeypatch.setattr(Late, "fault", staticmethod(lambda *_: pytest.fail("a client is asked")))
    record = leave(path, "1")
    monkeypatch.undo()
    assert weight(path) == 101
    assert of_the_server(path) == of_the_server(without)
    assert read_csv(path / "clients.csv") == []
    assert [row["train_score"] for row in read_csv(path / "rounds.csv")] == ["", ""]
    assert not (path / "baseline.json").exists()
    # Nothing of the client is left but that it was there.
    assert KeptSums(path).clients() == ["0", "2"]
    assert len(list((path / "sums").glob("*.safetensors"))) == 2
    assert not list(path.glob("audit/*/1.*"))
    assert list(path.glob("audit/*/2.*"))
    (said,) = json.loads((path / "withdrawals.json").read_text())["withdrawals"]
    assert said == record
    assert (said["client"], said["head"], said["begun"] <= said["done"]) == ("1", 2, True)
    assert "not overwritten" in said["deleted"]
    assert len(said["code"]["sha256"]) == 64
    assert info(path)["config"]["clients"] == "0,2"
    assert not (path / "heads" / "head-0001.safetensors").exists()

    # It may come back, if it is named; until then, those who are there are asked how it is.
    join(path, (0, 1, 2), audit=True)
    assert figures(path) == figures(without)
    assert not list(path.glob("audit/*/1.*"))
    join(path, (0, 1, 2), audit=True, joining="1")
    assert figures(path) == before
    (said,) = json.loads((path / "withdrawals.json").read_text())["withdrawals"]
    assert said["joined_again"] > said["done"]


@pytest.mark.parametrize("step", ["Members.remove", "files_of", "make_head", "ReopenedRun.publish"])
def test_a_withdrawal_that_is_cut_off_is_repeated(
    tmp_path: Path, without: Path, monkeypatch: Patch, step: str
) -> None:
    path = solve(tmp_path, (0, 1, 2))
    with monkeypatch.context() as cut:
        cut.setattr(f"{withdrawing.__name__}.{step}", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            leave(path, "1")
    assert not json.loads((path / "withdrawals.json").read_text())["withdrawals"][0]["done"]
    done = leave(path, "1")
    assert of_the_server(path) == of_the_server(without)
    assert leave(path, "1") == done
    assert len(read_csv(path / "heads.csv")) == 2


@pytest.mark.parametrize(
    ("keys", "client", "words"),
    [
        ({}, "7", "client '7' is not in it; there are 0, 1"),
        ({"clients": "1"}, "1", "client 1 is the only one in its model"),
        ({"keep_sums": False}, "1", "kept no client's sums .* without 1 forgets it: .* --retrain"),
        (
            {"keep_sums": False, "strategy": "fedavg"},
            "1",
            "an average over rounds .* Only training again",
        ),
    ],
)
def test_clients_that_cannot_leave(
    tmp_path: Path, keys: dict[str, Any], client: str, words: str
) -> None:
    path = solve(tmp_path, (0, 1), **keys)
    model = (path / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match=words):
        leave(path, client)
    assert (path / "model.safetensors").read_bytes() == model
    assert not (path / "withdrawals.json").exists()


def test_a_run_without_a_model_has_to_end_first(tmp_path: Path) -> None:
    path = solve(tmp_path, (0, 1))
    (path / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no model; resume it first"):
        leave(path, "1")
    assert KeptSums(path).clients() == ["0", "1"]


def test_what_still_holds_it_is_found_and_removed(tmp_path: Path) -> None:
    path = solve(tmp_path, (0, 1), audit=True)
    join(path, (0, 1, 2), audit=True)
    # Beside it: the same images in another model, those of another dealing, and none of them.
    again = solve(tmp_path, (0, 1), strategy="fedavg", keep_sums=False, audit=True)
    solve(tmp_path, (0, 1), seed=7)
    solve(tmp_path, (0, 2))
    leave(path, "1")

    found = {
        f"{run.path.name}/{file.relative_to(run.path)}"
        for run, files in files_with(read_run(path), "1")
        for file in files
    }
    own = {f"checkpoints/round-000{number}.safetensors" for number in (0, 1)}
    own |= {f"heads/head-000{number}.safetensors" for number in (1, 2)}
    assert {name for name in found if name.startswith(path.name)} == {
        f"{path.name}/{name}" for name in own
    }
    others = {name.removeprefix(f"{again.name}/") for name in found if again.name in name}
    assert {"model.safetensors", "base.safetensors", "audit/0001/1.json"} <= others
    assert not any("/0." in name for name in others)
    assert len(found) == len(own) + len(others)

    assert set(settle(read_run(path), "1", everywhere=False)) == found
    assert set(settle(read_run(path), "1", everywhere=True)) == found
    assert files_with(read_run(path), "1") == []
    (said,) = json.loads((path / "withdrawals.json").read_text())["withdrawals"]
    assert (set(said["removed"]), said["still_held_by"]) == (found, [])
    assert weight(path) == 101
    assert not (again / "model.safetensors").exists()
    assert read_csv(again / "rounds.csv")


def test_a_site_is_known_by_its_name_whatever_the_seed(tmp_path: Path) -> None:
    """That of another run with kept sums loses them there, too."""
    sites = [{**node, "site": f"site-{i}"} for i, node in enumerate(nodes(0, 1))]
    paths = [solve(tmp_path, sites, seed=seed) for seed in (1, 2)]
    leave(paths[0], "site-1")
    settle(read_run(paths[0]), "site-1", everywhere=True)
    assert KeptSums(paths[1]).clients() == ["site-0"]
    assert not (paths[1] / "model.safetensors").exists()
