"""The closed form in whole runs: of known sums, and of the main task in small."""

import errno
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from adding import Adding, Nodes, outcome, run
from flwr.app import Context, Message, RecordDict
from safetensors import safe_open
from safetensors.numpy import load_file

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError, OwnError
from celeba_fl.config import RunConfig
from celeba_fl.data.sources import load
from celeba_fl.launch.inline import run_inline
from celeba_fl.models import heads
from celeba_fl.rounds.aggregation import RoundFailedError
from celeba_fl.runs import kept_sums
from celeba_fl.runs.kept_sums import KeptSums
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.task import Instructions, NodeConfig
from celeba_fl.vision.features import FeatureStore

ZERO = np.zeros(1, np.int64)


# ---- sums by hand -------------------------------------------------------------------------


class Summing(Adding):
    """Client i has a sum of i + 1; the weights are the total."""

    reads: ClassVar[tuple[str, ...]] = (*Adding.reads, "init")

    # Changed by tests.
    sums: Callable[[int], Arrays] = staticmethod(lambda client: {"s": ZERO + client + 1})
    held: Callable[[int], int] = staticmethod(lambda client: client + 1)

    def zero_sums(self) -> Arrays:
        return {"s": ZERO.copy()}

    def summarise(self, node: NodeConfig, instructions: Instructions) -> tuple[Arrays, int]:
        client = int(node["partition-id"])
        self.fault(client, int(instructions["server-round"]))
        assert instructions["sums"] == ["s"]
        return self.sums(client), self.held(client)

    def solve(self, sums: Arrays, instructions: Instructions) -> Arrays:
        return {key: array + sums["s"][0] for key, array in self.initial_arrays().items()}


def solve(folder: Path, nodes: int = 3, **keys: Any) -> Path:
    return run(folder, nodes, **{"task": f"{__name__}:Summing", "strategy": "closed-form", **keys})


def scores(path: Path) -> list[float]:
    return [float(row["valid_score"]) for row in read_csv(path / "rounds.csv")]


def failing(*clients: int, times: int = 10**9) -> Any:
    """A fault of some clients, the first so many times that they are asked to train."""
    left = dict.fromkeys(clients, times)

    def fault(client: int, number: int) -> None:
        if number and left.get(client, 0):
            left[client] -= 1
            raise RuntimeError("no power")

    return staticmethod(fault)


def test_one_round_of_sums(tmp_path: Path) -> None:
    path = solve(tmp_path)
    assert scores(path) == [0, 6]
    assert load_file(path / "model.safetensors")["weight"].tolist() == [6, 6]
    info = json.loads((path / "run.json").read_text())
    assert (info["status"], info["reason"]) == ("completed", "")
    before, row = read_csv(path / "rounds.csv")
    assert (row["clients"], row["failures"]) == ("3", "0")
    # Sums of one int64 go up beside the counts of the evaluation, and no model comes down.
    sums = int(row["bytes_up"]) - int(before["bytes_up"])
    assert 3 * 8 <= sums < 3 * 500
    assert row["bytes_down"] == before["bytes_down"]
    # Nothing was trained, so there is no loss of it.
    assert {row["local_loss"] for row in read_csv(path / "clients.csv")} == {""}


def test_checkpoints_hold_the_model_alone(tmp_path: Path) -> None:
    for file in (solve(tmp_path) / "checkpoints").iterdir():
        with safe_open(file, "numpy") as saved:
            assert {key.split("/")[0] for key in saved.keys()} == {"model"}  # noqa: SIM118


def test_a_client_that_fails_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Summing, "fault", failing(1))
    path = solve(tmp_path)
    assert scores(path) == [0, 4]
    assert [row["failures"] for row in read_csv(path / "rounds.csv")] == ["0", "1"]


@pytest.mark.parametrize(
    ("sums", "reason"),
    [
        ({"s": np.zeros(2, np.int64)}, "array 's' is"),
        ({"s": np.zeros(1)}, "array 's' is"),
        ({"s": np.full(1, np.nan)}, "array 's' is"),
        ({"t": ZERO}, "array 's' is None"),
    ],
)
def test_sums_of_another_form_are_left_out(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    sums: Arrays,
    reason: str,
) -> None:
    right = Summing.sums
    monkeypatch.setattr(
        Summing, "sums", staticmethod(lambda client: right(client) if client else sums)
    )
    assert scores(solve(tmp_path)) == [0, 5]
    assert f"client 0 is left out: {reason}" in caplog.text


def test_a_round_that_is_tried_again_adds_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Summing, "fault", failing(0, 1, times=1))
    assert scores(solve(tmp_path)) == [0, 6]


def test_each_client_s_sums_are_kept_once_and_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Summing, "fault", failing(0, 1, times=1))
    each, like = KeptSums(solve(tmp_path, keep_sums=True)), {"s": np.zeros(1, np.int64)}
    assert {name: each.read(name, like)["s"].tolist() for name in each.clients()} == {
        "0": [1],
        "1": [2],
        "2": [3],
    }
    monkeypatch.setattr(Summing, "fault", failing(1))
    assert KeptSums(solve(tmp_path / "some", keep_sums=True)).clients() == ["0", "2"]
    assert not KeptSums(solve(tmp_path / "none")).exist


def test_a_full_disk_is_no_clients_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(kept_sums, "write_bytes", full)
        with pytest.raises(OwnError, match="client 0, cannot be written: No space left"):
            solve(tmp_path, keep_sums=True)
    path = solve(tmp_path, keep_sums=True, resume="latest")
    assert scores(path) == [0, 6]
    assert KeptSums(path).clients() == ["0", "1", "2"]


def test_after_too_many_failures_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = solve(tmp_path / "whole")
    with monkeypatch.context() as broken:
        broken.setattr(Summing, "fault", failing(0, 1))
        with pytest.raises(RoundFailedError, match="1 of 3 clients"):
            solve(tmp_path / "parts")
    path = solve(tmp_path / "parts", resume="latest")
    assert outcome(path) == outcome(whole)


def test_without_a_train_example_the_model_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Summing, "held", staticmethod(lambda client: 0))
    assert scores(solve(tmp_path)) == [0, 0]


def test_sums_that_do_not_fit_are_the_fault_of_who_sends_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    honest = Summing.sums
    large = {"s": ZERO + 2**61}
    monkeypatch.setattr(
        Summing, "sums", staticmethod(lambda client: honest(client) if client else large)
    )
    solve(tmp_path)
    assert "client 0 is left out: the exact sums do not fit into 64 bits" in caplog.text
    monkeypatch.setattr(Summing, "sums", staticmethod(lambda client: large))
    with pytest.raises(RoundFailedError, match="0 of 3 clients sent a usable model"):
        solve(tmp_path)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("strategy", "task adding:Adding: has no closed form"),
        ("init", "init = 'closed-form': not read by the task adding:Adding"),
    ],
)
def test_a_task_without_a_closed_form_is_refused(tmp_path: Path, key: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(tmp_path, **{key: "closed-form"})
    assert not list(tmp_path.glob("*/rounds.csv"))


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedadam"])
def test_rounds_start_from_the_closed_form(tmp_path: Path, strategy: str) -> None:
    keys = {"init": "closed-form", "strategy": strategy, "server_learning_rate": 1.0}
    whole = solve(tmp_path / "whole", **keys)
    # 6, and for averages (1 * 1 + 2 * 2 + 3 * 3) / 6 more in every round.
    assert scores(whole)[0] == 6
    if strategy != "fedadam":
        assert scores(whole) == pytest.approx([6 + number * 14 / 6 for number in range(5)])

    solve(tmp_path / "parts", num_server_rounds=2, **keys)
    assert outcome(solve(tmp_path / "parts", resume="latest", **keys)) == outcome(whole)


def test_a_run_that_goes_on_asks_for_no_sums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"init": "closed-form", "strategy": "fedavg"}
    solve(tmp_path, num_server_rounds=1, **keys)

    def asked(client: int) -> Arrays:
        raise AssertionError("sums are asked for again")

    monkeypatch.setattr(Summing, "sums", staticmethod(asked))
    assert len(scores(solve(tmp_path, num_server_rounds=2, resume="latest", **keys))) == 3


# ---- the main task ------------------------------------------------------------------------


def telling(labels: np.ndarray) -> np.ndarray:
    """Features that tell labels; the toy's own are hardly apart."""
    rows = np.random.default_rng(0).random((len(labels), 1280), np.float32)
    rows[:, : labels.shape[1]] += labels
    return rows


def faces(toy: dict[str, Any], folder: Path, nodes: int = 5, order: Any = None, **keys: Any) -> Any:
    """A run of the closed form on `telling` features: its model, and its last round's row."""
    rows = telling(load(toy["dataset"], Path(toy["home"])).labels)
    own = {"strategy": "closed-form", "results-dir": str(folder), "min-available-clients": 1}
    written = {key.replace("_", "-"): value for key, value in keys.items()}
    config = RunConfig.load({**toy, **own, **written})
    grid = Nodes(client_app, nodes, order or (lambda replies: replies), keys=config.to_dict())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureStore, "read", lambda _, chosen: rows[chosen])
        server_app.app(grid, Context(grid.run.run_id, 0, {}, RecordDict(), {**config.to_dict()}))
    return result(folder)


def result(folder: Path) -> tuple[Arrays, dict[str, str]]:
    path = read_runs(folder)[0].path
    return load_file(path / "model.safetensors"), read_csv(path / "rounds.csv")[-1]


def assert_same(one: Arrays, other: Arrays) -> None:
    assert one["weight"].any()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])


@pytest.fixture(scope="module")
def iid(toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return faces(toy, tmp_path_factory.mktemp("iid"))


@pytest.mark.parametrize(
    ("nodes", "keys"),
    [
        (5, {"partitioner": "dirichlet", "dirichlet_alpha": 1.0}),
        (20, {"partitioner": "dirichlet", "dirichlet_alpha": 0.1}),
        (20, {"partitioner": "natural"}),
        (1, {}),
    ],
    ids=["dirichlet 1.0", "dirichlet 0.1, 20 clients", "natural, 20 clients", "pooled"],
)
def test_the_partition_changes_not_one_bit(
    toy: dict[str, Any], tmp_path: Path, iid: Any, nodes: int, keys: dict[str, Any]
) -> None:
    model, row = faces(toy, tmp_path, nodes, **keys)
    assert_same(model, iid[0])
    assert {key: row[key] for key in row if key.startswith("test_")} == {
        key: value for key, value in iid[1].items() if key.startswith("test_")
    }


def test_the_model_that_is_kept_is_the_one_that_was_judged(toy: dict[str, Any], iid: Any) -> None:
    model, row = iid
    table = load(toy["dataset"], Path(toy["home"]))
    test = table.rows("test")
    right = (heads.scores(model, telling(table.labels)[test]) > 0) == table.labels[test]
    assert right.mean() == pytest.approx(float(row["test_accuracy"]))


def test_false_sums_pass_every_check_and_change_the_head(
    toy: dict[str, Any], tmp_path: Path, iid: Any
) -> None:
    model, row = faces(toy, tmp_path, attack="sums")
    assert row["failures"] == "0"
    assert not np.allclose(model["weight"], iid[0]["weight"], rtol=0.1)


def test_the_order_of_arrival_changes_not_one_bit(
    toy: dict[str, Any], tmp_path: Path, iid: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(1)
    late: list[Message] = []

    def mixed(replies: list[Message]) -> list[Message]:
        late.extend(replies)
        return [late.pop(chance.randrange(len(late)))] if len(late) > 3 or not replies else []

    monkeypatch.setattr("celeba_fl.rounds.exchange.POLL_SECONDS", 0)
    assert_same(faces(toy, tmp_path, order=mixed)[0], iid[0])


def test_group_weights_change_the_head_but_not_with_the_partition(
    toy: dict[str, Any], tmp_path: Path, iid: Any
) -> None:
    keys = {"group_weighting": "Male,Young"}
    pooled, _ = faces(toy, tmp_path / "pooled", 1, **keys)
    dealt, _ = faces(toy, tmp_path / "dealt", 5, partitioner="natural", **keys)
    assert_same(pooled, dealt)
    assert (pooled["weight"] != iid[0]["weight"]).any()


@pytest.mark.slow
def test_celeba(celeba: dict[str, Any], tmp_path: Path) -> None:
    found = []
    for partitioner in ("iid", "dirichlet", "natural"):
        config = RunConfig.load(
            {
                **celeba,
                "strategy": "closed-form",
                "partitioner": partitioner,
                "results-dir": str(tmp_path / partitioner),
            }
        )
        run_inline(config, 50, server_app.app, client_app)
        found.append(result(tmp_path / partitioner))
    for model, row in found:
        assert_same(model, found[0][0])
        assert float(row["test_accuracy"]) - float(row["test_majority_accuracy"]) >= 0.048
