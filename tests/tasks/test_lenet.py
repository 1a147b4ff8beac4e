import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch
from toys import write_cifar10

from celeba_fl.client_app import app as client_app
from celeba_fl.common.arrays import sum_counts
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data.cifar10 import CLASSES
from celeba_fl.launch.inline import run_inline
from celeba_fl.models.lenet import initial_arrays, lenet5, scores, standardise, train_lenet
from celeba_fl.report.html import Table
from celeba_fl.report.page import write_report
from celeba_fl.report.reading import Run
from celeba_fl.report.sections.results import results
from celeba_fl.report.words import UNKNOWN
from celeba_fl.rounds.checking import Client
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as app_of_server
from celeba_fl.studies.baseline import SingleClient, make_baseline
from celeba_fl.task import derived_seed
from celeba_fl.tasks.lenet import Lenet, own_model_path

NODES = 4
EPOCHS = 2


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Run-config keys of the whole task in small; the home is shared."""
    folder = tmp_path_factory.mktemp("lenet")
    return {
        "task": "lenet",
        "dataset": str(write_cifar10(folder / "data", train=80, test=20)),
        "home": str(folder / "home"),
        "num-server-rounds": 3,
        "local-epochs": EPOCHS,
        "batch-size": 8,
        "learning-rate": 0.005,
    }


@pytest.fixture
def make(keys):
    return lambda **changes: Lenet(
        RunConfig.load({**keys, **{key.replace("_", "-"): v for key, v in changes.items()}})
    )


def node(number, of=NODES):
    return {"partition-id": number, "num-partitions": of}


def run(keys, folder, nodes=NODES, **changes):
    config = RunConfig.load({**keys, "results-dir": str(folder), **changes})
    run_inline(config, nodes, app_of_server, client_app)
    (said,) = read_runs(folder)
    return said


@pytest.fixture(scope="module")
def done(keys, tmp_path_factory):
    """A whole run."""
    return run(keys, tmp_path_factory.mktemp("runs"))


def assert_equal(one, two):
    assert one.keys() == two.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], two[key])


# ---- a whole run --------------------------------------------------------------------------


def test_a_run_learns_and_says_so(done):
    rounds = read_csv(done.path / "rounds.csv")
    assert done.status == "completed"
    assert len(rounds) == 4
    for part in ("train", "valid", "test"):
        assert float(rounds[-1][f"{part}_loss"]) < float(rounds[0][f"{part}_loss"])
    assert done.summary.keys() == {
        f"test_{name}"
        for name in ("loss", "accuracy", "majority_accuracy", "balanced_accuracy", "macro_f1")
    }
    assert done.summary["test_accuracy"] == float(rounds[-1]["test_accuracy"])
    assert done.summary["test_majority_accuracy"] == 0.1
    assert done.dataset["splits"] == {"train": 80, "test": 20}
    partitions = read_csv(done.path / "partitions.csv")
    assert sum(int(row["num_examples"]) + int(row["num_valid"]) for row in partitions) == 80
    for row in partitions:
        classes = sum(int(row[f"label={name}"]) for name in CLASSES)
        assert classes == int(row["num_examples"])


def test_every_epoch_of_every_client_is_reported(done, make, keys):
    rows = read_csv(done.path / "epochs.csv")
    assert len(rows) == 3 * NODES * EPOCHS
    assert list(rows[0]) == [
        *("round", "client", "epoch"),
        *("train_loss", "train_accuracy", "valid_loss", "valid_accuracy"),
    ]
    task = make()
    task.prepare()
    # The model after a client's last epoch, judged anew.
    seed = derived_seed(42, 1, "2")
    trained = task.train(task.initial_arrays(), node(2), {"server-round": 1}, seed)
    parts, _ = task.evaluate(trained.arrays, node(2), {})
    (row,) = (r for r in rows if (r["round"], r["client"], r["epoch"]) == ("1", "2", "2"))
    for part, counts in parts.items():
        metrics = task.metrics(counts)
        assert float(row[f"{part}_loss"]) == pytest.approx(metrics["loss"])
        assert float(row[f"{part}_accuracy"]) == pytest.approx(metrics["accuracy"])


def test_every_class_is_judged(done):
    rows = read_csv(done.path / "classes.csv")
    assert [row["split"] for row in rows] == ["train"] * 10 + ["valid"] * 10 + ["test"] * 10
    assert [row["class"] for row in rows[20:]] == list(CLASSES)
    assert [row["n"] for row in rows[20:]] == ["2"] * 10
    assert sum(int(row["predicted"]) for row in rows[20:]) == 20
    recall = np.mean([float(row["recall"]) for row in rows[20:]])
    assert recall == pytest.approx(done.summary["test_balanced_accuracy"])


def test_the_model_is_usable_by_torch_alone(done, make):
    path = done.path / "model.safetensors"
    network = lenet5()
    network.load_state_dict(load_torch(path))
    with safe_open(path, "numpy") as file:
        said = file.metadata()
    assert said["network"] == "celeba_fl.models.lenet:lenet5"
    assert json.loads(said["classes"]) == list(CLASSES)
    images = make().images
    rows = images.rows("test")
    with torch.no_grad():
        outputs = network.eval()(standardise(torch.from_numpy(images.pixels[rows])))
    accuracy = (outputs.argmax(dim=1).numpy() == images.labels[rows]).mean()
    assert accuracy == pytest.approx(done.summary["test_accuracy"])


def test_the_report_can_be_drawn(done):
    page = write_report(done.path).read_text()
    assert "LeNet-5 on data, FedAvg, 4 simulated clients, IID" in page
    assert "could not be made" not in page
    assert "cannot be read" not in page
    # Ten classes: a half is not what chance or the majority scores.
    (table,) = (block for block in results(Run.read(done.path)) if isinstance(block, Table))
    majority = {row[0]: row[-1] for row in table.rows}
    assert majority["accuracy"] == "0.100"
    assert majority["balanced accuracy"] == UNKNOWN
    assert "rare" not in page


def test_a_run_that_was_cut_off_goes_on_as_if_nothing_had_been(done, keys, tmp_path, monkeypatch):
    kept = Lenet.train

    def train(self, arrays, node, instructions, seed):
        if instructions["server-round"] == 3:
            raise KeyboardInterrupt
        return kept(self, arrays, node, instructions, seed)

    with monkeypatch.context() as patch:
        patch.setattr(Lenet, "train", train)
        with pytest.raises(KeyboardInterrupt):
            run(keys, tmp_path)
    again = run(keys, tmp_path, resume="latest")
    assert len(again.flwr_run_ids) == 2
    for name in ("epochs.csv", "classes.csv", "partitions.csv"):
        assert (again.path / name).read_text() == (done.path / name).read_text()
    models = (load_file(path.path / "model.safetensors") for path in (again, done))
    assert_equal(*models)


def test_a_baseline_can_be_put_beside_it(done, tmp_path):
    def own_models():
        files = Path(done.home, "lenet").rglob("*.safetensors")
        return {path: path.stat().st_mtime_ns for path in files}

    path, before = shutil.copytree(done.path, tmp_path / "run"), own_models()
    made = make_baseline(replace(done, path=path))
    assert made["majority"]["test_accuracy"] == 0.1
    assert made["central"]["test_accuracy"] > 0.1
    # What is trained for comparison is no device's model.
    assert own_models() == before != {}


# ---- averaging ----------------------------------------------------------------------------


def test_one_client_is_central_training(keys, make, tmp_path):
    said = run(keys, tmp_path, nodes=1, **{"min-available-clients": 1})
    task = make()
    task.prepare()
    *_, (_, central) = SingleClient(task, node(0, of=1), {}).rounds((1, 2, 3))
    assert_equal(load_file(said.path / "model.safetensors"), central)

    images, train, _ = task._parts(node(0, of=1))
    arrays = initial_arrays(42)
    for number in (1, 2, 3):
        arrays, _ = train_lenet(
            arrays,
            images.pixels[train],
            images.labels[train],
            epochs=EPOCHS,
            batch_size=8,
            learning_rate=0.005,
            optimizer="adam",
            proximal_mu=0.0,
            seed=derived_seed(42, number, "0"),
            on_epoch=lambda *_: None,
        )
    assert_equal(central, arrays)


def test_batch_norm_is_averaged_as_the_weights_are(keys, make, tmp_path):
    said = run(keys, tmp_path, **{"num-server-rounds": 1})
    task = make()
    task.prepare()
    start = task.initial_arrays()
    replies = [
        task.train(start, node(i), {"server-round": 1}, derived_seed(42, 1, str(i)))
        for i in range(NODES)
    ]
    total = sum(reply.num_examples for reply in replies)
    found = load_file(said.path / "model.safetensors")
    for key in ("norm1.running_mean", "norm1.running_var", "norm1.weight", "linear3.bias"):
        mean = sum(r.num_examples / total * r.arrays[key].astype(float) for r in replies)
        np.testing.assert_allclose(found[key], mean, rtol=1e-6, atol=1e-7)
    assert not np.array_equal(found["norm1.running_var"], start["norm1.running_var"])


@pytest.mark.parametrize("strategy", ["fedadam", "fedyogi", "fedavgm"])
def test_strategies_that_do_not_average_are_refused(make, strategy):
    with pytest.raises(
        InputError, match=f"strategy = '{strategy}': .* take one of fedavg, fedprox"
    ):
        make(strategy=strategy)


def test_an_attacker_learns_other_classes(make, monkeypatch):
    task, taught = make(attack="label-flip"), []

    def train(arrays, pixels, labels, **_):
        taught.append(labels)
        return arrays, 0.0

    monkeypatch.setattr("celeba_fl.tasks.lenet.train_lenet", train)
    for told in ({}, {"flip-labels": True}):
        task.train(task.initial_arrays(), node(0), {"server-round": 1, **told}, 0)
    assert (taught[0] + taught[1] == 9).all()


def test_fedprox(make):
    task = make(strategy="fedprox")
    start = task.initial_arrays()

    def moved(**told):
        trained = task.train(start, node(0), {"server-round": 1, **told}, 1).arrays
        return np.linalg.norm(trained["linear1.weight"] - start["linear1.weight"])

    assert moved(**{"proximal-mu": 10.0}) < moved()


# ---- counts -------------------------------------------------------------------------------


def test_counts_by_hand(make, monkeypatch):
    task = make()
    images, train, valid = task._parts(node(1))
    arrays = initial_arrays(3)
    parts, number = task.evaluate(arrays, node(1), {})
    assert number == len(valid)
    for part, rows in (("train", train), ("valid", valid)):
        logits = scores(arrays, images.pixels[rows])
        confusion = np.zeros((10, 10), int)
        for true, said in zip(images.labels[rows], logits.argmax(axis=1), strict=True):
            confusion[true, said] += 1
        np.testing.assert_array_equal(parts[part]["confusion"], confusion)
        loss = torch.nn.functional.cross_entropy(
            torch.from_numpy(logits), torch.from_numpy(images.labels[rows]), reduction="sum"
        )
        assert parts[part]["loss"][0] == pytest.approx(loss.item())


def test_metrics_by_hand(make):
    confusion = np.zeros((10, 10), np.int64)
    confusion[0, 0], confusion[0, 1], confusion[1, 1] = 3, 1, 4
    confusion[1, 2] = 2  # nothing is of class 2
    metrics = make().metrics({"confusion": confusion, "loss": np.array([5.0])})
    assert metrics == {
        "loss": 0.5,
        "accuracy": 0.7,
        "majority_accuracy": 0.6,
        "balanced_accuracy": pytest.approx((3 / 4 + 4 / 6) / 2),
        "macro_f1": pytest.approx((2 * 3 / (4 + 3) + 2 * 4 / (6 + 5)) / 2),
    }


def test_metrics_of_nothing_are_undefined(make):
    counts = {"confusion": np.zeros((10, 10), np.int64), "loss": np.zeros(1)}
    assert np.isnan(list(make().metrics(counts).values())).all()


def test_counts_of_the_clients_add_up(make):
    task = make()
    arrays = initial_arrays(3)
    replies = [task.evaluate(arrays, node(i), {})[0] for i in range(NODES)]
    everyone, _ = task.evaluate(arrays, node(0, of=1), {})
    for part, whole in everyone.items():
        total = sum_counts([reply[part] for reply in replies])
        np.testing.assert_array_equal(total["confusion"], whole["confusion"])
        np.testing.assert_allclose(total["loss"], whole["loss"])


def test_a_client_without_images_takes_no_part(keys, make, tmp_path):
    skewed = {"partitioner": "dirichlet", "dirichlet_alpha": 0.01, "seed": 3}
    task = make(**skewed)
    said = [task.describe(node(i, of=12), {}) for i in range(12)]
    empty = next(i for i, one in enumerate(said) if not one.num_train)
    arrays = initial_arrays(0)
    trained = task.train(arrays, node(empty, of=12), {"server-round": 1}, 1)
    assert trained.num_examples == 0
    assert_equal(trained.arrays, arrays)
    changes = {key.replace("_", "-"): value for key, value in skewed.items()}
    ended = run(keys, tmp_path, nodes=12, **{**changes, "num-server-rounds": 1})
    assert ended.status == "completed"
    assert read_csv(ended.path / "rounds.csv")[-1]["failures"] == "0"
    clients = {row["client"] for row in read_csv(ended.path / "epochs.csv")}
    assert clients == {str(i) for i, one in enumerate(said) if one.num_train}


def test_a_client_without_validation_images(keys, tmp_path):
    ended = run(keys, tmp_path, **{"valid-fraction": 0.0, "num-server-rounds": 1})
    rows = read_csv(ended.path / "epochs.csv")
    assert {row["valid_loss"] for row in rows} == {""}
    assert all(float(row["train_loss"]) > 0 for row in rows)


# ---- data ---------------------------------------------------------------------------------


def test_a_site_with_its_own_folder(make, tmp_path):
    task = make()
    site = {"site": "b", "data-path": str(write_cifar10(tmp_path / "own", train=30, seed=9))}
    said = task.describe(site, {})
    assert said.num_train + said.num_valid == 30  # its test images are not used
    counts, number = task.evaluate(task.initial_arrays(), site, {})
    assert (counts["train"]["confusion"].sum(), number) == (said.num_train, said.num_valid)
    assert task.train(task.initial_arrays(), site, {"server-round": 1}, 1).num_examples > 0


def test_a_folder_that_is_not_there_is_named(make, tmp_path):
    site = {"site": "b", "data-path": str(tmp_path / "nothing")}
    with pytest.raises(InputError, match=f"data-path = '{tmp_path}/nothing'"):
        make().describe(site, {})


def test_a_server_without_test_images(make, tmp_path):
    folder = write_cifar10(tmp_path / "data")
    (folder / "test-00000-of-00001.parquet").unlink()
    task = make(dataset=str(folder))
    task.prepare()
    assert task.evaluate_centrally(task.initial_arrays()) == {}
    tables = task.finish(task.initial_arrays(), {})
    assert tables.summary == {}


def test_a_server_without_images(make, tmp_path):
    task = make(dataset="none")
    prepared = task.prepare().provenance["dataset"]
    assert prepared == {"name": "none", "fingerprint": "none", "splits": {"train": 0, "test": 0}}
    assert task.evaluate_centrally(task.initial_arrays()) == {}
    site = {"site": "b", "data-path": str(write_cifar10(tmp_path / "own", train=30))}
    assert task.describe(site, {}).num_train > 0
    with pytest.raises(InputError, match=r"dataset = 'none'.*partition-id=0"):
        task.describe(node(0), {})


def test_bad_images_can_be_an_error(make, tmp_path):
    folder = write_cifar10(tmp_path / "data")
    table = parquet.read_table(folder / "train-00000-of-00001.parquet").to_pydict()
    table["img"][7] = {"bytes": b"broken", "path": None}
    parquet.write_table(pa.table(table), folder / "train-00000-of-00001.parquet")
    assert make(dataset=str(folder)).prepare().provenance["dataset"]["splits"]["train"] == 39
    with pytest.raises(InputError, match="cannot be read: train-000007"):
        make(dataset=str(folder), bad_images="fail").prepare()
    with pytest.raises(InputError, match="cannot be read: train-000007"):
        make(dataset=str(folder), bad_images="fail").describe(node(0), {})


def test_natural_partitions_do_not_apply(keys, tmp_path):
    with pytest.raises(InputError, match="'natural' deals by identity, and the images of"):
        run(keys, tmp_path, partitioner="natural")


def test_a_node_that_does_not_say_what_it_holds(make):
    with pytest.raises(InputError, match=r"data-path=.*partition-id=0"):
        make().describe({"site": "hospital-a"}, {})


# ---- the device's own model ---------------------------------------------------------------


def test_each_device_keeps_the_best_model_that_it_trained(done, keys, make):
    rows = read_csv(done.path / "epochs.csv")
    task = make()
    for number in range(NODES):
        path = own_model_path(Path(keys["home"]), done.path.name, str(number))
        with safe_open(path, "numpy") as file:
            said = file.metadata()
        mine = [row for row in rows if row["client"] == str(number)]
        best = min(mine, key=lambda row: float(row["valid_loss"]))
        assert float(said["valid-loss"]) == pytest.approx(float(best["valid_loss"]))
        assert float(said["valid-accuracy"]) == pytest.approx(float(best["valid_accuracy"]))
        assert said["trained"] == f"round {best['round']}, epoch {best['epoch']} of {EPOCHS}"

        network = lenet5()
        network.load_state_dict(load_torch(path))
        images, _, valid = task._parts(node(number))
        with torch.no_grad():
            outputs = network.eval()(standardise(torch.from_numpy(images.pixels[valid])))
        loss = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(images.labels[valid]))
        assert loss.item() == pytest.approx(float(said["valid-loss"]), rel=1e-5)


def kept(home, run="a run", client="0"):
    path = own_model_path(home, run, client)
    with safe_open(path, "numpy") as file:
        return path, file.metadata()


def test_a_worse_model_does_not_replace_it_and_a_broken_file_is_replaced(make, tmp_path, caplog):
    task = make(home=str(tmp_path))
    told = {"run": "a run", "server-round": 1}
    good = task.initial_arrays()
    for number in range(1, 4):
        good = task.train(good, node(0), {**told, "server-round": number}, 1).arrays
    path, best = kept(tmp_path)
    bad = {**good, "linear3.bias": good["linear3.bias"] + 50 * np.eye(10, dtype=np.float32)[0]}
    task.train(bad, node(0), {**told, "server-round": 9}, 1)
    assert kept(tmp_path)[1] == best
    assert [file.name for file in path.parent.iterdir()] == ["0.safetensors"]

    path.write_bytes(b"cut o")
    with caplog.at_level(logging.WARNING):
        task.train(bad, node(0), {**told, "server-round": 9}, 1)
    assert f"{path} cannot be read and is replaced" in caplog.text
    assert kept(tmp_path)[1]["trained"].startswith("round 9, ")


def test_names_cannot_lead_elsewhere(make, tmp_path):
    task = make(home=str(tmp_path / "home"))
    site = {**node(0), "site": "../../b/c"}
    task.train(task.initial_arrays(), site, {"run": "../x", "server-round": 1}, 1)
    (path,) = (tmp_path / "home").rglob("*.safetensors")
    assert path.parent.parent == tmp_path / "home" / "lenet"
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


def test_progress_is_logged(make, caplog):
    with caplog.at_level(logging.INFO):
        make().train(initial_arrays(0), node(3), {"server-round": 7}, 1)
    lines = [line for line in caplog.messages if line.startswith("client 3, round 7, epoch ")]
    assert [line.partition(":")[0][-6:] for line in lines] == ["1 of 2", "2 of 2"]
    assert "train loss" in lines[0]
    assert "valid loss" in lines[0]


# ---- cold and real ------------------------------------------------------------------------


def test_a_cold_client_imports_little(done, keys):
    code = f"""if True:
        import sys
        from celeba_fl.client_app import app
        from celeba_fl.config import RunConfig
        from celeba_fl.task import load_task
        task = load_task(RunConfig.load({keys!r}))
        told = {{"server-round": 1, "run": "cold"}}
        task.train(task.initial_arrays(), {node(0)!r}, told, 1)
        task.evaluate(task.initial_arrays(), {node(0)!r}, told)
        heavy = ("torchvision", "datasets", "flwr_datasets", "onnxruntime", "sklearn", "pandas",
                 "matplotlib", "pyarrow", "PIL", "torch._dynamo")
        print([name for name in heavy if name in sys.modules])
    """
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_real_images(shared_data, keys, tmp_path):
    said = run(
        keys,
        tmp_path,
        nodes=10,
        dataset=str(shared_data("cifar10")),
        **{"batch-size": 32, "learning-rate": 0.003},
    )
    assert said.summary["test_accuracy"] > 0.25


def test_another_data_set_than_cifar10(make: Callable[..., Lenet], tmp_path: Path) -> None:
    """Three classes, from the data at the server and at the clients."""
    folder = tmp_path / "shapes"
    folder.mkdir()
    rows = ["file_name,label,split"]
    for row in range(30):
        name = ("circle", "square", "star")[row % 3]
        Image.new("L", (28, 28), 80 * (row % 3) + row).save(folder / f"{row}.png")
        rows.append(f"{row}.png,{name},{'test' if row > 23 else 'train'}")
    (folder / "metadata.csv").write_text("\n".join(rows))
    task = make(dataset=str(folder))
    told = task.prepare().instructions
    start = task.initial_arrays()
    assert task.count_names == ("label=circle", "label=square", "label=star")
    assert start["linear3.bias"].shape == (3,)
    assert task.describe(node(0, 2), told).counts.sum() > 0
    trained = task.train(start, node(0, 2), {**told, "server-round": 1}, 1)[0]
    counts = {"valid": task.evaluate(trained, node(0, 2), {})[0]["valid"]}
    tables = task.finish(trained, counts)
    assert [row["class"] for row in tables.csv["classes.csv"]][:3] == ["circle", "square", "star"]
    assert json.loads(tables.model_metadata["classes"]) == ["circle", "square", "star"]

    with pytest.raises(InputError, match=r"its classes are circle, square, star, and those of"):
        make(dataset=str(folder), classes="a,b").prepare()
    site = {"site": "a", "data-path": str(folder)}
    lone = make(dataset="none", classes="circle, square, star")
    assert lone.describe(site, lone.prepare().instructions).num_train > 0
    lone = make(dataset="none")
    told = lone.prepare().instructions
    with pytest.raises(InputError, match="the key classes names them"):
        lone.describe(site, told)


def test_class_folders_without_test_images(
    make: Callable[..., Lenet], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28), 90).save(tmp_path / "pets" / name)
    task = make(dataset=str(tmp_path / "pets"))
    task.prepare()
    assert "has no test images, so no figure will be of images that no client holds" in caplog.text
    assert task.evaluate_centrally(task.initial_arrays()) == {}


# ---- what a hostile client sends ----------------------------------------------------------

HELD = Client(1, 3, 1, np.array([2, 1, *[0] * 8]))
CONFUSION = np.zeros((10, 10), int)
CONFUSION[0, :2] = CONFUSION[1, 1] = 1
HONEST = {
    "train": {"confusion": CONFUSION, "loss": np.array([0.5])},
    "valid": {"confusion": np.eye(10, dtype=int) * (np.arange(10) == 4), "loss": np.array([1.5])},
}
EPOCHS_SEEN = {
    f"{part}_{name}": [1.0] * EPOCHS for part in ("train", "valid") for name in ("loss", "accuracy")
}


def test_honest_replies_pass(make):
    make().check_description(HELD)
    make().check_counts(HELD, HONEST, final=True)
    make().check_epochs(HELD, EPOCHS_SEEN)


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("train", {"confusion": CONFUSION * 10**6}),
        ("train", {"confusion": CONFUSION.T}),
        ("train", {"confusion": CONFUSION[:9]}),
        ("train", {"loss": np.array([-1.0])}),
        ("valid", {"confusion": CONFUSION}),
        ("valid", {"confusion": CONFUSION - CONFUSION.T * 2}),
        ("valid", {"more": np.array([1])}),
        ("test", {"loss": np.array([1.0])}),
    ],
)
def test_counts_of_other_images_are_refused(make, part, changed):
    counts = {**HONEST, part: {**HONEST.get(part, {}), **changed}}
    with pytest.raises(InputError):
        make().check_counts(HELD, counts, final=False)


@pytest.mark.parametrize(
    "changed",
    [{"train_loss": [1.0]}, {"valid_accuracy": [1.5] * EPOCHS}, {"train_size": [1.0] * EPOCHS}],
)
def test_epochs_of_other_images_are_refused(make, changed):
    with pytest.raises(InputError):
        make().check_epochs(HELD, {**EPOCHS_SEEN, **changed})


def test_classes_that_do_not_add_up_are_refused(make):
    with pytest.raises(InputError, match="classes"):
        make().check_description(Client(1, 4, 1, HELD.counts))
