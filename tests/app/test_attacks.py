"""Attacks in whole runs: who they are, what the server gets, and where they are refused."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import Nodes, column, info, outcome, run, settings
from flwr.app import Context, RecordDict

from celeba_fl.attacks.exchange import check_simulation
from celeba_fl.client_app import app as client_app
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import InlineGrid
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as server_app

OTHERS = ("sign-flip", "scale", "alie", "ipm")
# Slow are those that have nothing that the others have not.
MODELS = ("gaussian", "mimic", *(pytest.param(n, marks=pytest.mark.slow) for n in OTHERS))
MANY = {"num_server_rounds": 3, "min_replies": 0.0}


def attackers(path: Path) -> list[str]:
    return [row["client"] for row in read_csv(path / "attackers.csv")]


@pytest.mark.parametrize("attack", MODELS)
def test_an_attack_changes_the_model_and_resumes_alike(attack: str, tmp_path: Path) -> None:
    honest = column(run(tmp_path / "honest", 6, **MANY), "server_valid_score")
    keys = {"attack": attack, "attackers": 0.34, **MANY}
    whole = run(tmp_path / "whole", 6, **keys)
    assert column(whole, "server_valid_score") != honest
    assert len(attackers(whole)) == 2
    begun = run(tmp_path / "begun", 6, **{**keys, "num_server_rounds": 1})
    run(tmp_path / "begun", 6, resume="latest", **keys)
    assert outcome(begun) == outcome(whole)
    assert attackers(begun) == attackers(whole)


def test_the_server_gets_what_attackers_would_send(tmp_path: Path) -> None:
    keys = {"attack": "ipm", "attackers": 0.34, "attack_strength": 3, "weighting": "uniform"}
    path = run(tmp_path, 6, num_server_rounds=1, **keys)
    bad = {int(name) for name in attackers(path)}
    honest = [client + 1 for client in range(6) if client not in bad]
    expected = (sum(honest) - 2 * 3 * np.mean(honest)) / 6
    assert column(path, "server_valid_score")[-1] == pytest.approx(expected)


def test_a_round_that_is_tried_again_meets_the_same_attack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"attack": "gaussian", "num_server_rounds": 1, "round_retries": 1, "min_replies": 1.0}
    once = run(tmp_path / "once", 6, **keys)
    failed: list[int] = []

    def fault(client: int, number: int) -> None:
        if number and client == 5 and not failed:
            failed.append(client)
            raise RuntimeError("away")

    monkeypatch.setattr("adding.Adding.fault", staticmethod(fault))
    again = run(tmp_path / "again", 6, **keys)
    assert failed
    assert column(again, "server_valid_score") == column(once, "server_valid_score")


def test_what_the_loop_refuses_it_refuses_of_attackers_too(tmp_path: Path) -> None:
    keys = {"attack": "scale", "attackers": 0.2, "num_server_rounds": 1}
    for strength in (1e4, 1e200):  # too far from the others; infinite in single precision
        left_out = run(tmp_path / str(strength), 10, attack_strength=strength, **keys)
        assert column(left_out, "failures") == [0, 2]
    assert column(run(tmp_path / "usual", 10, **keys), "failures") == [0, 0]


def test_attackers_are_drawn_by_the_seed(tmp_path: Path) -> None:
    keys = {"attack": "scale", "attackers": 0.3, "num_server_rounds": 1}
    one, same, other = (
        attackers(run(tmp_path / str(i), 20, seed=seed, **keys)) for i, seed in enumerate((1, 1, 2))
    )
    assert one == same != other
    assert len(one) == 6


def test_without_an_attack_there_is_no_list(tmp_path: Path) -> None:
    path = run(tmp_path, 3, num_server_rounds=1)
    assert not (path / "attackers.csv").exists()
    assert info(path)["config"]["attack"] == "none"


class GrpcGrid(Nodes):
    """Sites that are deployed: of the name that Flower's has there, and none of a simulation."""


def test_a_deployment_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeba_fl.common.flower.SIMULATIONS", {"InMemoryGrid": 30.0})
    config = RunConfig.load(settings(tmp_path, attack="scale"))
    grid = GrpcGrid(client_app, 3, keys=config.to_dict())
    with pytest.raises(InputError, match="attack = 'scale': is for simulations alone"):
        server_app(grid, Context(grid.run.run_id, 0, {}, RecordDict(), {**config.to_dict()}))
    assert not grid.exchanges
    check_simulation(RunConfig.load(), grid)


def test_a_site_with_data_of_its_own_refuses(tmp_path: Path) -> None:
    config = RunConfig.load(settings(tmp_path, attack="scale"))
    grid = InlineGrid(client_app, [{"site": "a", "data-path": "/srv/a"}] * 2, config.to_dict())
    with pytest.raises(InputError, match=r"0 clients can .*attack = 'scale': .*of its own"):
        server_app(grid, Context(grid.run.run_id, 0, {}, RecordDict(), {**config.to_dict()}))


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"attack": "sums"}, "falsifies sums, and there are none"),
        ({"attack": "scale", "strategy": "closed-form"}, "falsifies models"),
        ({"attack": "label-flip", "strategy": "closed-form"}, "falsifies models"),
        ({"attack": "label-flip", "task": "dcgan"}, "of the tasks attributes and lenet alone"),
        ({"attack": "sums", "init": "closed-form", "task": "x:Y"}, "of the task attributes alone"),
        ({"attack": "ipm", "secure-aggregation": True}, "under secure-aggregation nobody does"),
    ],
)
def test_an_attack_on_nothing_is_refused(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"attack = '{keys['attack']}': ") + f".*{says}"):
        RunConfig.load(keys)
