"""Checkpoints: what was saved comes back, or an earlier one does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import record, values
from flwr.serverapp.strategy import FedAvg
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from celeba_fl.common.arrays import Arrays
from celeba_fl.rounds.checkpoints import Checkpoints

MODEL: Arrays = {"weight": np.float32([[1.5, -2.5]]), "bias": np.float64([3]), "steps": np.array(7)}
STATE = {"best_round": 2, "best_value": 0.25, "seconds": 1.5, "name": None}


class Remembering(FedAvg):
    """Has state of each form, and attributes that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.momenta: list[np.ndarray] | None = None
        self.moments: dict[str, np.ndarray] | None = None
        self.current: Any = None
        self.rate = 0.5


def saved(folder: Path, *numbers: int, **options: Any) -> Checkpoints:
    """Checkpoints whose model is the round's number."""
    checkpoints = Checkpoints(folder, **options)
    for number in numbers:
        checkpoints.save(number, record({"w": float(number)}), FedAvg(), {})
    return checkpoints


def test_everything_comes_back(tmp_path: Path) -> None:
    before, after = Remembering(), Remembering()
    before.momenta = [np.array([i], np.float64) for i in range(11)]
    before.moments = {"weight": np.float32([2]), "bias": np.float64([3])}
    before.current = record({"z": [1.0], "a": [2]})
    Checkpoints(tmp_path).save(3, record(MODEL), before, STATE)

    restored = Checkpoints(tmp_path).restore(after)

    assert restored is not None
    assert (restored.server_round, restored.state) == (3, STATE)
    for key, array in MODEL.items():
        came = restored.arrays[key].numpy()
        assert (came.dtype, came.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(came, array)
    assert after.momenta is not None
    np.testing.assert_array_equal(after.momenta, before.momenta)
    assert after.moments == before.moments
    assert [array.dtype for array in after.moments.values()] == ["float32", "float64"]
    assert values(after.current) == {"z": [1.0], "a": [2]}


def test_the_order_of_keys_comes_back(tmp_path: Path) -> None:
    before, after = Remembering(), Remembering()
    before.moments = {key: np.array([1], np.float32) for key in "zay"}
    before.current = record(dict.fromkeys("cab", 0.0))
    Checkpoints(tmp_path).save(1, record(MODEL), before, {})

    restored = Checkpoints(tmp_path).restore(after)

    assert restored is not None
    assert list(restored.arrays) == ["weight", "bias", "steps"]
    assert list(after.moments or ()) == ["z", "a", "y"]
    assert list(after.current) == ["c", "a", "b"]


def test_keys_with_slashes_are_not_mixed_up(tmp_path: Path) -> None:
    before, after = Remembering(), Remembering()
    before.moments = {"a": np.float32([1])}
    model = {"strategy/moments/a": [2.0], "model/a": [3.0]}
    Checkpoints(tmp_path).save(1, record(model), before, {})

    restored = Checkpoints(tmp_path).restore(after)

    assert restored is not None
    assert values(restored.arrays) == model
    assert after.moments == {"a": [1.0]}


def test_state_that_is_not_there_yet_stays_so(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(0, record(MODEL), Remembering(), {})
    after = Remembering()
    Checkpoints(tmp_path).restore(after)
    assert (after.momenta, after.moments, after.current, after.rate) == (None, None, None, 0.5)


def test_without_checkpoints_there_is_nothing_to_restore(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none").restore(FedAvg()) is None
    assert Checkpoints(tmp_path / "none").rounds() == []


@pytest.mark.parametrize(("keep", "stay"), [(1, [12]), (2, [11, 12]), (99, list(range(13)))])
def test_the_newest_stay(tmp_path: Path, keep: int, stay: list[int]) -> None:
    assert saved(tmp_path, *range(13), keep=keep).rounds() == stay


def test_the_best_stays_until_there_is_a_better_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    stay = []
    for number, best in enumerate([None, 1, 1, 1, 4, 4]):
        checkpoints.save(number, record(MODEL), FedAvg(), {}, best)
        stay.append(checkpoints.rounds())
    assert stay == [[0], [1], [1, 2], [1, 3], [4], [4, 5]]


def test_the_newest_is_restored(tmp_path: Path) -> None:
    restored = saved(tmp_path, 8, 9, 10, keep=9).restore(FedAvg())
    assert restored is not None
    assert values(restored.arrays) == {"w": 10.0}


@given(part=st.floats(0, 1, exclude_max=True))
def test_a_part_of_a_file_is_never_taken_for_a_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, part: float
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    checkpoints = saved(folder, 1, 2)
    newest = folder / "round-0002.safetensors"
    newest.write_bytes(newest.read_bytes()[: int(part * newest.stat().st_size)])

    restored = checkpoints.restore(FedAvg())

    assert restored is not None
    assert (restored.server_round, values(restored.arrays)) == (1, {"w": 1.0})


@pytest.mark.parametrize(
    "content",
    [
        b"no checkpoint at all",
        save({"w": np.float32([1])}),
        save({"w": np.float32([1])}, {"checkpoint": "{"}),
        save({"w": np.float32([1])}, {"checkpoint": "{}"}),
        save({"w": np.float32([1])}, {"checkpoint": '{"state": {}, "forms": {}}'}),
        save({}, {"checkpoint": '{"state": {}, "forms": {"model": ["record", "w"]}}'}),
    ],
)
def test_another_file_is_never_taken_for_a_checkpoint(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = saved(tmp_path, 1)
    (tmp_path / "round-0002.safetensors").write_bytes(content)

    restored = checkpoints.restore(FedAvg())

    assert restored is not None
    assert restored.server_round == 1
    assert "round-0002.safetensors cannot be read" in caplog.text


def test_an_unreadable_checkpoint_leaves_the_strategy_alone(tmp_path: Path) -> None:
    before, after = Remembering(), Remembering()
    before.moments, before.momenta = {"a": np.float32([1])}, [np.float32([1])]
    Checkpoints(tmp_path).save(1, record(MODEL), before, {})
    file = tmp_path / "round-0001.safetensors"
    file.write_bytes(file.read_bytes()[:-1])

    assert Checkpoints(tmp_path).restore(after) is None
    assert (after.moments, after.momenta) == (None, None)


def test_what_replaces_unreadable_ones_stays(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, keep=2)
    for number in (3, 4):
        (tmp_path / f"round-{number:04d}.safetensors").write_bytes(b"broken")

    checkpoints.save(2, record({"w": 2.0}), FedAvg(), {})

    assert checkpoints.rounds() == [1, 2]


def test_a_half_written_file_is_no_checkpoint(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1)
    (tmp_path / ".round-0002.safetensors.abc").write_bytes(b"half")
    assert checkpoints.rounds() == [1]


def test_a_checkpoint_without_records_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    for number in range(3):
        checkpoints.save(number, record({"w": [number]}), FedAvg(), {})
    restored = checkpoints.restore(FedAvg(), last=1)
    assert restored is not None
    assert restored.server_round == 1
    assert "round-0002.safetensors is passed over: the records end with round 1" in caplog.text
    assert checkpoints.restore(FedAvg(), last=-1) is None
