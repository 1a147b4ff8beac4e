"""The rounds, with clients that add known numbers: client i holds i + 1 examples."""

import random
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import Nodes, adding_app, record, reply, values
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedYogi, Result, Strategy
from hypothesis import given, settings
from hypothesis import strategies as st

from celeba_fl.rounds import loop
from celeba_fl.rounds.aggregation import RoundFailedError
from celeba_fl.rounds.checkpoints import Checkpoints
from celeba_fl.rounds.cohort import Cohorts
from celeba_fl.rounds.loop import Loop, Retries
from celeba_fl.rounds.round import Round
from celeba_fl.rounds.stopping import StopRules

START = {"w": np.zeros(2)}


def flower(make: Callable[..., Strategy] = FedAvg, **options: Any) -> Strategy:
    """A strategy of Flower's as it is, that takes cohorts of any size."""
    return make(**options)


def train(
    nodes: Nodes,
    rounds: int = 1,
    *,
    start: dict[str, Any] = START,
    strategy: Strategy | None = None,
    timeout: float = 3600,
    evaluate_fn: Any = None,
    **options: Any,
) -> tuple[Result, list[Round], Loop]:
    """Run a loop; the result, all rounds, and the loop. Options are of its policies or its own."""
    done: list[Round] = []
    drawn = {f.name: options.pop(f.name) for f in fields(Cohorts) if f.name in options}
    retries = Retries(options.pop("min_replies", 0.0), options.pop("retries", 0))

    def note(round_: Round) -> dict[str, float]:
        done.append(round_)
        return {"valid_score": float(round_.averages.get("score", np.nan))}

    loop = Loop(nodes.by_name, Cohorts(**drawn), retries, **{"on_round": note, **options})
    result = loop.run(
        strategy or flower(), nodes, record(start), rounds, timeout, evaluate_fn=evaluate_fn
    )
    return result, done, loop


def raising(*clients: int, since: int = 1) -> Callable[[int, int], float]:
    """A step of clients of which some raise."""

    def step(client: int, number: int) -> float:
        if client in clients and number >= since:
            raise RuntimeError(f"client {client} has no power")
        return client + 1.0

    return step


# ---- one round ----------------------------------------------------------------------------


def test_clients_are_weighted_by_their_examples() -> None:
    result, done, _ = train(Nodes(adding_app(), 3), rounds=2)

    # (1 * 1 + 2 * 2 + 3 * 3) / 6 = 14 / 6 more in every round
    assert [values(round_.arrays)["w"][0] for round_ in done] == pytest.approx([0, 14 / 6, 28 / 6])
    assert values(result.arrays)["w"] == pytest.approx([28 / 6, 28 / 6])


def test_the_strategy_averages_the_clients_metrics() -> None:
    result, done, _ = train(Nodes(adding_app(), 2), rounds=1)

    # Client i scores the model plus i: (1 * 0 + 2 * 1) / 3 for zeros.
    assert done[0].averages["score"] == pytest.approx(2 / 3)
    assert done[1].averages["score"] == pytest.approx(5 / 3 + 2 / 3)
    assert result.evaluate_metrics_clientapp == {0: done[0].averages, 1: done[1].averages}
    assert list(result.train_metrics_clientapp) == [1]


def test_the_server_evaluates_every_model() -> None:
    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord | None:
        return MetricRecord({"test": values(arrays)["w"][0]}) if number else None

    result, done, _ = train(Nodes(adding_app(), 1), rounds=2, evaluate_fn=evaluate)

    assert [dict(round_.central) for round_ in done] == [{}, {"test": 1.0}, {"test": 2.0}]
    assert result.evaluate_metrics_serverapp[2] == {"test": 2.0}


def test_sums_are_of_double_precision_and_the_model_keeps_its_type() -> None:
    # In float32, 2**24 + 1 is 2**24: added one by one, the small ones would all be lost.
    start = {"w": np.zeros(1, np.float32)}

    def step(client: int, _: int) -> Any:
        added = np.float32(2.0**24 if client == 0 else 1.0)
        return lambda m: reply(m, {"w": np.float32([added])}, num_examples=1)

    result, _, _ = train(Nodes(adding_app(step), 5), start=start, fraction_evaluate=0)

    assert result.arrays["w"].dtype == "float32"
    assert values(result.arrays)["w"] == [np.float32((2.0**24 + 4) / 5)]
    assert np.float32(2.0**24) / np.float32(5) != np.float32((2.0**24 + 4) / 5)


def test_whole_numbers_are_rounded_and_not_cut() -> None:
    def step(client: int, _: int) -> Any:
        counted = {"n": np.int64([2, 3]) * client, "half": np.float16([client])}
        return lambda m: reply(m, counted, num_examples=1)

    start = {"n": np.zeros(2, np.int64), "half": np.zeros(1, np.float16)}
    result, _, _ = train(Nodes(adding_app(step), 4), start=start, fraction_evaluate=0)

    # Means of 0, 2, 4, 6 and of 0, 3, 6, 9: 3 and 4.5, to the even neighbour.
    assert values(result.arrays) == {"n": [3, 4], "half": [1.5]}
    assert [array.dtype for array in result.arrays.values()] == ["int64", "float16"]


def test_whole_numbers_above_the_half_go_up() -> None:
    app = adding_app(lambda client, _: 2 if client else 1)
    result, _, _ = train(Nodes(app, 2), start={"n": np.int64([0])}, fraction_evaluate=0)
    assert values(result.arrays) == {"n": [2]}  # (1 * 1 + 2 * 2) / 3 = 1.67


def test_a_client_without_examples_has_no_weight() -> None:
    def step(client: int, _: int) -> Any:
        return lambda m: reply(m, {"w": np.full(2, 10.0 * client)}, num_examples=client % 2)

    result, done, _ = train(Nodes(adding_app(step), 3), fraction_evaluate=0)

    assert values(result.arrays)["w"] == [10.0, 10.0]
    assert list(done[1].train.usable) == ["0", "1", "2"]
    assert done[1].train.failures == {}


def test_a_cohort_without_examples_keeps_the_model(caplog: pytest.LogCaptureFixture) -> None:
    def step(client: int, _: int) -> Any:
        return lambda m: reply(m, {"w": np.ones(2)}, num_examples=0)

    result, done, _ = train(Nodes(adding_app(step), 2), start={"w": np.full(2, 7.0)})

    assert values(result.arrays)["w"] == [7.0, 7.0]
    assert done[1].train.failures == {}
    assert "no client of the cohort has a train example" in caplog.text


def test_the_model_keeps_the_order_of_its_keys() -> None:
    def step(client: int, _: int) -> Any:
        return lambda m: reply(m, {"a": np.full(1, 1.0), "z": np.full(2, 2.0)}, num_examples=1)

    start = {"z": np.zeros(2), "a": np.zeros(1)}
    # FedAvgM goes by the order, whatever the keys.
    strategy = flower(FedAvgM, server_momentum=0.5)
    result, _, _ = train(
        Nodes(adding_app(step), 2), start=start, strategy=strategy, fraction_evaluate=0
    )
    assert list(result.arrays) == ["z", "a"]
    assert values(result.arrays) == {"z": [2.0, 2.0], "a": [1.0]}


@settings(max_examples=25, deadline=None)
@given(
    chance=st.randoms(use_true_random=False),
    make=st.sampled_from([FedAvg, FedAvgM, FedAdam, FedYogi]),
    shift=st.floats(-1e6, 1e6),
)
def test_nothing_depends_on_the_order_of_arrival(
    chance: random.Random, make: type[FedAvg], shift: float
) -> None:
    def step(client: int, number: int) -> Any:
        if client == 3:
            raise RuntimeError("no power")
        return np.random.default_rng((client, number)).normal(shift, size=2)

    def recorded(order: Callable[[list[Message]], list[Message]]) -> Any:
        nodes = Nodes(adding_app(step), 7, order)
        result, done, _ = train(
            nodes, rounds=2, start={"w": np.float32([1, 2])}, strategy=flower(make), seed=1
        )
        return [
            (
                {key: array.data for key, array in round_.arrays.items()},
                list(round_.train.usable),
                list(round_.train.failures),
                list(round_.evaluate.usable),
                dict(round_.averages),
            )
            for round_ in done
        ], dict(result.train_metrics_clientapp)

    assert recorded(lambda replies: replies) == recorded(
        lambda replies: chance.sample(replies, len(replies))
    )


# ---- cohorts ------------------------------------------------------------------------------


def asked(seed: int, **options: Any) -> list[tuple[str, list[str]]]:
    nodes = Nodes(adding_app(), 10)
    train(nodes, rounds=3, seed=seed, **options)
    return nodes.asked


def test_cohorts_are_the_same_in_every_run_and_others_in_every_round() -> None:
    first, again, other = (asked(seed, fraction_train=0.3) for seed in (1, 1, 2))

    cohorts = [names for phase, names in first if phase == "train"]
    assert first == again
    assert first != other
    assert [len(names) for names in cohorts] == [3, 3, 3]
    assert len({tuple(names) for names in cohorts}) > 1
    assert [phase for phase, _ in first] == ["evaluate", *["train", "evaluate"] * 3]


def test_fractions_and_minimum_numbers() -> None:
    sizes = [
        (phase, len(names))
        for phase, names in asked(
            1, fraction_train=0.1, min_train=2, fraction_evaluate=0.5, min_evaluate=1
        )
    ]
    assert sizes[:3] == [("evaluate", 5), ("train", 2), ("evaluate", 5)]


def test_a_cohort_has_no_more_than_there_are() -> None:
    assert {len(names) for _, names in asked(1, min_train=99, min_evaluate=99)} == {10}


@pytest.mark.parametrize(
    "options", [{"fraction_evaluate": 0.0}, {"fraction_evaluate": 0.05, "min_evaluate": 0}]
)
def test_no_evaluation_on_clients(options: dict[str, Any]) -> None:
    assert {phase for phase, _ in asked(1, **options)} == {"train"}


def test_ten_rounds_are_eleven_exchanges() -> None:
    nodes = Nodes(adding_app(), 3)
    _, done, _ = train(nodes, rounds=10)
    assert len(done) == 11
    assert nodes.exchanges == 11


def test_where_the_cohorts_differ_each_client_is_asked_for_its_part() -> None:
    types: list[str] = []

    class Noted(Nodes):
        def push_messages(self, messages: Any) -> Any:
            messages = list(messages)
            types.append(",".join(sorted({m.metadata.message_type for m in messages})))
            return super().push_messages(messages)

    nodes = Noted(adding_app(), 10)
    _, done, _ = train(nodes, 3, seed=1, fraction_train=0.5, fraction_evaluate=0.5)
    assert types == ["evaluate,train,train.together"] * 3 + ["evaluate"]
    assert [len(round_.evaluate.usable) for round_ in done] == [5] * 4
    assert [len(round_.train.usable) for round_ in done] == [0, 5, 5, 5]
    assert [set(round_.train.usable) == set(round_.evaluate.usable) for round_ in done[1:]] == [
        False
    ] * 3


@pytest.mark.parametrize("fraction", [1.0, 0.2, 0.0])
def test_the_last_evaluation_may_ask_everyone(fraction: float) -> None:
    told = []

    def note(message: Message, context: Context) -> Message:
        told.append(dict(message.content.config_records.get("config", {})))
        return adding_app()(message, context)

    nodes = Nodes(note, 10)
    _, done, loop = train(nodes, 1, fraction_evaluate=fraction, ask_everyone=True)

    assert nodes.asked[-1] == ("evaluate", [str(i) for i in range(10)])
    assert told[-10:] == [{"final": True, "server-round": 1}] * 10
    assert list(loop.final.usable) == [str(i) for i in range(10)]
    assert len(done[-1].evaluate.usable) == int(10 * fraction)  # still those of the cohort
    assert nodes.exchanges == 2


def test_the_strategy_is_asked_in_flowers_order() -> None:
    said: list[tuple[str, int]] = []

    class Noted(FedAvg):
        def configure_train(self, server_round: int, *args: Any) -> Any:
            said.append(("configure train", server_round))
            return super().configure_train(server_round, *args)

        def aggregate_train(self, server_round: int, *args: Any) -> Any:
            said.append(("aggregate train", server_round))
            return super().aggregate_train(server_round, *args)

        def configure_evaluate(self, server_round: int, *args: Any) -> Any:
            said.append(("configure evaluate", server_round))
            return super().configure_evaluate(server_round, *args)

        def aggregate_evaluate(self, server_round: int, *args: Any) -> Any:
            said.append(("aggregate evaluate", server_round))
            return super().aggregate_evaluate(server_round, *args)

    train(Nodes(adding_app(), 2), 2, strategy=Noted(), ask_everyone=True)
    kinds = ["configure train", "aggregate train", "configure evaluate", "aggregate evaluate"]
    for number, expected in ((0, kinds[2:]), (1, kinds), (2, kinds)):
        assert [what for what, at in said if at == number] == expected


def test_no_record_is_changed_once_it_has_been_sent() -> None:
    """Flower 1.42 would send what it was before, if that is sent as well."""
    sent: list[tuple[ConfigRecord, ConfigRecord]] = []

    class Noted(Nodes):
        def push_messages(self, messages: Any) -> Any:
            messages = list(messages)
            for message in messages:
                configs = message.content.config_records.values()
                sent.extend((config, ConfigRecord({**config})) for config in configs)
            return super().push_messages(messages)

    config = ConfigRecord({"learning-rate": 0.1})
    loop = Loop((nodes := Noted(adding_app(), 2)).by_name, ask_everyone=True)
    loop.run(FedAvg(), nodes, record(START), 3, train_config=config, evaluate_config=config)
    assert len(sent) == 20
    assert all(now == then for now, then in sent)


def test_an_app_that_cannot_answer_together_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    app = ClientApp()
    app.train()(lambda message, context: reply(message, START, num_examples=1))
    app.evaluate()(lambda message, context: reply(message, num_examples=1, score=0.0))
    with pytest.raises(RoundFailedError, match="0 of 2 clients"):
        train(Nodes(app, 2))
    assert "No train function registered with name 'together'" in caplog.text


# ---- failures -----------------------------------------------------------------------------


def test_failing_clients_are_left_out_named_and_noted(caplog: pytest.LogCaptureFixture) -> None:
    result, done, _ = train(Nodes(adding_app(raising(0, 2)), 4), min_replies=0.5)

    assert values(result.arrays)["w"] == pytest.approx([(2 * 2 + 4 * 4) / 6] * 2)
    assert list(done[1].train.usable) == ["1", "3"]
    assert list(done[1].train.failures) == ["0", "2"]
    assert "round 1, train: client 2 is left out: " in caplog.text
    assert "client 2 has no power" in caplog.text


def test_a_client_that_is_late_is_left_out() -> None:
    nodes = Nodes(adding_app(), 3, silent=[2])
    result, done, _ = train(nodes, timeout=0.05)
    assert values(result.arrays)["w"] == pytest.approx([5 / 3, 5 / 3])
    assert done[1].train.failures == {"2": "no answer within 0 s"}
    assert done[1].evaluate.failures == {"2": "no answer within 0 s"}


def test_an_unusable_model_is_left_out() -> None:
    app = adding_app(lambda client, _: np.nan if client == 1 else 1.0)
    result, done, _ = train(Nodes(app, 3))
    assert values(result.arrays)["w"] == [1.0, 1.0]
    assert done[1].train.failures == {"1": "array 'w' has NaN or infinite values"}


@pytest.mark.parametrize("spoil", [lambda w: w[:1], lambda w: w.astype(np.float32)])
def test_a_model_of_another_form_is_unusable_whoever_sends_it(spoil: Any) -> None:
    def step(client: int, _: int) -> Any:
        made = np.ones(2) if client == 0 else spoil(np.ones(2))
        return lambda m: reply(m, {"w": made}, num_examples=1)

    _, done, _ = train(Nodes(adding_app(step), 4))
    assert list(done[1].train.usable) == ["0"]
    assert "array 'w' is" in done[1].train.failures["1"]


def test_an_evaluation_without_examples_has_no_averages() -> None:
    app = ClientApp()

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return reply(message, num_examples=0, score=1.0)

    _, done, _ = train(Nodes(app, 2), rounds=0)
    assert list(done[0].evaluate.usable) == ["0", "1"]
    assert done[0].averages == {}


def test_an_evaluation_without_answers_is_no_reason_to_fail() -> None:
    app = adding_app()

    @app.evaluate("fails")
    def fails(message: Message, context: Any) -> Message:
        raise RuntimeError("no power")

    class Elsewhere(FedAvg):
        def _construct_messages(self, record: Any, node_ids: Any, message_type: str) -> Any:
            kind = "evaluate.fails" if message_type == "evaluate" else message_type
            return super()._construct_messages(record, node_ids, kind)

    result, done, _ = train(Nodes(app, 2), strategy=flower(Elsewhere))

    assert values(result.arrays)["w"] == pytest.approx([5 / 3, 5 / 3])
    assert list(done[1].evaluate.failures) == ["0", "1"]
    assert done[1].averages == {}


@pytest.mark.parametrize(
    ("min_replies", "nodes", "failing", "counts"),
    [(0.5, 4, 2, True), (0.5, 4, 3, False), (0.28, 25, 18, True), (0.28, 25, 19, False)],
)
def test_a_round_counts_from_min_replies_on(
    min_replies: float, nodes: int, failing: int, counts: bool
) -> None:
    grid = Nodes(adding_app(raising(*range(failing))), nodes)
    if counts:
        _, done, _ = train(grid, min_replies=min_replies)
        assert len(done[1].train.usable) == nodes - failing
    else:
        with pytest.raises(RoundFailedError, match=f"{nodes - failing} of {nodes} clients"):
            train(grid, min_replies=min_replies)


def test_without_any_usable_model_a_round_never_counts() -> None:
    with pytest.raises(RoundFailedError, match="0 of 2 clients"):
        train(Nodes(adding_app(raising(0, 1)), 2), min_replies=0.0)


@pytest.mark.parametrize(("retries", "tries"), [(0, 1), (2, 3)])
def test_a_round_that_does_not_count_is_tried_again(retries: int, tries: int) -> None:
    nodes = Nodes(adding_app(raising(0, 1)), 3)
    with pytest.raises(RoundFailedError, match=rf"\(min-replies\); tried {tries} times"):
        train(nodes, min_replies=0.5, retries=retries, fraction_evaluate=0)
    assert nodes.asked == [("train", ["0", "1", "2"])] * tries


def test_a_retry_starts_from_the_same_model() -> None:
    tries: list[list[float]] = []

    def step(client: int, _: int) -> Any:
        def train(message: Message) -> Message:
            w = message.content["arrays"]["w"].numpy()
            tries.append(w.tolist())
            if len(tries) <= 2:
                raise RuntimeError("no power yet")
            return reply(message, {"w": w + 1}, num_examples=1)

        return train

    nodes = Nodes(adding_app(step), 2)
    result, done, _ = train(nodes, start={"w": np.full(2, 3.0)}, min_replies=1.0, retries=1)

    assert tries == [[3.0, 3.0]] * 4
    assert values(result.arrays)["w"] == [4.0, 4.0]
    assert done[1].train.failures == {}


def test_before_a_retry_those_who_must_reply_are_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    awaited = []
    monkeypatch.setattr(loop, "await_nodes", lambda grid, *about: awaited.append(about))
    nodes = Nodes(adding_app(raising(*range(4))), 4)
    with pytest.raises(RoundFailedError):
        train(nodes, min_replies=0.7, retries=2, timeout=9, fraction_evaluate=0)
    assert awaited == [([nodes.by_name[name] for name in "0123"], 0.7, 9)] * 2


def test_a_failed_run_keeps_its_last_good_checkpoint(tmp_path: Path) -> None:
    nodes = Nodes(adding_app(raising(0, 1, since=3)), 2)
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(RoundFailedError, match="round 3"):
        train(nodes, rounds=5, checkpoints=checkpoints)

    restored = checkpoints.restore(flower())
    assert restored is not None
    assert restored.server_round == 2
    assert values(restored.arrays)["w"] == pytest.approx([10 / 3] * 2)


def test_a_strategy_without_a_result_fails_the_round() -> None:
    class Silent(FedAvg):
        def aggregate_train(self, server_round: int, replies: Any) -> tuple[None, None]:
            return None, None

    with pytest.raises(RoundFailedError, match="round 1: the strategy returned no model"):
        train(Nodes(adding_app(), 2), strategy=flower(Silent))


# ---- stop ---------------------------------------------------------------------------------


def test_a_stop_rule_ends_the_run_and_says_why() -> None:
    # One client: the score is the number of rounds.
    result, done, loop = train(Nodes(adding_app(), 1), 9, stop=StopRules("score", target=3.0))
    assert [round_.server_round for round_ in done] == [0, 1, 2, 3]
    assert values(result.arrays)["w"] == [3.0, 3.0]
    assert loop.reason == "target: valid_score is 3.0000, 3.0 was asked for"


def test_a_run_that_does_all_its_rounds_has_not_stopped() -> None:
    _, done, loop = train(Nodes(adding_app(), 1), 3, stop=StopRules("score", target=3.0))
    assert len(done) == 4
    assert loop.reason == ""


def test_stop_rules_judge_the_strategys_averages_by_default() -> None:
    nodes = Nodes(adding_app(), 1)
    loop = Loop(nodes.by_name, stop=StopRules("score", target=2.0))
    result = loop.run(flower(), nodes, record(START), 9)
    assert values(result.arrays)["w"] == [2.0, 2.0]


def test_seconds_of_earlier_parts_of_a_run_count(tmp_path: Path) -> None:
    checkpoints, nodes = Checkpoints(tmp_path), Nodes(adding_app(), 1)
    stop = StopRules("score")
    train(nodes, 1, checkpoints=checkpoints, stop=stop)
    stop.memory.seconds = 500.0
    checkpoints.save(1, record(START), flower(), stop.state())

    _, done, loop = train(nodes, 9, checkpoints=checkpoints, stop=StopRules(max_seconds=500.0))
    assert done == []
    assert loop.reason.startswith("max-seconds: 500 s")
    _, done, loop = train(nodes, 2, checkpoints=checkpoints, stop=StopRules(max_seconds=900.0))
    assert len(done) == 1
    assert loop.stop.memory.seconds > 500.0


# ---- resume -------------------------------------------------------------------------------

STRATEGIES = [FedAvg, FedAvgM, FedAdam, FedYogi]
MIXED = {"z": np.zeros((2, 2), np.float32), "a": np.zeros(3, np.float32), "m": np.zeros(1)}


def noisy(client: int, number: int) -> float:
    return float(np.random.default_rng((client, number)).normal())


def data(result: Result) -> dict[str, bytes]:
    return {key: array.data for key, array in result.arrays.items()}


@pytest.mark.parametrize("make", STRATEGIES)
@pytest.mark.parametrize("split", [0, 1, 3])
def test_a_run_in_two_parts_equals_one(tmp_path: Path, make: type[FedAvg], split: int) -> None:
    def part(rounds: int, folder: str) -> tuple[Result, list[Round], Loop]:
        return train(
            Nodes(adding_app(noisy), 5),
            rounds,
            start=MIXED,
            strategy=flower(make),
            checkpoints=Checkpoints(tmp_path / folder),
            seed=3,
            fraction_train=0.6,
        )

    whole, all_rounds, _ = part(4, "whole")
    _, first, _ = part(split, "parts")
    resumed, second, _ = part(4, "parts")

    assert data(resumed) == data(whole)
    assert list(resumed.arrays) == ["z", "a", "m"]
    # The last model of the first part is evaluated again, with the training of the next round.
    assert [r.server_round for r in first] == list(range(split + 1))
    assert [r.server_round for r in second] == list(range(split, 5))
    averages = [r.averages for r in all_rounds]
    assert [r.averages for r in first] == averages[: split + 1]
    assert [r.averages for r in second] == averages[split:]
    assert list(second[0].train.usable) == list(first[-1].train.usable)


def test_the_first_round_to_be_done_is_told(tmp_path: Path) -> None:
    firsts: list[int] = []
    for rounds in (0, 2, 2, 5):
        train(
            Nodes(adding_app(), 1),
            rounds,
            checkpoints=Checkpoints(tmp_path),
            on_start=firsts.append,
        )
    (tmp_path / "round-0005.safetensors").write_bytes(b"broken")
    _, done, _ = train(
        Nodes(adding_app(), 1), 6, checkpoints=Checkpoints(tmp_path), on_start=firsts.append
    )
    # What a checkpoint has is evaluated anew, with the training of the next round or alone.
    assert firsts == [0, 0, 2, 2, 4]
    assert [round_.server_round for round_ in done] == [4, 5, 6]


def test_with_all_rounds_done_a_run_only_evaluates_its_model(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    train(Nodes(adding_app(), 1), 2, checkpoints=checkpoints)
    nodes = Nodes(adding_app(), 1)
    result, done, _ = train(nodes, 2, checkpoints=checkpoints)
    assert values(result.arrays)["w"] == [2.0, 2.0]
    assert [round_.server_round for round_ in done] == [2]
    assert nodes.asked == [("evaluate", ["0"])]


def test_a_run_that_was_killed_when_it_had_stopped_stays_so(tmp_path: Path) -> None:
    def stopped() -> tuple[Result, list[Round], Loop]:
        return train(
            Nodes(adding_app(), 1),
            9,
            checkpoints=Checkpoints(tmp_path),
            stop=StopRules("score", target=3.0),
        )

    _, _, first = stopped()
    result, done, again = stopped()
    assert [round_.server_round for round_ in done] == [3]
    assert again.reason == first.reason != ""
    assert values(result.arrays)["w"] == [3.0, 3.0]


def test_the_best_round_keeps_its_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    app = adding_app(lambda client, number: 5.0 if number == 2 else -1.0)
    train(Nodes(app, 1), 6, checkpoints=checkpoints, stop=StopRules("score"))
    assert checkpoints.rounds() == [2, 6]


def test_patience_goes_on_after_a_resume(tmp_path: Path) -> None:
    app = adding_app(lambda client, number: 5.0 if number == 2 else -1.0)

    def part(rounds: int) -> list[int]:
        rules = StopRules("score", patience=3)
        _, done, _ = train(Nodes(app, 1), rounds, checkpoints=Checkpoints(tmp_path), stop=rules)
        return [round_.server_round for round_ in done]

    assert part(3) == [0, 1, 2, 3]
    assert part(9) == [3, 4, 5]


class Killed(BaseException):
    """Not even `except Exception` hears of it."""


@pytest.mark.parametrize("moment", ["on_progress", "on_round", "on_start", "evaluate_fn", "save"])
@pytest.mark.parametrize("number", range(1, 8))
def test_interrupted_anywhere_a_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, number: int
) -> None:
    def part(**options: Any) -> tuple[Result, list[Round], Loop]:
        return train(
            Nodes(adding_app(noisy), 3), 3, start=MIXED, strategy=flower(FedAvgM), **options
        )

    calls = 0

    def kill(*_: Any) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == number:
            raise Killed
        return {}

    whole, _, _ = part()
    checkpoints = Checkpoints(tmp_path)
    if moment == "save":
        save = Checkpoints.save

        def late(self: Checkpoints, *args: Any) -> None:
            kill()
            save(self, *args)

        monkeypatch.setattr(Checkpoints, "save", late)
        options = {}
    else:
        options = {moment: kill}
    try:
        part(checkpoints=checkpoints, **options)
    except Killed:
        pass
    else:
        assert calls < number

    monkeypatch.undo()
    resumed, _, _ = part(checkpoints=checkpoints)
    assert data(resumed) == data(whole)


def test_the_loop_draws_and_not_the_strategy() -> None:
    """Left to itself, this strategy would wait for a second client for ever."""
    result, rounds, _ = train(Nodes(adding_app(), 1), strategy=FedAvg(fraction_train=0.1))
    assert list(rounds[1].train.usable) == ["0"]
    assert values(result.arrays)["w"] == pytest.approx([1, 1])


def test_a_model_that_is_not_finite_fails_the_round() -> None:
    class Overflowing(FedAvg):
        def aggregate_train(self, *args: Any) -> Any:
            return record({"w": np.array([1, np.inf])}), None

    with pytest.raises(
        RoundFailedError, match=r"round 1: the strategy returned a model whose array .* has NaN or"
    ):
        train(Nodes(adding_app(), 2), strategy=Overflowing())


def test_a_grid_is_all_that_a_loop_needs() -> None:
    """It runs on any Grid; this one is not even asked for its nodes."""
    nodes = Nodes(adding_app(), 2)
    assert isinstance(nodes, Grid)
    nodes.get_node_ids = lambda: pytest.fail("asked")  # type: ignore[method-assign]
    result, _, _ = train(nodes)
    assert values(result.arrays)["w"] == pytest.approx([5 / 3, 5 / 3])


# ---- arrays in another order --------------------------------------------------------------


class Turned(FedAvg):
    """Returns its average in column order, as a solver of equations does."""

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        arrays, metrics = super().aggregate_train(server_round, replies)
        return record({k: np.array(v.numpy(), order="F") for k, v in arrays.items()}), metrics


@pytest.mark.parametrize("who", ["start", "strategy", "client"])
def test_arrays_are_contiguous_whoever_made_them(who: str) -> None:
    orders: list[bool] = []

    def step(client: int, number: int) -> Any:
        def made(message: Message) -> Message:
            arrays = {k: a.numpy() for k, a in message.content["arrays"].items()}
            orders.extend(array.flags.c_contiguous for array in arrays.values())
            order: Any = "F" if who == "client" else "C"
            moved = {k: np.array(a + 1, order=order) for k, a in arrays.items()}
            return reply(message, moved, num_examples=1)

        return made

    start = {"w": np.arange(6.0).reshape(2, 3), "one": np.zeros(())}
    if who == "start":
        start["w"] = np.asfortranarray(start["w"])
    strategy = Turned() if who == "strategy" else FedAvg()
    result, done, _ = train(Nodes(adding_app(step), 2), 2, start=start, strategy=strategy)
    assert orders == [True] * 8
    kept = [*result.arrays.values(), *done[0].arrays.values()]
    assert all(array.numpy().flags.c_contiguous for array in kept)
    assert result.arrays["one"].numpy().shape == ()
    assert (result.arrays["w"].numpy() == start["w"] + 2).all()


# ---- updates that are too large -------------------------------------------------------------


def steps_of(*steps: float, **options: Any) -> list[Any]:
    """The rounds of clients that make steps of these sizes."""
    grid, done = Nodes(adding_app(lambda client, _: steps[client]), len(steps)), []

    def note(round_: Any) -> dict[str, float]:
        done.append(round_)
        return {}

    loop = Loop(grid.by_name, on_round=note, **options)
    loop.run(FedAvg(), grid, record({"w": np.zeros(2)}), num_rounds=1)
    return done


def test_an_update_of_many_medians_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    done = steps_of(1, -1, 1, 101, max_update_norm=100)
    assert list(done[1].train.usable) == ["0", "1", "2"]
    assert "client 3 is left out: its update has norm 143, more than 100 times 1.41" in caplog.text
    assert not steps_of(1, -1, 1, 99, max_update_norm=100)[1].train.failures


@pytest.mark.parametrize("steps", [(1, 1e9), (1,), (0, 0, 0, 0, 1e9), (0, 0, 1, 1e9)])
def test_a_median_of_two_says_nothing(steps: tuple[float, ...]) -> None:
    assert not steps_of(*steps, max_update_norm=10)[1].train.failures


def test_clients_that_learned_nothing_do_not_count_for_the_median() -> None:
    assert not steps_of(0, 0, 0, 1, 1, 5, max_update_norm=10)[1].train.failures


def test_updates_of_any_size_may_be_allowed() -> None:
    assert not steps_of(1, 1, 1, 1e9)[1].train.failures


def test_no_update_reaches_what_cannot_be_added_up(caplog: pytest.LogCaptureFixture) -> None:
    done = steps_of(1, 1, 1e300)
    assert list(done[1].train.failures) == ["2"]
    assert "no honest one reaches 1e+15" in caplog.text
