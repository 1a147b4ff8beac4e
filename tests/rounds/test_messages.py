"""The words of a message: what one side writes, the other one reads."""

import math

import numpy as np
import pytest
from adding import record, values
from flwr.app import Array, ConfigRecord, MetricRecord, RecordDict

from celeba_fl.rounds import messages
from celeba_fl.rounds.messages import Introduction


def test_an_introduction_comes_back() -> None:
    counts = np.array([3, 4])
    content = Introduction("Rome", 7, 2, counts, "abc", "hash", "/here").to_content()
    read = Introduction.of(content)
    assert (read.name, read.num_train, read.num_valid) == ("Rome", 7, 2)
    assert (read.missing, read.code, read.path) == ("abc", "hash", "/here")
    assert read.counts.tolist() == [3, 4]
    assert dict(content["client"]) == {
        "name": "Rome",
        "missing": "abc",
        "code": "hash",
        "path": "/here",
    }


def test_exact_sums_come_back_and_without_them_there_are_none() -> None:
    sums = {"x": np.array([2**62, -1]), "n": np.array([3])}
    told = Introduction("Rome", 7, 2, np.array([3]), "", "hash", "/here", sums).to_content()
    read = Introduction.of(told).sums
    assert {key: array.tolist() for key, array in read.items()} == {"x": [2**62, -1], "n": [3]}
    assert read["x"].dtype == np.int64
    silent = Introduction("Rome", 7, 2, np.array([3]), "", "hash", "/here").to_content()
    assert Introduction.of(silent).sums == {}
    del silent["sums"]
    assert Introduction.of(silent).sums == {}


def test_only_a_client_that_sits_out_says_so() -> None:
    assert dict(messages.sits_out("Rome")[messages.SITS_OUT]) == {"name": "Rome"}
    content = Introduction("Rome", 7, 2, np.array([3]), "", "hash", "/here").to_content()
    assert messages.SITS_OUT not in content


def test_a_query_carries_instructions_and_files() -> None:
    content = messages.query(ConfigRecord({"a": 1}), {"abc": b"weights"})
    assert messages.received_config(content) == {"a": 1}
    assert messages.received_files(content) == {"abc": b"weights"}


def test_a_request_to_evaluate_names_the_round() -> None:
    content = messages.evaluation(record({"w": [1.0]}), ConfigRecord({"final": True}), 4)
    assert messages.received_config(content) == {"final": True, "server-round": 4}
    assert messages.received_arrays(content)["w"].tolist() == [1.0]


def test_a_trained_model_with_its_epochs() -> None:
    epochs = {"train_loss": [2.0, 1.0], "valid_accuracy": [3, 4]}
    content = messages.training_reply({"w": np.ones(2)}, 5, 0.5, 0.25, epochs)
    assert values(content["arrays"]) == {"w": [1.0, 1.0]}
    assert dict(content["metrics"]) == {
        "num-examples": 5,
        "seconds": 0.5,
        "local-loss": 0.25,
        "epoch-train_loss": [2.0, 1.0],
        "epoch-valid_accuracy": [3, 4],
    }
    assert messages.num_examples(content) == 5
    assert messages.seconds(content) == 0.5
    assert messages.local_loss(content) == 0.25
    assert messages.epochs(content) == epochs


def test_without_training_there_is_no_loss() -> None:
    sums = messages.training_reply({"s": np.ones(2)}, 5, 0.5)
    idle = messages.training_reply({"w": np.ones(2)}, 0, 0.5, float("nan"))
    assert "local-loss" not in sums["metrics"]
    assert idle["metrics"]["local-loss"] == 0.0  # NaN would make the reply unusable
    assert math.isnan(messages.local_loss(sums))
    assert math.isnan(messages.local_loss(idle))
    assert messages.epochs(sums) == {}


def test_counts_by_part() -> None:
    parts = {"train": {"n": np.array(4)}, "valid": {"n": np.array(1)}}
    content = messages.evaluation_reply(parts, 1, 0.5)
    assert messages.counts(content) == parts
    assert dict(content["metrics"]) == {"num-examples": 1, "seconds": 0.5}


def test_a_reply_without_a_time_has_none() -> None:
    assert math.isnan(messages.seconds(RecordDict({"metrics": MetricRecord({"num-examples": 1})})))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12, dtype=np.int16).reshape(2, 3, 2).transpose(2, 0, 1),
        np.array(3.5),
        np.zeros((0, 3)),
        np.array([True, False]),
        np.array(["text"]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_an_array_is_packed_and_unpacked_as_flower_does_it(array: np.ndarray) -> None:
    packed = Array(array)
    assert vars(messages.pack(array)) == vars(packed)
    unpacked, expected = messages.unpack(packed), packed.numpy()
    np.testing.assert_array_equal(unpacked, expected)
    assert unpacked.dtype == expected.dtype
    assert unpacked.strides == expected.strides or not array.size
    assert unpacked.flags.writeable


@pytest.mark.parametrize(
    ("shape", "data"),
    [((3,), b"1234"), ((-1,), bytes(8)), ((10**12,), bytes(8))],
    ids=["cut off", "negative", "larger than memory"],
)
def test_what_is_no_array_is_not_unpacked(shape: tuple[int, ...], data: bytes) -> None:
    head = Array(np.zeros(1)).data[:-8].replace(b"(1,),", f"{shape},".encode())
    with pytest.raises(ValueError, match=r"smaller|negative"):
        messages.unpack(Array("float64", shape, "numpy.ndarray", head + data))
