"""The main task where clients learn from a teacher, from disagreements, from altered versions."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from celeba_fl.client_app import app as client_app
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.data import partitions, sources
from celeba_fl.data.draws import public_rows
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.launch.inline import run_inline
from celeba_fl.models import ridge
from celeba_fl.models.heads import scores
from celeba_fl.report.page import write_report
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as app_of_server
from celeba_fl.studies.baseline import make_baseline
from celeba_fl.tasks.attributes import Attributes
from celeba_fl.vision.features import FeatureStore

NODE = {"partition-id": 1, "num-partitions": 4}


@pytest.fixture
def make(toy):
    """A prepared task and what clients are told; one client of 10 images, all of which train."""

    def make(**changes):
        keys = {"partition-size": 10, "valid-fraction": 0.0, **toy}
        written = {key.replace("_", "-"): value for key, value in changes.items()}
        task = Attributes(RunConfig.load({**keys, **written}))
        told = task.prepare().instructions
        task.describe(NODE, told)
        return task, told

    return make


@pytest.fixture
def x(monkeypatch):
    """Features of rows and version; the toy's own are hardly apart, and 1e-9 in size."""

    def features(rows, number=0):
        rng = (np.random.default_rng([number, row]) for row in rows)
        return np.array([each.normal(size=1280) for each in rng], np.float32).reshape(-1, 1280)

    def read(store, rows):
        return features(rows, store.version[1] if store.version else 0)

    monkeypatch.setattr(FeatureStore, "read", read)
    return features


@pytest.fixture
def head():
    rng = np.random.default_rng(1)
    return {
        "weight": rng.normal(size=(40, 1280)).astype(np.float32),
        "bias": rng.normal(size=40).astype(np.float32),
    }


def held(task):
    dealt = partitions.assign(
        task.faces.table,
        partitioner="iid",
        num_partitions=4,
        size=10,
        seed=42,
        home=task.config.home_dir,
    )
    return np.flatnonzero(dealt == 1)


SGD = {"optimizer": "sgd", "dropout": 0.0, "batch_size": 1000, "learning_rate": 0.1}


def test_which_pairs_are_learned_from_and_the_gradient_by_hand(make, head, x):
    task, told = make(train_on="disagreements", augmentations=2, **SGD)
    labels = task.faces.table.labels[held(task)]
    versions = [x(held(task), number).astype(float) for number in range(3)]
    wrong = ((versions[0] @ head["weight"].T + head["bias"]) > 0) != labels
    assert 0 < wrong.sum() < wrong.size
    learned = wrong.any(axis=1)

    # The mean over the pairs of all versions of those images that have a wrong one.
    pairs = 3 * learned.sum() * 40
    expected = {key: array.astype(float) for key, array in head.items()}
    for version in versions:
        q = 1 / (1 + np.exp(-(version @ head["weight"].T + head["bias"])))
        slope = np.where(wrong, q - labels, 0) / pairs
        expected["weight"] -= 0.1 * slope.T @ version
        expected["bias"] -= 0.1 * slope.sum(axis=0)
    trained, number, _ = task.train(head, NODE, told, 0)
    assert number == learned.sum()
    for key, array in expected.items():
        np.testing.assert_allclose(trained[key], array, rtol=1e-4, atol=1e-5)
    assert (trained["weight"] != head["weight"]).any()


def test_who_has_nothing_to_correct_sends_the_model_back(make, head, x, tmp_path):
    task, told = make(train_on="disagreements")
    images = task.faces.table.image[held(task)]
    yes = scores(head, x(held(task))) > 0
    lines = [
        f"{image},{name},{int(yes[i, j])},1"
        for i, image in enumerate(images)
        for j, name in enumerate(ATTRIBUTES)
    ]
    # One answer is at odds with the model, and one question was not answered.
    lines[3] = lines[3].replace(f",{int(yes[0, 3])},", f",{1 - int(yes[0, 3])},")
    path = tmp_path / "replies.csv"
    path.write_text("\n".join(["image,attribute,value,confidence", *lines]))
    task, told = make(train_on="disagreements", labels="teacher", teacher=str(path))
    trained, number, _ = task.train(head, NODE, told, 0)
    moved = (trained["weight"] != head["weight"]).any(axis=1)
    assert (np.flatnonzero(moved).tolist(), number) == ([3], 1)

    lines[3] = f"{images[0]},{ATTRIBUTES[3]},,"
    path.write_text("\n".join(["image,attribute,value,confidence", *lines]))
    task, told = make(train_on="disagreements", labels="teacher", teacher=str(path))
    same, number, loss = task.train(head, NODE, told, 0)
    assert number == 0
    assert np.isnan(loss)
    assert (same["weight"] == head["weight"]).all()
    counts = task.evaluate(head, NODE, told)[0]["train"]
    assert counts["teacher_asked"].sum() == 400
    assert counts["teacher_answered"].sum() == counts["teacher_agreed"].sum() == 399
    assert task.metrics(counts)["teacher_agreement"] == 1


def test_a_site_may_have_a_teacher_of_its_own(make, tmp_path):
    path = tmp_path / "replies.csv"
    task, told = make(labels="teacher")
    image = task.faces.table.image[held(task)[0]]
    path.write_text(f"image,attribute,value,confidence\n{image},Smiling,1,1\n")
    counts, _ = task.evaluate(task.initial_arrays(), {**NODE, "teacher": str(path)}, told)
    assert counts["train"]["teacher_answered"].sum() == 1
    assert "teacher_answered" not in counts["valid"]


def test_altered_versions_are_computed_once(make, monkeypatch):
    make(augmentations=2)
    monkeypatch.setattr(FeatureStore, "computing", None)
    again, told = make(augmentations=2)
    again.train(again.initial_arrays(), NODE, told, 0)
    with pytest.raises(TypeError):
        make(augmentations=3)


def test_the_base_is_the_closed_form_of_the_public_images(make):
    task, told = make(init="public", public_fraction=0.2)
    public = public_rows(task.faces.table, 0.2, 42)
    base = task.public_arrays()
    weights = told["weights"]
    store = FeatureStore(task.config.home_dir, task.faces.table, task.features.view, weights)
    sums = [
        ridge.sums_of(store.read(rows), task.faces.table.labels[rows], np.ones(len(rows)))
        for rows in (public, task.faces.table.rows("valid"))
    ]
    expected, _ = ridge.solve(*sums)
    for key, array in base.items():
        np.testing.assert_array_equal(array, expected[key])
    provenance = task.prepare().provenance
    assert provenance["dataset"]["splits"]["public"] == len(public)


def test_a_base_needs_public_images_and_a_validation_split(make, celeba_folder):
    dataset = str(celeba_folder(splits="0" * 60))
    task, _ = make(dataset=dataset, init="public", public_fraction=0.2)
    with pytest.raises(InputError, match=r"init = 'public': .* and 0 of the official validation"):
        task.public_arrays()


# ---- a whole run --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(toy):
    return {
        **toy,
        "partition-size": 10,
        "public-fraction": 0.2,
        "valid-fraction": 0.0,
        "init": "public",
        "labels": "teacher",
        "teacher-error": "0.2",
        "train-on": "disagreements",
        "augmentations": 1,
    }


def run(keys, folder):
    config = RunConfig.load({**keys, "results-dir": str(folder)})
    run_inline(config, 3, app_of_server, client_app)
    (said,) = read_runs(folder)
    return said


@pytest.fixture(scope="module")
def done(keys, tmp_path_factory):
    return run(keys, tmp_path_factory.mktemp("correcting"))


def test_a_run_says_what_it_asked_and_what_it_changed(done):
    path = done.path
    teacher = read_csv(path / "teacher.csv")
    assert {row["split"] for row in teacher} == {"train"}
    assert {row["asked"] for row in teacher} == {row["answered"] for row in teacher} == {"30"}
    rounds = read_csv(path / "rounds.csv")
    last = float(rounds[-1]["train_teacher_agreement"])
    assert last == pytest.approx(np.mean([float(row["agreement"]) for row in teacher]))
    assert rounds[0]["test_teacher_agreement"] == rounds[0]["valid_teacher_agreement"] == ""
    (total,) = (
        row
        for row in read_csv(path / "corrections.csv")
        if not row["group"] and not row["attribute"]
    )
    assert float(total["base_accuracy"]) == pytest.approx(float(rounds[0]["test_accuracy"]))
    assert float(total["accuracy"]) == pytest.approx(done.summary["test_accuracy"])
    gain = int(total["fixed"]) - int(total["broken"])
    assert gain / int(total["n"]) == pytest.approx(float(total["difference"]))
    assert int(total["fixed"]) + int(total["broken"]) > 0


def test_the_base_is_kept(done, keys):
    task = Attributes(RunConfig.load(keys))
    task.prepare()
    kept = load_file(done.path / "base.safetensors")
    for key, array in task.public_arrays().items():
        np.testing.assert_array_equal(kept[key], array)


def test_the_report_has_both(done):
    page = write_report(done.path).read_text()
    assert "Before and after" in page
    assert "The clients asked a teacher for 1,200 labels" in page
    assert "could not be made" not in page
    assert (done.path / "plots" / "corrections.svg").exists()


@pytest.mark.parametrize("init", ["random", "base-rates"])
def test_a_run_from_chance_has_no_before(keys, tmp_path, init):
    said = run({**keys, "init": init, "labels": "annotations"}, tmp_path)
    assert not (said.path / "corrections.csv").exists()
    assert not (said.path / "teacher.csv").exists()
    assert "Before and after" not in write_report(said.path).read_text()


def test_a_run_of_before_there_were_bases_goes_on(toy, tmp_path):
    path = run(toy, tmp_path).path
    (path / "base.safetensors").unlink()
    said = json.loads((path / "run.json").read_text())
    for key in ("labels", "teacher", "train-on", "augmentations", "partition-size", "clients"):
        del said["config"][key]
    (path / "run.json").write_text(json.dumps(said))
    again = run({**toy, "resume": "latest", "num-server-rounds": 3}, tmp_path)
    assert (again.status, again.rounds) == ("completed", 3)


def test_a_teacher_that_is_of_no_use_is_found_before_the_rounds(keys, tmp_path):
    with pytest.raises(InputError, match=r"client .: teacher = '/no/such\.csv': no such file"):
        run({**keys, "teacher": "/no/such.csv"}, tmp_path)
    (said,) = read_runs(tmp_path)
    assert "teacher = '/no/such.csv': no such file" in said.reason


def test_a_run_goes_on_with_the_answers_that_it_began_with(keys, toy, tmp_path):
    images = sources.load(toy["dataset"], Path(toy["home"])).image

    def answer(value):
        rows = [f"{image},Male,{value},1" for image in images]
        path.write_text("\n".join(["image,attribute,value,confidence", *rows, ""]))

    path = tmp_path / "replies.csv"
    answer(1)
    said = run({**keys, "teacher": str(path)}, tmp_path / "runs")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    told = json.loads((said.path / "run.json").read_text())["teacher"]
    assert told == {"name": str(path), "sha256": digest}
    answer(0)
    more = {**keys, "teacher": str(path), "resume": "latest", "num-server-rounds": 3}
    with pytest.raises(InputError, match=r"resume: teacher was .* and is .* now"):
        run(more, tmp_path / "runs")


def test_thresholds_of_the_clients_know_no_base(toy, celeba_folder, tmp_path):
    dataset = celeba_folder(splits="0" * 72 + "2" * 24)
    more = {"dataset": str(dataset), "init": "closed-form", "thresholds": "valid"}
    path = run({**toy, **more}, tmp_path).path
    assert (path / "base.safetensors").exists()
    assert not (path / "corrections.csv").exists()


@pytest.mark.slow
def test_the_central_reference_has_the_images_of_all_clients(done):
    made = make_baseline(done)
    assert made["local"]["clients"] == 3
    assert json.loads((done.path / "baseline.json").read_text())["central"]
