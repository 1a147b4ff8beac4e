"""Scale and bias from the roll call's sums in whole runs: of known sums, and of the main task."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from adding import Adding, Nodes, outcome, run
from flwr.app import Context, RecordDict
from pyarrow import parquet
from safetensors.numpy import load_file

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.common.arrays import Arrays, sum_counts
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data.draws import public_rows, valid_mask
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.data.sources import load
from celeba_fl.data.table import Table
from celeba_fl.evaluation.metrics import bce_with_logits
from celeba_fl.models import heads, scaling
from celeba_fl.models.head_training import train_head
from celeba_fl.models.scaling import Scaling, fold
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.studies.baseline import make_baseline
from celeba_fl.task import Description, Instructions, NodeConfig, derived_seed
from celeba_fl.tasks.attributes import Attributes
from celeba_fl.vision.features import FeatureStore

# ---- sums by hand -------------------------------------------------------------------------


class Telling(Adding):
    """Client i tells a sum of 10 (i + 1) in the roll call, and adds their total when it trains."""

    heard: ClassVar[list[int]] = []
    # Changed by tests.
    sums: Callable[[int], Arrays] = staticmethod(lambda client: {"s": np.array([10 * client + 10])})

    def description_sums(self) -> Arrays:
        return {"s": np.zeros(1, np.int64)}

    def describe(self, node: NodeConfig, instructions: Instructions) -> Description:
        client = int(node["partition-id"])
        return Description(client + 1, 1, np.array([client % 2]), sums=self.sums(client))

    def instruct_from_sums(self, sums: Arrays) -> Instructions:
        self.heard.append(int(sums["s"][0]))
        return {"total": int(sums["s"][0])}

    def train(
        self, arrays: Arrays, node: NodeConfig, instructions: Instructions, seed: int
    ) -> tuple[Arrays, int, float]:
        trained, number, loss = super().train(arrays, node, instructions, seed)
        return trained | {"weight": arrays["weight"] + instructions["total"]}, number, loss

    def kept_arrays(self, arrays: Arrays) -> Arrays:
        return {key: -array for key, array in arrays.items()}


def tell(folder: Path, nodes: int = 3, **keys: Any) -> Path:
    return run(folder, nodes, **{"task": f"{__name__}:Telling", "num_server_rounds": 2, **keys})


def test_the_total_of_the_roll_call_reaches_all_clients(tmp_path: Path) -> None:
    path = tell(tmp_path)
    assert load_file(path / "sums.safetensors")["s"].tolist() == [60]
    assert [float(row["valid_score"]) for row in read_csv(path / "rounds.csv")] == [0, 60, 120]


def test_models_are_kept_as_the_task_says_and_checkpoints_as_they_travel(tmp_path: Path) -> None:
    path = tell(tmp_path)
    assert load_file(path / "model.safetensors")["weight"].tolist() == [-120, -120]
    assert load_file(path / "base.safetensors")["weight"].tolist() == [0, 0]
    saved = load_file(path / "checkpoints" / "round-0002.safetensors")
    assert saved["model/weight"].tolist() == [120, 120]


def test_a_task_without_sums_keeps_none(tmp_path: Path) -> None:
    assert not (run(tmp_path) / "sums.safetensors").exists()


@pytest.mark.parametrize(
    ("sums", "words"),
    [
        ({"s": np.zeros(2, np.int64)}, r"array 's' is \(\(2,\), 'int64'\), not \(\(1,\), 'int64'"),
        ({"s": np.zeros(1)}, r"array 's' is \(\(1,\), 'float64'\), not \(\(1,\), 'int64'"),
        ({"t": np.zeros(1, np.int64)}, "array 's' is None"),
        ({}, "array 's' is None"),
    ],
)
@pytest.mark.parametrize("liars", [(0,), (0, 1)])
def test_a_client_with_other_sums_is_refused_by_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    sums: Arrays,
    words: str,
    liars: Sequence[int],
) -> None:
    right = Telling.sums
    monkeypatch.setattr(
        Telling, "sums", staticmethod(lambda client: sums if client in liars else right(client))
    )
    path = tell(tmp_path, 5, min_available_clients=1)
    assert [row["client"] for row in read_csv(path / "partitions.csv")] == [
        str(client) for client in range(5) if client not in liars
    ]
    total = sum(10 * client + 10 for client in range(5) if client not in liars)
    assert load_file(path / "sums.safetensors")["s"].tolist() == [total]
    refused = [line for line in caplog.messages if "is refused" in line]
    assert len(refused) == len(liars)


def test_most_clients_may_be_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Telling, "sums", staticmethod(lambda client: {"s": np.zeros(3, np.int64)}))
    with pytest.raises(
        InputError, match=r"client \d: it sent other sums than were asked for: array 's'"
    ):
        tell(tmp_path)


def test_a_run_that_resumes_has_the_sums_of_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tell(tmp_path / "whole", num_server_rounds=4)
    path = tell(tmp_path / "parts")
    Telling.heard.clear()
    # A client less would have given another total.
    right = Telling.sums
    monkeypatch.setattr(Telling, "sums", staticmethod(lambda client: {"s": 0 * right(client)["s"]}))
    assert tell(tmp_path / "parts", num_server_rounds=4, resume="latest") == path
    assert Telling.heard == [60]
    assert outcome(path) == outcome(whole)


@pytest.mark.parametrize("content", [b"no sums", None])
def test_sums_that_are_damaged_end_a_resumed_run(tmp_path: Path, content: bytes | None) -> None:
    path = tell(tmp_path)
    other = (path / "base.safetensors").read_bytes()
    (path / "sums.safetensors").write_bytes(content or other)
    with pytest.raises(InputError, match=r"resume: .*sums\.safetensors .*; start a new run"):
        tell(tmp_path, num_server_rounds=4, resume="latest")


# ---- the main task ------------------------------------------------------------------------

SIZES = np.exp(np.random.default_rng(5).normal(0, 1, 1280))


def telling(labels: np.ndarray) -> np.ndarray:
    """Features of many sizes that tell labels, some dead; the toy's own are hardly apart."""
    rows = np.random.default_rng(0).random((len(labels), 1280), np.float32)
    rows[:, : labels.shape[1]] += labels
    rows[:, 100:110] = 3
    return (rows * SIZES).astype(np.float32)


@pytest.fixture(autouse=True)
def _telling(toy: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = telling(load(toy["dataset"], Path(toy["home"])).labels)
    monkeypatch.setattr(FeatureStore, "read", lambda store, chosen: rows[chosen])


@pytest.fixture
def table(toy: dict[str, Any]) -> Table:
    return load(toy["dataset"], Path(toy["home"]))


@pytest.fixture
def learn(toy: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    """Run the main task, scaled by clients and from base rates unless told otherwise."""

    def learn(folder: str = "runs", nodes: int = 4, **keys: Any) -> Path:
        own = {"results-dir": str(tmp_path / folder), "min-available-clients": 1}
        own |= {"scaling": "clients", "init": "base-rates", "num-server-rounds": 1}
        written = {key.replace("_", "-"): value for key, value in keys.items()}
        config = RunConfig.load({**toy, **own, **written})
        grid = Nodes(client_app, nodes, keys=config.to_dict())
        server_app.app(grid, Context(grid.run.run_id, 0, {}, RecordDict(), {**config.to_dict()}))
        return read_runs(tmp_path / folder)[0].path

    return learn


def assert_equal(one: Arrays, other: Arrays) -> None:
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])


def row(path: Path, number: int = -1) -> dict[str, str]:
    """The metrics of a round; those of clients are sums of floats, and rounded as these are."""
    cells = read_csv(path / "rounds.csv")[number]
    return {key: cells[key] for key in cells if key.startswith(("train_", "test_", "server_"))}


def central(path: Path, number: int = -1) -> dict[str, str]:
    """Those that the server measures itself."""
    return {key: cell for key, cell in row(path, number).items() if not key.startswith("train_")}


@pytest.fixture
def train(table: Table) -> np.ndarray:
    """The rows on which the clients train."""
    rows = table.rows("train")
    return np.array(rows[~valid_mask(table, rows, 0.2, 42)])


@pytest.mark.parametrize(
    "keys",
    [
        {"nodes": 50, "partitioner": "dirichlet", "dirichlet_alpha": 0.1},
        {"nodes": 50, "partitioner": "natural"},
        {"nodes": 5},
    ],
)
def test_scale_and_bias_are_those_of_pooled_data_to_the_last_bit(
    learn: Callable[..., Path], keys: dict[str, Any]
) -> None:
    dealt, pooled = learn("dealt", **keys), learn("pooled", nodes=1)
    for name in ("sums", "base"):
        one, other = ((path / f"{name}.safetensors").read_bytes() for path in (dealt, pooled))
        assert one == other
    assert central(dealt, 0) == central(pooled, 0)


def test_the_sums_are_those_of_the_train_images(
    learn: Callable[..., Path], table: Table, train: np.ndarray
) -> None:
    kept = load_file(learn() / "sums.safetensors")
    expected = scaling.sums_of(telling(table.labels)[train])
    labels = {"labels": np.full(40, len(train)), "positives": table.labels[train].sum(axis=0)}
    assert_equal(kept, expected | labels)


def test_round_0_is_the_loss_of_the_base_rates(
    learn: Callable[..., Path], table: Table, train: np.ndarray
) -> None:
    before = row(learn(), 0)
    p = (table.labels[train].sum(axis=0) + 0.5) / (len(train) + 1)
    for part, rows in (("train", train), ("test", table.rows("test"))):
        y = table.labels[rows]
        loss = -(y * np.log(p) + ~y * np.log(1 - p)).mean()
        assert float(before[f"{part}_loss"]) == pytest.approx(loss, rel=1e-6)
        assert float(before[f"{part}_auroc"]) == 0.5


def test_weighted_classes_start_even(learn: Callable[..., Path]) -> None:
    base = load_file(learn(class_weights=True) / "base.safetensors")
    assert base["bias"] == pytest.approx(0, abs=1e-15)
    assert not base["weight"].any()


def test_all_judge_the_folded_head(learn: Callable[..., Path], table: Table) -> None:
    path = learn(num_server_rounds=2)
    model = load_file(path / "model.safetensors")
    saved = load_file(path / "checkpoints" / "round-0002.safetensors")
    scale = Scaling.of_sums(load_file(path / "sums.safetensors"))
    assert (scale.factor == 0).sum() == 10
    assert_equal(model, fold({key: saved[f"model/{key}"] for key in model}, scale))

    test = table.rows("test")
    outputs = heads.scores(model, telling(table.labels)[test])
    kept = parquet.read_table(path / "test_scores.parquet").to_pydict()
    columns = np.array([kept[f"{name}_score"] for name in ATTRIBUTES]).T
    np.testing.assert_array_equal(columns, outputs.astype(columns.dtype))
    loss = bce_with_logits(outputs, table.labels[test]).mean()
    assert float(row(path)["test_loss"]) == pytest.approx(loss, rel=1e-12)
    assert json.loads((path / "summary.json").read_text())["test_loss"] == pytest.approx(loss)


@pytest.mark.parametrize("keys", [{}, {"scaling": "none"}], ids=["scaled", "raw"])
def test_rounds_are_fedavg_on_scaled_features(
    learn: Callable[..., Path], table: Table, keys: dict[str, Any]
) -> None:
    """The model of two rounds by hand, to the last bit; raw and random, it is the old head."""
    init = "random" if keys else "base-rates"
    path = learn(num_server_rounds=2, partitioner="natural", init=init, **keys)
    task = Attributes(RunConfig.load(json.loads((path / "run.json").read_text())["config"]))
    held = [
        task.faces.parts({"partition-id": client, "num-partitions": 4})[0] for client in range(4)
    ]
    rows, scale, arrays = telling(table.labels), None, heads.initial_head(1280, 40, 42)
    if not keys:
        scale = Scaling.of_sums(scaling.sums_of(rows[np.concatenate(held)]))
        rows = (rows - scale.mean) * scale.factor
        positives = table.labels[np.concatenate(held)].sum(axis=0)
        negatives = sum(map(len, held)) - positives
        arrays = heads.base_rate_head(1280, positives, negatives)
    for number in (1, 2):
        trained = [
            train_head(
                arrays,
                rows[mine],
                table.labels[mine],
                epochs=1,
                batch_size=16,
                learning_rate=task.config.learning_rate,
                optimizer="adam",
                dropout=0.2,
                positive_weight=None,
                example_weight=np.ones(len(mine)),
                proximal_mu=0.0,
                seed=derived_seed(42, number, str(client)),
            )[0]
            for client, mine in enumerate(held)
        ]
        share = np.array([len(mine) for mine in held]) / sum(map(len, held))
        arrays = {
            key: np.asarray(
                sum(s * one[key].astype(float) for s, one in zip(share, trained, strict=True)),
                np.float32,
            )
            for key in arrays
        }
    assert_equal(load_file(path / "model.safetensors"), fold(arrays, scale))


@pytest.mark.parametrize("strategy", ["fedprox", "fedadam", "fedyogi", "fedavgm"])
def test_strategies_learn_on_scaled_features(learn: Callable[..., Path], strategy: str) -> None:
    path = learn(strategy=strategy, num_server_rounds=3, server_learning_rate=0.1)
    assert float(row(path)["train_loss"]) < float(row(path, 0)["train_loss"]) - 0.03


def test_a_run_that_resumes_with_a_client_less_keeps_its_scale(
    learn: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = learn()
    sums = (path / "sums.safetensors").read_bytes()
    describe = Attributes.describe

    def without_2(self: Attributes, node: NodeConfig, instructions: Instructions) -> Description:
        if node["partition-id"] == 2:
            raise InputError("no power")
        return describe(self, node, instructions)

    monkeypatch.setattr(Attributes, "describe", without_2)
    assert learn(num_server_rounds=2, resume="latest") == path
    assert (path / "sums.safetensors").read_bytes() == sums
    saved = load_file(path / "checkpoints" / "round-0002.safetensors")
    model = load_file(path / "model.safetensors")
    scale = Scaling.of_sums(load_file(path / "sums.safetensors"))
    assert_equal(model, fold({key: saved[f"model/{key}"] for key in model}, scale))
    assert {one["client"] for one in read_csv(path / "clients.csv") if one["round"] == "2"} == {
        *("0", "1", "3")
    }


def test_another_scaling_is_another_experiment(learn: Callable[..., Path]) -> None:
    learn()
    with pytest.raises(InputError, match="scaling was 'clients' and is 'none'"):
        learn(num_server_rounds=2, resume="latest", scaling="none")


def test_the_scale_of_public_images(
    learn: Callable[..., Path], table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    train = Attributes.train

    def note(self: Attributes, arrays: Arrays, node: Any, instructions: Any, seed: int) -> Any:
        told.append(instructions["scaling"])
        return train(self, arrays, node, instructions, seed)

    monkeypatch.setattr(Attributes, "train", note)
    path = learn(scaling="public", public_fraction=0.3)
    public = public_rows(table, 0.3, 42)
    scale = Scaling.of_sums(scaling.sums_of(telling(table.labels)[public]))
    assert told == [scale.to_bytes()] * 4
    assert load_file(path / "sums.safetensors").keys() == {"labels", "positives"}


def test_without_public_images_there_is_no_such_scale(learn: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"scaling = 'public': .* has no public train image"):
        learn(scaling="public", public_fraction=0.001)


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys", [{"nodes": 50, "partitioner": "natural"}, {"nodes": 1}], ids=["50 clients", "pooled"]
)
def test_the_scaled_closed_form_depends_on_no_partition(
    learn: Callable[..., Path], keys: dict[str, Any]
) -> None:
    closed = {"strategy": "closed-form"}
    one, other = learn("one", **closed), learn("other", **closed, **keys)
    assert_equal(*(load_file(path / "model.safetensors") for path in (one, other)))
    assert central(one) == central(other)
    assert central(learn("raw", **closed, scaling="none")) != central(one)


@pytest.mark.parametrize("init", ["closed-form", "public"])
def test_rounds_start_from_a_scaled_closed_form(learn: Callable[..., Path], init: str) -> None:
    keys = {"init": init, "public_fraction": 0.4, "learning_rate": 1e-9}
    path = learn(**keys)
    base, model = (load_file(path / f"{name}.safetensors") for name in ("base", "model"))
    for key in base:
        np.testing.assert_allclose(model[key], base[key], rtol=1e-4, atol=1e-4)
    if init == "closed-form":
        solved = learn("solved", public_fraction=0.4, strategy="closed-form")
        assert_equal(base, load_file(solved / "model.safetensors"))
    else:
        scale = Scaling.of_sums(load_file(path / "sums.safetensors"))
        assert not base["weight"][:, scale.factor == 0].any()
        assert base["weight"].any()


def test_the_central_model_has_the_scale_of_all_and_a_lone_one_its_own(
    learn: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = learn()
    pooled, heard = load_file(path / "sums.safetensors"), []
    hear = Attributes.instruct_from_sums

    def note(self: Attributes, sums: Arrays) -> Instructions:
        heard.append(sums)
        return hear(self, sums)

    monkeypatch.setattr(Attributes, "instruct_from_sums", note)
    (run_info,) = read_runs(path.parent)
    made = make_baseline(run_info)
    assert made["local"]["clients"] == 4
    assert_equal(heard[0], pooled)
    alone = {id(sums): sums for sums in heard if sums["n"] < pooled["n"]}
    assert_equal(sum_counts(list(alone.values())), pooled)
    # What a lone client made is judged on its own scale.
    lone = learn("lone", nodes=1)
    (its_info,) = read_runs(lone.parent)
    assert make_baseline(its_info)["local"]["mean"] == its_info.summary
