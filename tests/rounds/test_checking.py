"""What a client may say in a round."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from adding import record
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from celeba_fl.common.arrays import Arrays
from celeba_fl.rounds.checking import (
    Client,
    Expectations,
    Judge,
    check_arrays,
    check_reply,
    fault,
    largest_sum,
    told_hashes,
)


class Strict(Expectations):
    """Wants a sum of 4, and a number of 5 in the final evaluation."""

    def check_sums(self, client: Client, sums: Arrays, instructions: Mapping[str, Any]) -> None:
        assert sums["s"] == 4

    def check_counts(self, client: Client, counts: Mapping[str, Arrays], final: bool) -> None:
        assert {*counts} == {"train", "valid"}
        assert counts["train"]["n"] == (5 if final else 7)


JUDGE = Judge(Strict(), {"a": Client(1, 7, 2, np.array([3]))}, {})


def reply(phase: str, metrics: dict[str, Any] | None = None, **arrays: Any) -> RecordDict:
    """An honest answer, with other metrics or records."""
    said = {"num-examples": 2 if "eval" in phase else 7, "seconds": 0.5, **(metrics or {})}
    of = {
        "train": {"arrays": {"w": 1.0}},
        "sums": {"arrays": {"s": 4}},
        "evaluate": {part: {"n": 7} for part in ("train", "valid")},
        "final evaluation": {part: {"n": 5} for part in ("train", "valid")},
    }[phase] | arrays
    records = {name: record(made) for name, made in of.items()}
    return RecordDict({**records, "metrics": MetricRecord(said)})


PHASES = ("train", "sums", "evaluate", "final evaluation")


@pytest.mark.parametrize("phase", PHASES)
def test_honest_answers_pass(phase: str) -> None:
    epochs = {"local-loss": 1.5, "epoch-train_loss": [1.0, 2.0], "epoch-valid_x2": [0.5, 1.0]}
    assert fault(JUDGE, "a", phase, reply(phase, epochs if phase == "train" else None)) == ""


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("number", [8, 2**62])
def test_the_number_of_examples_is_that_of_the_roll_call(phase: str, number: int) -> None:
    assert "by the roll call it has" in fault(
        JUDGE, "a", phase, reply(phase, {"num-examples": number})
    )


@pytest.mark.parametrize("phase", PHASES)
def test_other_records_and_metrics_are_refused(phase: str) -> None:
    more = reply(phase)
    more["note"] = ConfigRecord({"a": "b"})
    assert fault(JUDGE, "a", phase, more)
    renamed = reply(phase)
    renamed["other"] = renamed["metrics"]
    del renamed["metrics"]
    assert fault(JUDGE, "a", phase, renamed)
    assert "nobody asked for" in fault(JUDGE, "a", phase, reply(phase, {"=cmd|x": 1.0}))


@pytest.mark.parametrize(
    "epochs",
    [
        {"epoch-=cmd|x": [1.0]},
        {"epoch-test_loss": [1.0]},
        {"epoch-loss": [1.0]},
        {"epoch-train_loss\n": [1.0]},
        {"epoch-train_loss": 1.0},
        {"epoch-train_loss": [1.0], "epoch-valid_loss": [1.0, 2.0]},
    ],
)
def test_columns_of_epochs_are_columns(epochs: dict[str, Any]) -> None:
    assert fault(JUDGE, "a", "train", reply("train", epochs))


def test_what_the_task_finds_wrong_is_the_clients_fault() -> None:
    assert fault(JUDGE, "a", "sums", reply("sums", arrays={"s": 5})).startswith("nothing can be")
    assert fault(JUDGE, "a", "evaluate", reply("evaluate", train={"n": 5}))
    assert fault(JUDGE, "a", "evaluate", reply("evaluate", others={"n": 5}))
    assert fault(JUDGE, "a", "final evaluation", reply("evaluate"))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.float32([3e38]), "a number of size 3e+38; no honest one reaches 1e+15"),
        (np.float64([-1e300]), "a number of size 1e+300"),
        (np.int64([-(2**63)]), "a number of size 9.22e+18"),
        (np.uint64([2**64 - 1]), "a number of size 1.84e+19"),
        (np.float16([np.inf]), "has NaN or infinite values"),
        (np.array([np.nan, 1e300]), "has NaN or infinite values"),
        (np.array(["a"]), "holds no numbers"),
        (np.array([1j]), "holds no numbers"),
        (np.array([5], "M8[s]"), "holds no numbers"),
        (np.zeros(1, [("a", "f4")]), "holds no numbers"),
    ],
)
def test_arrays_hold_numbers_that_can_be_added_up(array: np.ndarray, words: str) -> None:
    assert words in fault(check_arrays, ArrayRecord({"w": Array(array)}))


def test_arrays_without_numbers_are_empty() -> None:
    assert fault(check_arrays, record({"w": np.zeros((0, 3)), "b": np.zeros((), bool)})) == ""


def test_exact_sums_may_be_larger_but_leave_room_for_those_of_others() -> None:
    sums = reply("sums", arrays={"s": np.array([2**60])})
    assert fault(check_reply, sums)
    assert fault(check_reply, sums, None, largest_sum(3)) == ""
    assert "do not fit into 64 bits" in fault(check_reply, sums, None, largest_sum(4))


@pytest.mark.parametrize("metric", [1e300, -(2**62), [0.5, 1e16]])
def test_metrics_can_be_added_up(metric: Any) -> None:
    assert "a metric has a number of size" in fault(check_reply, reply("train", {"x": metric}))


def test_hashes_are_those_that_were_told() -> None:
    first, second = "ab" * 32, "01" * 32
    told = {"weights": first, "all": [second, "x"], "n": 3, "no": first.upper(), "some": b"x"}
    assert told_hashes(told) == {first, second}
