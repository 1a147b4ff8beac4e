"""The ledger of a run: what releases add up to, and that nothing goes beyond the budget."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from dp_accounting import get_epsilon_gaussian
from hypothesis import given, settings
from hypothesis import strategies as st

from celeba_fl.common.errors import InputError
from celeba_fl.privacy.ledger import Budget, Ledger, Release, epsilon_of
from celeba_fl.rounds.exchange import Replies

DELTA = 1e-5
ONE = Release("a sum", "Gaussian", sensitivity=2.0, sigma=8.0)


def ledger(folder: Path, epsilon: float = 2.0, noise: str = "server", rounds: int = 2) -> Ledger:
    budget = Budget(epsilon, DELTA, "person", noise, 10)
    return Ledger(folder, budget, [ONE], range(1, rounds + 1), 3, ["those"], ["this"])


def said(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "privacy.json").read_text()))


def epsilon_by_definition(z: float, delta: float) -> float:
    """By bisection of equation 8 of Balle and Wang."""

    def normal(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    low, high = 0.0, 50.0
    for _ in range(200):
        e = (low + high) / 2
        is_more = normal(1 / (2 * z) - e * z) - math.exp(e) * normal(-1 / (2 * z) - e * z) > delta
        low, high = (e, high) if is_more else (low, e)
    return high


@settings(max_examples=20)
@given(st.lists(st.floats(0.8, 50), min_size=1, max_size=8))
def test_releases_add_up_as_one_of_less_noise(multipliers: list[float]) -> None:
    together = sum(1 / z**2 for z in multipliers) ** -0.5
    expected = epsilon_by_definition(together, DELTA)
    assert epsilon_of(multipliers, DELTA) == pytest.approx(expected, rel=1e-6)


def test_nothing_costs_nothing() -> None:
    assert epsilon_of([], DELTA) == 0.0


def test_the_multiplier_is_the_noise_by_what_it_hides() -> None:
    assert ONE.noise_multiplier == 4.0
    half = Release("a sum", "Gaussian", sensitivity=1.0, sigma=8.0)  # a wrong sensitivity
    assert epsilon_of([half.noise_multiplier], DELTA) < epsilon_of([ONE.noise_multiplier], DELTA)


def test_a_plan_beyond_the_budget_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    alone = get_epsilon_gaussian(4.0, DELTA)
    ledger(tmp_path / "one", alone, rounds=1)
    with pytest.raises(InputError, match=r"with round 1, 2 it would be 1\.\d+ at delta 1e-05"):
        ledger(tmp_path / "two", alone, rounds=2)
    assert not (tmp_path / "two" / "privacy.json").exists()


def test_what_is_spent_stays_spent(tmp_path: Path) -> None:
    ledger(tmp_path).spend(1)
    ledger(tmp_path).spend(2)
    assert [one["round"] for one in said(tmp_path)["releases"]] == [1, 2]
    assert said(tmp_path)["total"] == pytest.approx(get_epsilon_gaussian(4 / math.sqrt(2), DELTA))
    with pytest.raises(InputError, match="round 1, 2 has been asked for"):
        ledger(tmp_path, said(tmp_path)["total"], rounds=0).spend(3)


@pytest.mark.parametrize(
    "text", ["no json", "{}", '{"releases": [{"round": 1}]}', '{"releases": [1]}']
)
def test_a_ledger_that_cannot_be_read_ends_the_run(tmp_path: Path, text: str) -> None:
    (tmp_path / "privacy.json").write_text(text)
    with pytest.raises(InputError, match=r"privacy\.json cannot be read"):
        ledger(tmp_path)


def exchange(opened: bool, asked: list[str]) -> Any:
    """What does an exchange, for `Ledger.counting`; it notes that it was there."""

    def send(grid: Any, requests: Mapping[str, Any], *_: Any, **__: Any) -> dict[str, Replies]:
        asked.extend(requests)
        return {part: Replies(opened=opened) for part in requests}

    return send


@pytest.mark.parametrize("part", ["train", "sums"])
def test_training_is_written_down_before_it_is_asked_for(tmp_path: Path, part: str) -> None:
    asked: list[str] = []
    send = ledger(tmp_path, 0.93, rounds=1).counting(exchange(False, asked))
    send(None, {"evaluate": []}, server_round=1)
    assert said(tmp_path)["releases"] == []
    send(None, {part: []}, server_round=1)
    assert len(said(tmp_path)["releases"]) == 1
    with pytest.raises(InputError, match="privacy-epsilon"):
        send(None, {part: []}, server_round=1)
    assert asked == ["evaluate", part]


def test_a_total_that_nobody_asked_for_has_said_nothing(tmp_path: Path) -> None:
    asked: list[str] = []
    book = ledger(tmp_path, 0.93, "clients", rounds=1)
    book.counting(exchange(False, asked))(None, {"sums": []}, server_round=1)
    assert said(tmp_path)["total"] == 0.0
    assert [one["opened"] for one in said(tmp_path)["releases"]] == [False]
    send = book.counting(exchange(True, asked))
    send(None, {"sums": []}, server_round=1)
    assert [one["opened"] for one in said(tmp_path)["releases"]] == [False, True]
    assert said(tmp_path)["total"] == pytest.approx(get_epsilon_gaussian(4.0, DELTA))
    with pytest.raises(InputError, match="privacy-epsilon"):
        send(None, {"sums": []}, server_round=1)
