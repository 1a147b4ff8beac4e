"""Runs under a privacy budget: what leaves a client, what the ledgers have, what is refused."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import info, settings
from budgeted import AVERAGED, CLOSED, Budgeted, run_budgeted
from safetensors.numpy import load_file
from seen_by_server import Seen, audit_of
from watched import watch

from celeba_fl.common.errors import InputError
from celeba_fl.privacy.ledger import epsilon_of
from celeba_fl.runs.tables import read_csv
from celeba_fl.task import Tables

# Other numbers, more of them, and none at all.
OTHERS = {0: [0.5, -1.0, 1.0, 1.0], 1: [], 2: [-0.5]}


def ledger(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / "privacy.json").read_text()))


def told(path: Path) -> dict[str, tuple[Any, Any]]:
    """All that has arrived at the server, by exchange and client, but for what noise is put on."""

    def plain(seen: Seen) -> tuple[Any, Any]:
        about = {key: value for key, value in seen.said.items() if key != "node"}
        arrays = {
            name: (array.shape, str(array.dtype), None if "arrays/" in name else array.tolist())
            for name, array in seen.arrays.items()
        }
        return about, arrays

    return {seen.where: plain(seen) for seen in audit_of(path)}


@pytest.mark.parametrize("keys", [CLOSED, AVERAGED], ids=["closed form", "averages"])
def test_no_message_depends_on_what_a_client_holds_but_by_what_is_noisy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any]
) -> None:
    one = run_budgeted(tmp_path / "one", keys, audit=True)
    monkeypatch.setattr(Budgeted, "held", OTHERS)
    other = run_budgeted(tmp_path / "other", keys, audit=True)
    assert told(one) == told(other)
    assert {json.dumps(about["records"]["metrics"]) for about, _ in told(one).values()} == {
        '{"num-examples": 1, "num-valid": 0}',
        '{"num-examples": 1}',
    }
    if keys is CLOSED:  # so that more than nothing has been compared
        first, second = (load_file(path / "model.safetensors") for path in (one, other))
        assert not np.array_equal(first["weight"], second["weight"])


@pytest.mark.parametrize("number", [0, 1], ids=["roll call", "sums"])
def test_an_error_of_a_client_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(client: int, at: int) -> None:
        if (client, at) == (1, number):
            raise ValueError(f"the row of Anna, line {at}")

    monkeypatch.setattr(Budgeted, "fault", staticmethod(fail))
    # As at a deployed site: the log of a simulation is that of the run.
    monkeypatch.setattr(sys.modules["celeba_fl.client_app"], "simulated", lambda: False)
    monkeypatch.setenv("CELEBA_FL_HOME", str(tmp_path / "site"))
    path = run_budgeted(tmp_path / "runs", {**CLOSED, "min-available-clients": 1}, audit=True)
    (said,) = [about["error"]["reason"] for about, _ in told(path).values() if "error" in about]
    assert not [word for word in ("Anna", "ValueError", "line") if word in said]
    assert "its own log says why" in said
    assert "the row of Anna" in caplog.text  # there


def test_the_ledger_has_each_release_and_the_total(tmp_path: Path) -> None:
    said = ledger(run_budgeted(tmp_path / "runs", CLOSED))
    (release,) = said["releases"]
    assert (said["unit"], said["delta"], said["public"]) == ("image", 1e-5, ["nothing"])
    assert said["total"] == pytest.approx(1.0, abs=1e-3) == release["epsilon"]
    assert (release["round"], release["who"]) == (1, "the total of 3 clients at most")
    assert any("server is trusted" in text for text in said["assumptions"])


def test_nobody_evaluates_and_nothing_is_known_of_what_clients_hold(tmp_path: Path) -> None:
    path = run_budgeted(tmp_path / "runs", CLOSED)
    (_, row) = read_csv(path / "rounds.csv")
    assert row["valid_loss"] == row["train_loss"] == "" != row["test_loss"]
    assert {each["num_examples"] for each in read_csv(path / "clients.csv")} == {""}
    assert not (path / "partitions.csv").exists()
    assert info(path)["num_clients"] == 3


def test_a_round_is_not_tried_again_beyond_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(client: int, at: int) -> None:
        if at:
            raise ValueError("no")

    monkeypatch.setattr(Budgeted, "fault", staticmethod(fail))
    with pytest.raises(InputError, match=r"privacy-epsilon = 1: with round 1 it would be 1\.4"):
        run_budgeted(tmp_path / "runs", CLOSED)
    (path,) = (tmp_path / "runs").glob("2*")
    assert len(ledger(path)["releases"]) == 1  # the words were on the way
    lines = (tmp_path / "home" / "privacy" / "0.jsonl").read_text().splitlines()
    assert len(lines) == 1  # and none came twice
    # Nor by a run that goes on.
    monkeypatch.setattr(Budgeted, "fault", staticmethod(lambda *_: None))
    with pytest.raises(InputError, match="round 1 has been asked for; nothing more"):
        run_budgeted(tmp_path / "runs", CLOSED, resume=str(path))


def test_a_total_under_masks_that_nobody_opened_is_asked_for_again(tmp_path: Path) -> None:
    masked = {**CLOSED, "privacy-noise": "clients", "secure-aggregation": True}
    keys = {**settings(tmp_path / "runs"), "home": str(tmp_path / "home"), **masked}
    _, path = watch(
        {**keys, "task": "budgeted:Budgeted"},
        3,
        lambda client, step, serial: (step, serial) == ("mask", 2) and client > 0,
    )
    assert info(path)["status"] == "completed"
    said = ledger(path)
    assert [one["opened"] for one in said["releases"]] == [False, True]
    assert said["total"] == pytest.approx(1.0, abs=1e-3)
    # A site cannot know that nobody has opened it.
    assert len((tmp_path / "home" / "privacy" / "0.jsonl").read_text().splitlines()) == 2


def test_a_run_that_goes_on_after_its_release_asks_for_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: Any) -> Tables:
        raise RuntimeError("the power is cut")

    with monkeypatch.context() as patch:
        patch.setattr(Budgeted, "finish", end)
        with pytest.raises(RuntimeError, match="power"):
            run_budgeted(tmp_path / "runs", CLOSED)
    (path,) = (tmp_path / "runs").glob("2*")
    of_site = nodes(privacy_limit=1.2, privacy_delta=1e-5, privacy_unit="image")
    run_budgeted(tmp_path / "runs", CLOSED, of_site, resume=str(path))
    assert (info(path)["status"], info(path)["num_clients"]) == ("completed", 3)
    assert len(ledger(path)["releases"]) == 1
    assert len((tmp_path / "home" / "privacy" / "0.jsonl").read_text().splitlines()) == 1


# ---- the site's own ledger ------------------------------------------------------------------


def nodes(**config: Any) -> list[dict[str, Any]]:
    """Three nodes, of which the second has a node config of its own."""
    plain = [{"partition-id": i, "num-partitions": 3} for i in range(3)]
    plain[1] |= {key.replace("_", "-"): value for key, value in config.items()}
    return plain


def test_a_site_refuses_beyond_its_own_limit_whoever_asks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    of_site = nodes(privacy_limit=1.2, privacy_delta=1e-5, privacy_unit="image")
    keys = {**CLOSED, "min-available-clients": 2}
    first = run_budgeted(tmp_path / "first", keys, of_site)
    assert info(first)["num_clients"] == 3
    second = run_budgeted(tmp_path / "second", keys, of_site)
    assert info(second)["num_clients"] == 2  # the others have set none
    assert "client 1: privacy-limit = 1.2: after this run" in caplog.text
    assert "1 of it in other runs" in caplog.text
    third = run_budgeted(tmp_path / "third", keys, of_site, **{"privacy-epsilon": 0.5})
    assert info(third)["num_clients"] == 3
    lines = [
        json.loads(line) for line in (tmp_path / "home/privacy/1.jsonl").read_text().splitlines()
    ]
    z = [line["noise_multiplier"] for line in lines]
    assert len(z) == 2
    assert epsilon_of(z, 1e-5) < 1.2


@pytest.mark.parametrize(
    ("config", "keys", "why"),
    [
        ({"privacy_limit": 4.0, "privacy_delta": 1e-5}, {}, "protects a person"),
        ({"privacy_limit": 4.0}, {}, "IGNORED"),
        (
            {"privacy_limit": 4.0, "privacy_delta": 1e-5},
            {"strategy": "fedavg", "weighting": "examples"},
            "under a privacy budget alone",
        ),
    ],
    ids=["a weaker unit", "no delta", "no budget"],
)
def test_a_site_with_a_limit_takes_part_in_nothing_weaker(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    config: dict[str, Any],
    keys: dict[str, Any],
    why: str,
) -> None:
    usual = {} if keys else CLOSED
    more = {**usual, **keys, "min-available-clients": 2}
    path = run_budgeted(tmp_path / "runs", more, nodes(**config))
    assert info(path)["num_clients"] == 2
    assert ("its own log says why" if why == "IGNORED" else why) in caplog.text


# ---- averaging -------------------------------------------------------------------------------


def test_averages_hide_a_client_for_all_rounds_together(tmp_path: Path) -> None:
    path = run_budgeted(tmp_path / "runs", AVERAGED)
    said = ledger(path)
    assert [one["round"] for one in said["releases"]] == [1, 2]
    assert said["total"] == pytest.approx(1.0, abs=1e-3)
    first = said["releases"][0]
    assert first["sensitivity"] == pytest.approx(1 / 3)  # of a mean of three, clipped to 1
    assert {row["update_norm"] for row in read_csv(path / "clients.csv")} == {""}
    # Each client adds 1 to 3; clipped, all of it is less than the noise.
    weight = load_file(path / "model.safetensors")["weight"]
    assert np.abs(weight).max() < 10 * np.sqrt(2) * first["sigma"]


def test_averages_that_go_on_count_earlier_rounds(tmp_path: Path) -> None:
    keys = {**AVERAGED, "privacy-epsilon": 4.0}
    path = run_budgeted(tmp_path / "runs", keys, **{"max-seconds": 1e-9})
    assert [one["round"] for one in ledger(path)["releases"]] == []
    run_budgeted(tmp_path / "runs", keys, resume=str(path))
    assert [one["round"] for one in ledger(path)["releases"]] == [1, 2]
    with pytest.raises(InputError, match="with round 3 it would be"):
        run_budgeted(tmp_path / "runs", keys, resume=str(path), **{"num-server-rounds": 3})
