"""Norms and cosines of updates that can be checked by hand."""

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import Nodes, adding_app, record
from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian

from celeba_fl.rounds.checkpoints import Checkpoints
from celeba_fl.rounds.exchange import Replies
from celeba_fl.rounds.loop import Loop
from celeba_fl.rounds.messages import TRAIN
from celeba_fl.rounds.round import Round
from celeba_fl.rounds.updates import compare_updates

BEFORE = record({"w": np.array([1.0, 1.0]), "steps": np.array(5)})


def rounds(nodes: Nodes, make: type[FedAvg] = FedAvg, **options: Any) -> list[Round]:
    """Two rounds, and the one before them."""
    done: list[Round] = []

    def note(now: Round) -> dict[str, float]:
        done.append(now)
        return {}

    start = record({"w": np.zeros(2)})
    Loop(nodes.by_name, on_round=note, **options).run(make(), nodes, start, 2)
    return done


def test_norm_and_cosine() -> None:
    models = {
        "along": record({"w": np.array([4.0, 5.0]), "steps": np.array(900)}),
        "across": record({"w": np.array([5.0, -2.0]), "steps": np.array(6)}),
        "against": record({"w": np.array([-5.0, -7.0]), "steps": np.array(6)}),
        "still": record({"w": np.array([1.0, 1.0]), "steps": np.array(7)}),
    }
    after = record({"w": np.array([1.3, 1.4]), "steps": np.array(6)})
    compared = compare_updates(models, BEFORE, after)
    assert {client: c["update_norm"] for client, c in compared.items()} == pytest.approx(
        {"along": 5, "across": 5, "against": 10, "still": 0}
    )
    cosines = {client: c["update_cosine"] for client, c in compared.items()}
    assert math.isnan(cosines.pop("still"))
    assert cosines == pytest.approx({"along": 1, "across": 0, "against": -1}, abs=1e-12)


def test_without_a_step_there_is_no_cosine() -> None:
    (one,) = compare_updates({"a": record({"w": [2.0, 2.0], "steps": 5})}, BEFORE, BEFORE).values()
    assert math.isnan(one["update_cosine"])


@pytest.mark.parametrize("make", [FedAvg, FedAdam, FedMedian])
def test_a_round_of_any_strategy_has_them_whatever_the_order(make: type[FedAvg]) -> None:
    """Client i adds i + 1 to both numbers: sqrt(2) (i + 1) long, and in one direction."""

    def shuffled(replies: list[Any]) -> list[Any]:
        return random.Random(7).sample(replies, len(replies))

    def updates(**options: Any) -> list[dict[str, dict[str, float]]]:
        return [one.train.updates for one in rounds(Nodes(adding_app(), 4, **options), make)]

    first = updates()
    assert first[0] == {}
    for of_round in first[1:]:
        norms = [one["update_norm"] for one in of_round.values()]
        assert norms == pytest.approx([math.sqrt(2) * (i + 1) for i in range(4)])
        assert [one["update_cosine"] for one in of_round.values()] == pytest.approx([1] * 4)
    assert updates(order=shuffled) == first


def test_who_fails_has_none() -> None:
    def step(client: int, number: int) -> float:
        return math.nan if client == 1 else 1.0

    done = rounds(Nodes(adding_app(step), 3))
    assert [*done[1].train.updates] == ["0", "2"]


def test_a_checkpoint_keeps_them(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    done = rounds(Nodes(adding_app(), 3), checkpoints=kept)
    checkpoint = kept.restore(FedAvg())
    assert checkpoint
    again = Replies.restored(checkpoint.trained["replies"], TRAIN)
    assert again.updates == done[2].train.updates != {}
    older = {k: v for k, v in checkpoint.trained["replies"].items() if k != "updates"}
    assert Replies.restored(older, TRAIN).updates == {}
