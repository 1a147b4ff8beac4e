"""Asynchronous rounds on a virtual clock, with clients that add known numbers."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import Nodes, adding_app, record, reply, values
from flwr.serverapp.strategy import FedAvg, FedProx, Result, Strategy

from celeba_fl.launch.virtual import VirtualClock
from celeba_fl.rounds.aggregation import RoundFailedError
from celeba_fl.rounds.asynchronous import AsynchronousLoop
from celeba_fl.rounds.checkpoints import Checkpoints
from celeba_fl.rounds.cohort import Cohorts
from celeba_fl.rounds.exchange import PhaseProgress
from celeba_fl.rounds.loop import Loop, Retries
from celeba_fl.rounds.round import Round
from celeba_fl.rounds.stopping import StopRules

START = {"w": np.zeros(2)}


def train(
    nodes: Nodes,
    rounds: int,
    *,
    kind: type[Loop] = AsynchronousLoop,
    strategy: Strategy | None = None,
    timeout: float = 3600,
    min_replies: float = 0.0,
    retries: int = 0,
    **options: Any,
) -> tuple[Result, list[Round], Loop]:
    """Run asynchronous rounds on the clock of the nodes; the result, all rounds, and the loop."""
    done: list[Round] = []

    def note(round_: Round) -> dict[str, float]:
        done.append(round_)
        return {"valid_score": float(round_.averages.get("score", np.nan))}

    drawn = {f.name: options.pop(f.name) for f in fields(Cohorts) if f.name in options}
    policies = Cohorts(**drawn), Retries(min_replies, retries)
    own = {"on_round": note, **options}
    loop = kind(nodes.by_name, *policies, **own)
    result = loop.run(strategy or FedAvg(), nodes, record(START), rounds, timeout)
    return result, done, loop


def clients(seconds: str, number: int, step: Any = None, **options: Any) -> Nodes:
    """Clients that take so many seconds each on a virtual clock."""
    app = adding_app(step) if step else adding_app()
    nodes = Nodes(app, number, keys={"client-seconds": seconds}, **options)
    nodes.clock = VirtualClock()
    return nodes


def weights(rounds: list[Round]) -> list[float]:
    return [values(round_.arrays)["w"][0] for round_ in rounds]


# ---- the arithmetic ---------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [FedAvg, FedProx])
def test_rounds_of_all_clients_are_those_of_a_synchronous_loop(strategy: Any) -> None:
    def noisy(client: int, number: int) -> float:
        return float(np.random.default_rng((client, number)).normal())

    def run(**options: Any) -> Any:
        options["strategy"] = strategy(proximal_mu=0.1) if strategy is FedProx else strategy()
        nodes = Nodes(adding_app(noisy), 5) if options.get("kind") else clients("1, 3=7", 5, noisy)
        _, done, _ = train(nodes, 4, seed=3, **options)
        return [
            (
                [array.data for array in round_.arrays.values()],
                round_.train.failures,
                list(round_.evaluate.usable),
                dict(round_.averages),
                (round_.train.bytes_up, round_.evaluate.bytes_down),
            )
            for round_ in done
        ]

    assert run(buffer=5) == run(kind=Loop)


def test_an_answer_to_an_older_model_counts_for_less() -> None:
    # Clients 0 and 1 add 1 and 2 each second, client 2 adds 3 to the first model, in 2.5 seconds.
    _, done, _ = train(clients("1, 2=2.5", 3), 4, buffer=2, step=1.0)

    first, second = 5 / 3, 2 * 5 / 3
    # Client 2 answers together with client 0, whose update is of the newest model.
    third = second + (1 * 1 + 3 * 3 / math.sqrt(3)) / 4
    assert weights(done)[:3] == pytest.approx([0, first, second])
    assert [dict(round_.train.staleness) for round_ in done[1:3]] == [{"0": 0, "1": 0}] * 2
    assert done[3].train.staleness == {"0": 0, "2": 2}
    assert weights(done)[3] == pytest.approx(third)
    # What client 1 made of the second model came too late for the third, and is of the fourth.
    assert done[4].train.staleness["1"] == 1


def test_a_round_of_few_clients_goes_as_far_as_they_are_of_all() -> None:
    _, done, _ = train(clients("1, 3=99", 4), 2, buffer=2)
    # Clients 0 and 1 add 1 and 2, then client 2 adds 3 to the first model, and client 0 again 1.
    first = 5 / 3 / 2
    second = first + (3 * 3 / math.sqrt(2) + 1 * 1) / 4 / 2
    assert weights(done) == pytest.approx([0, first, second])


# ---- who waits for whom -------------------------------------------------------------------------


def test_nobody_waits_for_a_slow_client() -> None:
    _, done, _ = train(clients("1, 0=20", 3), 40, buffer=2)
    assert [round_.seconds for round_ in done[1:20]] == [1.0] * 19
    trained = [number for number, round_ in enumerate(done) if "0" in round_.train.usable]
    # It answers after 20 seconds, and the round that it is in needs one other.
    assert trained == [20, 40]
    assert done[20].train.staleness["0"] == 19
    assert sum(round_.seconds for round_ in done) == 40


def test_half_of_the_clients_make_a_round_by_default() -> None:
    _, done, _ = train(clients("1", 5), 3)
    assert [len(round_.train.usable) for round_ in done] == [0, 3, 3, 3]
    # All five answer at once: two of the answers are of the round after.
    assert [[*round_.train.usable] for round_ in done[1:3]] == [["0", "1", "2"], ["0", "3", "4"]]


def test_a_buffer_has_no_more_answers_than_there_are_clients() -> None:
    _, done, _ = train(clients("1", 3), 2, buffer=9)
    assert [len(round_.train.usable) for round_ in done] == [0, 3, 3]


def test_progress_says_how_many_are_at_work() -> None:
    seen: list[PhaseProgress] = []
    train(clients("1, 0=20", 3), 1, buffer=2, on_progress=seen.append)
    told = [(now.round, now.asked, now.replied, now.failed, now.under_way) for now in seen]
    assert told[:2] == [(1, 2, 0, 0, 3), (1, 2, 2, 0, 1)]


def test_old_counts_are_left_out() -> None:
    _, done, _ = train(clients("1, 0=5.5", 3), 8, buffer=2)
    assert "0" in done[6].train.usable
    assert [*done[5].evaluate.usable] == ["1"]  # what client 0 counted is of the first model
    assert [*done[8].evaluate.usable] == ["0", "1", "2"]  # the last model is evaluated by all


# ---- failures -----------------------------------------------------------------------------------


def failing(*clients: int, until: int = 10**6) -> Any:
    """A step of clients of which some raise, up to a round."""

    def step(client: int, number: int) -> float:
        if client in clients and number <= until:
            raise RuntimeError(f"client {client} has no power")
        return client + 1.0

    return step


def test_a_client_that_fails_is_asked_again_later(caplog: pytest.LogCaptureFixture) -> None:
    nodes = clients("1", 4, failing(0, until=5))
    _, done, _ = train(nodes, 30, buffer=2)
    failed = [number for number, round_ in enumerate(done) if round_.train.failures]
    assert failed == [1]  # it rests for ten seconds, and by then has power
    assert "client 0 has no power" in done[1].train.failures["0"]
    assert "round 1, train: client 0 is left out" in caplog.text
    assert any("0" in round_.train.usable for round_ in done[10:])


def test_a_dead_client_fails_after_a_time_and_nobody_waits() -> None:
    nodes = clients("1", 3, silent=[2])
    _, done, _ = train(nodes, 12, buffer=2, timeout=5.5)
    late = {number: round_.train.failures for number, round_ in enumerate(done)}
    assert [number for number, why in late.items() if why] == [6]
    assert late[6] == {"2": "no answer within 6 s"}
    assert [round_.seconds for round_ in done[1:]] == [1.0] * 12


def test_with_nobody_left_at_work_fewer_answers_may_do() -> None:
    options: dict[str, Any] = {"buffer": 4, "min_replies": 0.5}
    _, done, _ = train(clients("1", 4, failing(0, 1)), 2, **options)
    assert [[*round_.train.usable] for round_ in done] == [[], ["2", "3"], ["2", "3"]]
    assert [[*round_.train.failures] for round_ in done[1:]] == [["0", "1"]] * 2


def test_too_few_answers_fail_a_round_after_it_was_tried_again() -> None:
    nodes = clients("1", 4, failing(0, 1, 2))
    with pytest.raises(RoundFailedError, match=r"round 1 .* 1 of 4 .* tried 3 times"):
        train(nodes, 2, buffer=4, min_replies=0.5, retries=2)
    assert [len(who) for part, who in nodes.asked if part == "train"] == [4, 4, 4]


def test_a_round_that_is_tried_again_may_succeed() -> None:
    tries = []

    def step(client: int, number: int) -> float:
        tries.append(client)
        if client and len(tries) <= 4:
            raise RuntimeError("no power")
        return 1.0

    _, done, _ = train(clients("1", 4, step), 2, buffer=2, min_replies=1, retries=1)
    assert [len(round_.train.usable) for round_ in done] == [0, 2, 2]
    assert [round_.evaluate.failures for round_ in done] == [{}] * 3


def test_an_unusable_answer_makes_no_round() -> None:
    def step(client: int, number: int) -> Any:
        if client == 0:
            return lambda message: reply(message, {"w": np.full(2, np.nan)}, num_examples=1)
        return 1.0

    _, done, _ = train(clients("1, 0=0.5", 4, step), 3, buffer=2)
    assert [len(round_.train.usable) for round_ in done] == [0, 2, 2, 2]
    assert "has NaN" in done[1].train.failures["0"]


# ---- stop and resume ----------------------------------------------------------------------------


def test_stop_rules_hold() -> None:
    _, done, loop = train(clients("1, 0=20", 3), 99, buffer=2, stop=StopRules(max_seconds=7))
    assert len(done) == 8
    assert loop.reason == "max-seconds: 7 s of 7 s are over"
    _, done, loop = train(clients("1, 0=20", 3), 99, buffer=2, stop=StopRules("score", target=9.0))
    assert loop.reason.startswith("target: valid_score is ")


@pytest.mark.parametrize("split", [0, 1, 3, 6, 9])
@pytest.mark.parametrize("seconds", ["1, 2=2.5, 4=7", "0.1, 1=0.3, 2=0.7", "1"])
def test_a_run_in_two_parts_equals_one(tmp_path: Path, split: int, seconds: str) -> None:
    def noisy(client: int, number: int) -> float:
        if client == 3 and number in (2, 3):
            raise RuntimeError("no power")
        return float(np.random.default_rng((client, number)).normal())

    def part(rounds: int, folder: str) -> list[Any]:
        kept = Checkpoints(tmp_path / folder)
        _, done, _ = train(clients(seconds, 5, noisy), rounds, buffer=2, checkpoints=kept)
        return [
            (
                round_.server_round,
                round_.seconds,
                values(round_.arrays),
                round_.train.state(),
                round_.evaluate.state(),
                dict(round_.averages),
            )
            for round_ in done
        ]

    whole = part(12, "whole")
    part(split, "parts")
    assert part(12, "parts") == whole[split:]


def test_a_client_that_has_gone_is_not_asked_again(tmp_path: Path) -> None:
    train(clients("1, 0=20", 3), 3, buffer=2, checkpoints=Checkpoints(tmp_path))
    nodes = clients("1", 3)
    del nodes.by_name["0"]
    _, done, _ = train(nodes, 5, buffer=2, checkpoints=Checkpoints(tmp_path))
    assert [round_.server_round for round_ in done] == [3, 4, 5]
