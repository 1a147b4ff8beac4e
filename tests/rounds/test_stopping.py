"""The stop rules, by hand."""

import math

import pytest

from celeba_fl.rounds.stopping import StopRules

NAN = math.nan
SCORES = (0.5, 0.7, 0.6, 0.7, 0.8)


def rounds_until(rules: StopRules, values: tuple[float, ...], part: str = "valid") -> int | None:
    """The round after which the rules want to stop; a round takes 10 s."""
    for number, value in enumerate(values):
        rules.note(number, {f"{part}_{rules.watch}": value})
        rules.memory.seconds = 10.0 * (number + 1)
        if rules.reason(number):
            return number
    return None


@pytest.mark.parametrize(("target", "stops"), [(0.7, 1), (0.71, 4), (0.8, 4), (0.81, None)])
def test_target(target: float, stops: int | None) -> None:
    assert rounds_until(StopRules("score", target=target), SCORES) == stops


@pytest.mark.parametrize(("target", "stops"), [(0.7, 0), (0.5, 0), (0.45, 2), (0.3, None)])
def test_of_loss_less_is_better(target: float, stops: int | None) -> None:
    rules = StopRules("loss", target=target)
    assert rounds_until(rules, (0.5, 0.6, 0.4, 0.5)) == stops


def test_a_task_may_name_other_metrics_of_which_less_is_better() -> None:
    rules = StopRules("distance", patience=2, lower_is_better=("distance",))
    assert rounds_until(rules, (9.0, 5.0, 7.0, 6.0, 1.0)) == 3
    assert (rules.memory.best_round, rules.memory.best_value) == (1, 5.0)
    assert rounds_until(StopRules("loss", target=0.5, lower_is_better=()), (0.4, 0.6)) == 1


@pytest.mark.parametrize(("patience", "stops"), [(1, 2), (2, 3), (3, None)])
def test_patience_counts_rounds_without_a_better_value(patience: int, stops: int | None) -> None:
    assert rounds_until(StopRules("score", patience=patience), SCORES) == stops


def test_patience_with_loss() -> None:
    rules = StopRules("loss", patience=2)
    assert rounds_until(rules, (0.5, 0.4, 0.4, 0.45, 0.3)) == 3
    assert (rules.memory.best_round, rules.memory.best_value) == (1, 0.4)


@pytest.mark.parametrize(("seconds", "stops"), [(10.0, 0), (10.5, 1), (20.0, 1), (51.0, None)])
def test_max_seconds_ends_after_the_round_that_reaches_it(
    seconds: float, stops: int | None
) -> None:
    assert rounds_until(StopRules("score", max_seconds=seconds), SCORES) == stops


def test_all_rules_are_off_by_default() -> None:
    assert rounds_until(StopRules("score"), SCORES * 50) is None


def test_the_best_round_is_the_first_of_equals() -> None:
    rules = StopRules("score")
    rounds_until(rules, SCORES[:4])
    assert (rules.memory.best_round, rules.memory.best_value) == (1, 0.7)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (StopRules("score", target=0.7), "target: valid_score is 0.7000, 0.7 was asked for"),
        (
            StopRules("score", patience=2),
            "patience: valid_score has not been better than the 0.7000 of round 1 for 2 rounds",
        ),
        (StopRules("score", max_seconds=15.0), "max-seconds: 20 s of 15 s are over"),
    ],
)
def test_reasons_name_the_rule_and_the_figures(rules: StopRules, reason: str) -> None:
    stops = rounds_until(rules, SCORES)
    assert stops is not None
    assert rules.reason(stops) == reason


def test_test_metrics_decide_nothing() -> None:
    rules = StopRules("score", target=0.1, patience=1)
    assert rounds_until(rules, SCORES, part="test") is None
    assert rules.memory.best_round is None


def test_the_servers_validation_part_goes_before_the_clients() -> None:
    rules = StopRules("score")
    rules.note(1, {"valid_score": 0.9, "server_valid_score": 0.4, "test_score": 1.0})
    assert (rules.memory.name, rules.memory.value) == ("server_valid_score", 0.4)
    rules.note(2, {"valid_score": 0.9, "server_valid_score": NAN})
    assert (rules.memory.name, rules.memory.value) == ("valid_score", 0.9)


def test_an_undefined_metric_is_neither_a_target_nor_a_best() -> None:
    rules = StopRules("score", target=0.5)
    assert rounds_until(rules, (NAN, NAN)) is None
    assert rules.memory.best_round is None


@pytest.mark.parametrize("rules", [{"target": 0.5}, {"patience": 1}])
def test_rules_that_have_nothing_to_go_by_say_so(
    rules: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    metrics = {"test_distance": 9.0, "valid_loss": 3.0, "valid_auroc": 0.4, "valid_f1": NAN}
    metrics["server_valid_auroc"] = 0.5
    quiet = StopRules("distance", max_seconds=50.0)
    quiet.note(0, metrics)
    assert not caplog.messages
    watching = StopRules("distance", **rules)
    watching.note(0, metrics)
    assert caplog.messages == [
        "round 0: distance has had no value on validation examples, so neither target nor "
        "patience can end the run, and no checkpoint is the best; metrics with a value: auroc, loss"
    ]
    watching.note(1, {**metrics, "valid_distance": 1.0})
    watching.note(2, metrics)
    assert len(caplog.messages) == 1


def test_undefined_rounds_use_up_patience() -> None:
    assert rounds_until(StopRules("score", patience=2), (0.5, NAN, NAN)) == 2


def test_restored_rules_go_on_as_if_nothing_had_been() -> None:
    before = StopRules("score", patience=2)
    rounds_until(before, SCORES[:3])
    after = StopRules("score", patience=2)
    after.restore(before.state())

    assert after.memory == before.memory
    assert after.memory.seconds == 30.0
    assert after.reason(2) == ""
    after.note(3, {"valid_score": 0.7})
    assert after.reason(3).startswith("patience")


def test_restored_rules_may_have_changed() -> None:
    before = StopRules("score", target=0.7)
    assert rounds_until(before, SCORES) == 1
    after = StopRules("score", target=0.75)
    after.restore(before.state())
    assert after.reason(1) == ""


def test_a_round_that_is_not_noted_yet_ends_by_time_alone() -> None:
    rules = StopRules("score", target=0.7, max_seconds=20.0)
    rules.note(0, {"valid_score": 0.9})
    assert rules.reason(0).startswith("target")
    assert rules.reason(1) == ""
    rules.memory.seconds = 20.0
    assert rules.reason(1).startswith("max-seconds")


@pytest.mark.parametrize(
    ("metrics", "decide"),
    [
        ({"server_valid_score": 0.1}, True),
        ({"server_valid_score": NAN, "test_score": 1.0}, False),
        ({"valid_score": 1.0}, False),
        ({}, False),
    ],
)
def test_the_servers_own_metrics_decide_if_they_have_the_value(
    metrics: dict[str, float], decide: bool
) -> None:
    assert StopRules("score").decided_by(metrics) == decide
