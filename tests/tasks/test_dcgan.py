"""The task that generates: whole runs in small, and what each part of it promises."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file
from torch import nn
from torchvision.models import mobilenet_v2
from toys import write_celeba, write_sites

from celeba_fl.client_app import app as client_app
from celeba_fl.common.arrays import sum_counts
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.evaluation.frechet import frechet_distance
from celeba_fl.inference.predict import load_model
from celeba_fl.inference.sample import load_generator, write_faces
from celeba_fl.launch.inline import run_inline
from celeba_fl.models import dcgan
from celeba_fl.report.page import write_report
from celeba_fl.rounds.checking import Client
from celeba_fl.rounds.stopping import StopRules
from celeba_fl.runs.reading import config_of, read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as app_of_server
from celeba_fl.studies.baseline import SingleClient, make_baseline
from celeba_fl.task import derived_seed
from celeba_fl.tasks.dcgan import LOSSES, Dcgan
from celeba_fl.vision.extractor import FeatureExtractor
from celeba_fl.vision.store import EMPTY

NODES, EPOCHS, MAPS = 3, 3, 4
MODES = ("both", "generator")
NETWORKS = ("generator", "discriminator")


@pytest.fixture(scope="module")
def keys(toy, tmp_path_factory):
    """Run-config keys of the whole task in small.

    Without running statistics of its own, an untrained backbone has the same features for all.
    """
    network = mobilenet_v2()
    network.load_state_dict(torch.load(toy["weights"]))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network.train()(torch.randn(32, 3, 32, 32))
    folder = tmp_path_factory.mktemp("dcgan")
    torch.save(network.state_dict(), folder / "calibrated.pt")
    return {
        **{key: value for key, value in toy.items() if key not in ("features", "scaling", "init")},
        "home": str(folder / "home"),
        "weights": str(folder / "calibrated.pt"),
        "task": "dcgan",
        "num-server-rounds": 2,
        "local-epochs": EPOCHS,
        "feature-maps": MAPS,
        "batch-size": 4,
        "learning-rate": 0.01,
        "watch": "frechet_distance",
    }


@pytest.fixture
def make(keys):
    return lambda **changes: Dcgan(
        RunConfig.load({**keys, **{key.replace("_", "-"): v for key, v in changes.items()}})
    )


def node(number, of=NODES):
    return {"partition-id": number, "num-partitions": of}


def run(keys, folder, nodes=NODES, **changes):
    config = RunConfig.load({**keys, "results-dir": str(folder), **changes})
    run_inline(config, nodes, app_of_server, client_app)
    (said,) = read_runs(folder)
    return said


@pytest.fixture(scope="module", params=MODES)
def done(request, keys, tmp_path_factory):
    """A whole run of each mode of exchange."""
    return run(keys, tmp_path_factory.mktemp("runs"), exchange=request.param)


def model_of(said):
    return load_file(said.path / "model.safetensors")


def private_files(said, client="*"):
    folder = RunConfig.load(said.config).home_dir / "dcgan" / said.path.name
    return sorted(folder.glob(f"{client}/*"))


def assert_equal(one, two):
    assert one.keys() == two.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], two[key], err_msg=key)


# ---- a whole run --------------------------------------------------------------------------


def test_a_run_says_how_it_went(done):
    assert done.status == "completed"
    rounds = read_csv(done.path / "rounds.csv")
    assert [row["round"] for row in rounds] == ["0", "1", "2"]
    for row in rounds:
        known = {key for key, value in row.items() if value and key.endswith(("loss", "distance"))}
        assert known == {
            *(f"{part}_{who}_loss" for part in ("train", "valid") for who in NETWORKS),
            *("server_valid_frechet_distance", "test_frechet_distance"),
            "test_real_frechet_distance",
        }
    assert done.summary == {
        f"test_{name}": float(rounds[-1][f"test_{name}"])
        for name in ("frechet_distance", "real_frechet_distance")
    }
    epochs = read_csv(done.path / "epochs.csv")
    assert len(epochs) == 2 * NODES * EPOCHS
    assert list(epochs[0])[3:] == ["train_generator_loss", "train_discriminator_loss"]
    assert all(0 < float(row[key]) < 20 for row in epochs for key in list(row)[3:])
    partitions = read_csv(done.path / "partitions.csv")
    for row in partitions:
        assert sum(int(row[key]) for key in row if "=" in key) == int(row["num_examples"])
    assert sum(int(row["num_examples"]) + int(row["num_valid"]) for row in partitions) == 60


def distances_by_hand(task, arrays, number):
    """Of so many generated faces to test and validation, and of those to each other."""
    table, weights = task.faces.table, task.prepare().provenance["weights"]["sha256"]

    def features(faces):
        size = (task.config.image_size,) * 2
        with FeatureExtractor(task.home, task.view, weights) as extract:
            files = []
            for face in faces:
                with io.BytesIO() as file:
                    face.resize(size, Image.Resampling.BILINEAR).save(file, "PNG")
                    files.append(file.getvalue())
            return np.stack(list(extract(iter(files))))

    def cropped(row):
        return Image.open(io.BytesIO(table.read(row))).convert("RGB").resize((64, 64))

    valid, test = (
        features(map(cropped, rows[np.linspace(0, len(rows) - 1, number).astype(int)]))
        for rows in (table.rows("valid"), table.rows("test"))
    )
    noise = dcgan.noise(number, derived_seed(42, "judged"))
    made = features(
        Image.fromarray(face.transpose(1, 2, 0)) for face in dcgan.generate(arrays, noise)
    )
    pairs = {
        "test_frechet_distance": (made, test),
        "server_valid_frechet_distance": (made, valid),
        "test_real_frechet_distance": (valid, test),
    }
    return {column: frechet_distance(*pair) for column, pair in pairs.items()}


def test_the_distance_is_that_of_equally_many_faces(done, keys):
    """12 validation and 24 test images: every other test image, and 12 generated ones."""
    task = Dcgan(RunConfig.load({**keys, "exchange": done.config["exchange"]}))
    row = read_csv(done.path / "rounds.csv")[-1]
    for column, value in distances_by_hand(task, model_of(done), 12).items():
        assert float(row[column]) == pytest.approx(value, rel=1e-3, abs=0), column
        assert value > 10, column
    assert done.more["judged_faces"] == 12


@pytest.mark.slow
def test_no_more_faces_are_decoded_than_are_judged(make, monkeypatch, tmp_path):
    monkeypatch.setattr("celeba_fl.tasks.judging.MAX_FACES", 5)
    task = make(home=str(tmp_path))
    assert task.prepare().provenance["judged_faces"] == 5
    (state,) = tmp_path.glob("pixels/*/state.npy")
    assert (np.load(state) != EMPTY).sum() == 5 + 5
    arrays = task.initial_arrays()
    parts = task.evaluate_centrally(arrays).items()
    found = {f"{part}_{name}": value for part, m in parts for name, value in m.items()}
    assert found == pytest.approx(distances_by_hand(task, arrays, 5), rel=1e-3, abs=0)


def test_a_split_of_one_face_is_named_and_judges_nothing(make, tmp_path, caplog):
    data = write_celeba(tmp_path / "celeba", splits="0" * 6 + "1" + "2" * 4)
    task = make(dataset=str(data))
    assert task.prepare().provenance["judged_faces"] == 4
    assert "The valid split has 1 readable faces; a Fréchet distance needs two" in caplog.text
    assert list(task.evaluate_centrally(task.initial_arrays())) == ["test"]


def test_the_losses_of_clients_add_up(make):
    task = make()
    arrays = task.initial_arrays()
    counts = []
    for i in range(NODES):
        task.describe(node(i), {})
        parts, number = task.evaluate(arrays, node(i), {"server-round": 0})
        assert number == parts["valid"]["n"][0]
        counts.append(parts["train"])
    by_hand = sum(each["generator_loss"][0] for each in counts) / sum(e["n"][0] for e in counts)
    assert task.metrics(sum_counts(counts))["generator_loss"] == pytest.approx(by_hand)
    nothing = {"generator_loss": np.zeros(1), "discriminator_loss": np.zeros(1), "n": np.zeros(1)}
    assert all(np.isnan(value) for value in task.metrics(nothing).values())


def test_a_round_has_its_picture_from_the_same_noise(done):
    files = sorted((done.path / "samples").iterdir())
    assert [path.name for path in files] == [f"round-000{i}.png" for i in range(3)]
    noise = dcgan.noise(64, derived_seed(42, "samples"))
    faces = list(dcgan.generate(model_of(done), noise))
    with Image.open(files[-1]) as grid:
        assert grid.size == (8 * 64, 8 * 64)
        cell = np.asarray(grid)[64:128, 128:192]
    np.testing.assert_array_equal(cell.transpose(2, 0, 1), faces[8 + 2])


def test_the_report_shows_them(done):
    page = write_report(done.path).read_text()
    assert "could not be made" not in page
    assert "cannot be read" not in page
    assert page.count("data:image/webp") == 3 + 1
    assert "is not an FID" in page
    with Image.open(done.path / "plots" / "samples.webp") as animation:
        assert getattr(animation, "n_frames", 1) == 3
    plots = {path.stem for path in (done.path / "plots").glob("*.svg")}
    assert {"rounds_frechet_distance", "rounds_generator_loss", "clients_epochs"} <= plots
    assert "rounds_real_frechet_distance" not in plots


@pytest.mark.parametrize("cut", [1, 2])
def test_a_run_that_was_cut_off_goes_on_as_if_nothing_had_been(
    done, cut, keys, tmp_path, monkeypatch
):
    """Cut off when one client of a round has trained already, and has kept what it keeps."""
    exchange = done.config["exchange"]
    cut_off(keys, tmp_path, monkeypatch, cut, exchange=exchange)
    again = run(keys, tmp_path, exchange=exchange, resume="latest")
    assert len(again.flwr_run_ids) == 2
    assert_equal(model_of(again), model_of(done))
    for name in ("epochs.csv", "partitions.csv"):
        assert (again.path / name).read_text() == (done.path / name).read_text()
    for one, other in zip(private_files(again), private_files(done), strict=True):
        assert one.name == other.name
        assert_equal(load_file(one), load_file(other))
    pictures = [sorted((said.path / "samples").iterdir()) for said in (again, done)]
    for one, other in zip(*pictures, strict=True):
        assert one.read_bytes() == other.read_bytes()
    measured = [read_csv(said.path / "rounds.csv") for said in (again, done)]
    for one, other in zip(*measured, strict=True):
        assert {**one, "seconds": ""} == {**other, "seconds": ""}


def cut_off(keys, folder, monkeypatch, cut, **changes):
    """A run that ends in round `cut`, when the first client of it has trained already."""
    kept = Dcgan.train

    def train(self, arrays, node, instructions, seed):
        if (instructions["server-round"], node["partition-id"]) == (cut, 1):
            raise KeyboardInterrupt
        return kept(self, arrays, node, instructions, seed)

    with monkeypatch.context() as patch:
        patch.setattr(Dcgan, "train", train)
        with pytest.raises(KeyboardInterrupt):
            run(keys, folder, **changes)


@pytest.mark.slow
def test_a_run_goes_on_alike_though_its_newest_checkpoint_is_broken(
    keys, tmp_path, monkeypatch, caplog
):
    changes = {"exchange": "generator", "num-server-rounds": 3}
    whole = run(keys, tmp_path / "whole", **changes)
    cut_off(keys, tmp_path / "cut", monkeypatch, cut=3, **changes)
    (newest,) = (tmp_path / "cut").glob("*/checkpoints/round-0002.safetensors")
    newest.write_bytes(b"broken")
    again = run(keys, tmp_path / "cut", **changes, resume="latest")
    assert_equal(model_of(again), model_of(whole))
    assert "untrained discriminator" not in caplog.text


@pytest.mark.slow
def test_a_client_that_has_lost_its_discriminator_is_named(keys, tmp_path, caplog):
    said = run(keys, tmp_path, exchange="generator")
    assert "untrained discriminator" not in caplog.text
    lost = private_files(said, "1")
    for path in lost:
        path.unlink()
    run(keys, tmp_path, exchange="generator", resume="latest", **{"num-server-rounds": 4})
    (warning,) = (text for text in caplog.messages if "untrained discriminator" in text)
    assert warning.startswith("client 1, round 3: it trains against the untrained discriminator")
    assert str(lost[0].parent) in warning


# ---- what travels -------------------------------------------------------------------------


def test_what_travels_is_averaged_by_examples(keys, make, tmp_path):
    said = run(keys, tmp_path, **{"num-server-rounds": 1})
    task, start = make(), make().initial_arrays()
    replies = []
    for i in range(NODES):
        task.describe(node(i), {})
        seed = derived_seed(42, 1, str(i))
        replies.append(task.train(start, node(i), {"server-round": 1}, seed))
    total, found = sum(reply.num_examples for reply in replies), model_of(said)
    assert found.keys() == start.keys()
    for key in (
        "generator/norm2.running_var",
        "generator/conv2.weight",
        "discriminator/norm3.bias",
    ):
        mean = sum(r.num_examples / total * r.arrays[key].astype(float) for r in replies)
        np.testing.assert_allclose(found[key], mean, rtol=1e-5, atol=1e-7)
        assert not np.array_equal(found[key], start[key])


@pytest.mark.slow
def test_private_discriminators_stay_and_train_on(keys, make, tmp_path):
    """Two rounds by hand: each client goes on with the discriminator that it had."""
    said = run(keys, tmp_path, exchange="generator")
    assert all(key.startswith("generator/") for key in model_of(said))
    by_hand = make()
    both = by_hand.initial_arrays()
    arrays = {key: a for key, a in both.items() if key.startswith("generator/")}
    own = [{k: a for k, a in both.items() if k not in arrays}] * NODES
    for number in (1, 2):
        replies = []
        for i in range(NODES):
            by_hand.describe(node(i), {})
            seed = derived_seed(42, number, str(i))
            told = {"server-round": number}
            replies.append(by_hand.train({**arrays, **own[i]}, node(i), told, seed))
        own = [{key: r.arrays[key] for key in own[0]} for r in replies]
        total = sum(r.num_examples for r in replies)
        arrays = {
            key: sum(r.num_examples / total * r.arrays[key].astype(float) for r in replies).astype(
                np.float32
            )
            for key in arrays
        }
    for key, array in model_of(said).items():
        np.testing.assert_allclose(array, arrays[key], atol=1e-5, err_msg=key)
    for i in range(NODES):
        files = private_files(said, str(i))
        assert [path.stem for path in files] == ["round-0001", "round-0002"]
        for key, array in load_file(files[-1]).items():
            np.testing.assert_allclose(array, own[i][key], atol=1e-5, err_msg=key)
    assert not np.array_equal(
        own[0]["discriminator/conv2.weight"], own[1]["discriminator/conv2.weight"]
    )


def test_only_private_discriminators_are_kept(done):
    expected = NODES * 2 if done.config["exchange"] == "generator" else 0
    assert len(private_files(done)) == expected


@pytest.mark.parametrize("exchange", MODES)
def test_a_client_that_diverges_is_back_in_the_next_round(exchange, keys, tmp_path, monkeypatch):
    trains = dcgan.train_dcgan

    def diverge(arrays, pixels, *, seed, **settings):
        trained = trains(arrays, pixels, seed=seed, **settings)
        once = seed == derived_seed(42, 1, "1")
        return {key: array * (np.nan if once else 1) for key, array in trained.items()}

    monkeypatch.setattr(dcgan, "train_dcgan", diverge)
    said = run(keys, tmp_path, exchange=exchange)
    rounds = read_csv(said.path / "rounds.csv")
    assert [row["failures"] for row in rounds] == ["0", "1", "0"]


@pytest.mark.parametrize("exchange", MODES)
def test_one_client_is_central_training(exchange, keys, make, tmp_path):
    """Against a loop of plain PyTorch that knows nothing of rounds but that Adam begins anew."""
    changes = {"min-available-clients": 1, "learning-rate": 2e-4, "exchange": exchange}
    said = run(keys, tmp_path, nodes=1, **changes)
    task = make()
    task.describe(node(0, of=1), {})
    rows, _ = task._parts(node(0, of=1))
    images = torch.from_numpy(task._store(task.faces.table).read(rows)[:]).float() / 127.5 - 1

    networks = {"generator": dcgan.generator(MAPS), "discriminator": dcgan.discriminator(MAPS)}
    for name, network in networks.items():
        values = task.initial_arrays()
        own = {k.removeprefix(f"{name}/"): v for k, v in values.items() if k.startswith(name)}
        network.load_state_dict({key: torch.tensor(value) for key, value in own.items()})
    making, judging = networks.values()
    softplus = nn.functional.softplus
    for number in (1, 2):
        steps = [torch.optim.Adam(n.parameters(), 2e-4, (0.5, 0.999)) for n in (making, judging)]
        rng = torch.Generator().manual_seed(derived_seed(42, number, "0"))
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(images), generator=rng).split(4):
                made = making(torch.randn(len(batch), 100, generator=rng))
                judging.zero_grad()
                loss = softplus(-judging(images[batch])).mean()  # -log sigmoid
                (loss + softplus(judging(made.detach())).mean()).backward()
                steps[1].step()
                making.zero_grad()
                softplus(-judging(made)).mean().backward()
                steps[0].step()
    found = model_of(said)
    if exchange == "generator":
        found |= load_file(private_files(said, "0")[-1])
    for name, network in networks.items():
        for key, value in network.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                np.testing.assert_allclose(found[f"{name}/{key}"], value, atol=1e-5, err_msg=key)


def test_a_client_without_images_changes_nothing(make):
    task = make(valid_fraction=0.9, seed=1)
    clients = [node(i, of=20) for i in range(20)]
    empty = next(c for c in clients if task.describe(c, {}).num_train == 0)
    start = task.initial_arrays()
    said = task.train(start, empty, {"server-round": 1}, 0)
    assert said.num_examples == 0
    assert_equal(said.arrays, start)
    assert said.epochs == {f"train_{name}_loss": [0.0] * EPOCHS for name in NETWORKS}


def test_clients_with_images_of_their_own_need_no_server_that_has_any(keys, tmp_path, caplog):
    sites = write_sites(tmp_path, Path(keys["dataset"]))
    nodes = [{"site": path.name, "data-path": str(path)} for path in sites]
    said = run(keys, tmp_path / "runs", nodes, dataset="none", weights="no file", patience=1)
    assert "frechet_distance has had no value on validation examples" in caplog.text
    assert "metrics with a value: generator_loss, discriminator_loss" in caplog.text
    last = read_csv(said.path / "rounds.csv")[-1]
    assert last["valid_generator_loss"]
    assert not last["test_frechet_distance"]
    assert not said.weights
    assert said.summary == {}
    with Image.open(said.path / "samples" / "round-0002.png") as grid:
        assert grid.size == (512, 512)


# ---- what goes with a run -----------------------------------------------------------------


def test_a_falling_distance_is_the_better(keys, tmp_path):
    said = run(keys, tmp_path, target=1e9)
    assert said.status == "stopped"
    assert said.reason.startswith("target: server_valid_frechet_distance is ")
    assert said.rounds == 0


def test_faces_can_be_made_of_its_model(done, tmp_path):
    arrays = load_generator(done)
    files = write_faces(arrays, 5, 3, tmp_path / "five")
    assert [path.name for path in files] == [*(f"face-000{i}.png" for i in range(1, 6)), "grid.png"]
    more = write_faces(arrays, 7, 3, tmp_path / "seven")
    assert files[4].read_bytes() == more[4].read_bytes()
    other = write_faces(arrays, 5, 4, tmp_path / "other")
    assert files[-1].read_bytes() != other[-1].read_bytes()
    with Image.open(files[1]) as face:
        (expected,) = list(dcgan.generate(arrays, dcgan.noise(5, 3)))[1:2]
        np.testing.assert_array_equal(np.asarray(face).transpose(2, 0, 1), expected)
    with Image.open(files[-1]) as grid:
        assert grid.size == (3 * 64, 2 * 64)
    with safe_open(done.path / "model.safetensors", "numpy") as file:
        assert file.metadata()["feature-maps"] == str(MAPS)


def test_a_model_is_not_taken_for_that_of_another_task(done, tmp_path):
    with pytest.raises(InputError, match="is not one of the task attributes"):
        load_model(done)
    shutil.copytree(done.path, tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors does not exist.*resume = '.*/run'"):
        load_generator(replace(done, path=tmp_path / "run"))
    (tmp_path / "run" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="cannot be read"):
        load_generator(replace(done, path=tmp_path / "run"))
    (tmp_path / "run" / "model.safetensors").unlink()
    (tmp_path / "run" / "model.safetensors").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        load_generator(replace(done, path=tmp_path / "run"))


@pytest.mark.slow
def test_a_baseline_is_central_training_or_is_refused(done, tmp_path):
    path = shutil.copytree(done.path, tmp_path / "run")
    if done.config["exchange"] == "generator":
        with pytest.raises(InputError, match=r"exchange = 'generator'.*take a run of exchange"):
            make_baseline(replace(done, path=path))
        assert not (path / "baseline.json").exists()
        return
    made = make_baseline(replace(done, path=path))
    task = Dcgan(config_of(done))
    lone = SingleClient(task, node(0, of=1), task.prepare().instructions)
    distances = [
        task.evaluate_centrally(arrays)["server_valid"]["frechet_distance"]
        for _, arrays in lone.rounds((1, 2))
    ]
    assert made["chosen"]["by"] == "server_valid_frechet_distance"
    assert made["chosen"]["value"] == min(distances)
    assert made["central"]["test_frechet_distance"] >= 0
    assert made["local"]["clients"] == NODES
    assert json.loads((path / "baseline.json").read_text()) == made


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"strategy": "fedadam"}, "strategy = 'fedadam'.*take fedavg"),
        ({"watch": "loss"}, "watch = 'loss': must be one of generator_loss"),
    ],
)
def test_what_is_not_made_for_it_is_refused(changes, error, keys, tmp_path):
    with pytest.raises(InputError, match=error):
        run(keys, tmp_path, **changes)


def test_rules_know_which_metrics_are_losses(make):
    task = make()
    rules = StopRules("generator_loss", lower_is_better=task.lower_is_better)
    for number, value in enumerate((3.0, 2.0, 2.5)):
        rules.note(number, {"valid_generator_loss": value})
    assert rules.memory.best_round == 1


# ---- what a hostile client sends ----------------------------------------------------------

HELD = Client(1, 3, 1, np.array([2, 1, 0, 0]))


def losses(n, **changed):
    return {**{loss: np.array([0.5]) for loss in LOSSES}, "n": np.array([n]), **changed}


def test_honest_replies_pass(make):
    make().check_description(HELD)
    make().check_counts(HELD, {"train": losses(3), "valid": losses(1)}, final=True)
    epochs = {f"train_{loss}": [0.5] * make().config.local_epochs for loss in LOSSES}
    make().check_epochs(HELD, epochs)
    with pytest.raises(InputError):
        make().check_epochs(HELD, {})


@pytest.mark.parametrize(
    "train",
    [
        losses(4),
        losses(3.0),
        losses(3, generator_loss=np.array([-1.0])),
        losses(3, generator_loss=np.array([1])),
        losses(3, more=np.array([1.0])),
    ],
)
def test_losses_of_other_images_are_refused(make, train):
    with pytest.raises(InputError):
        make().check_counts(HELD, {"train": train, "valid": losses(1)}, final=False)


def test_groups_that_do_not_add_up_are_refused(make):
    with pytest.raises(InputError, match="groups"):
        make().check_description(Client(1, 4, 1, HELD.counts))
