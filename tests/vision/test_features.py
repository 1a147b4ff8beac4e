import io
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import MobileNet_V2_Weights
from torchvision.transforms.v2.functional import normalize

from celeba_fl.common.errors import InputError
from celeba_fl.data.images import decode
from celeba_fl.data.sources import load
from celeba_fl.data.table import Table
from celeba_fl.vision import features
from celeba_fl.vision.backbones import BACKBONES
from celeba_fl.vision.features import FeatureExtractor, FeatureStore, preprocessing_hash
from celeba_fl.vision.weights import load_backbone, resolve_weights

NAME, SIZE, NUMBER = "mobilenet_v2", 32, 24
ALL = np.arange(NUMBER)


@pytest.fixture(scope="module")
def weights(toy):
    """Hash of weights in the toy's home, where their ONNX file is too."""
    home = Path(toy["home"])
    sha256 = resolve_weights(NAME, toy["weights"], home, lambda: None)
    FeatureExtractor(home, NAME, sha256, SIZE).__exit__()
    return sha256


@pytest.fixture
def home(toy, weights, tmp_path):
    """A home without features that shares the toy's weights and ONNX file."""
    home = tmp_path / "home"
    home.mkdir()
    for kept in ("weights", "onnx"):
        (home / kept).symlink_to(Path(toy["home"]) / kept)
    return home


def make_table(images, fingerprint="noise"):
    rows = np.arange(len(images))
    return Table(
        name="noise",
        fingerprint=fingerprint,
        image=np.array([f"{row:06d}.jpg" for row in rows]),
        celeb_id=rows,
        labels=np.zeros((len(rows), 40), bool),
        split=np.zeros(len(rows), np.uint8),
        content=rows.astype(np.uint64),
        read=lambda row: images[row],
    )


@pytest.fixture(scope="module")
def images():
    """JPEGs of noise."""
    rng = np.random.default_rng(0)

    def image():
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (20, 16, 3), np.uint8)).save(file, "JPEG")
        return file.getvalue()

    return [image() for _ in range(NUMBER)]


@pytest.fixture
def table(images):
    return make_table(images)


@pytest.fixture
def store(home, table, weights):
    return FeatureStore(home, table, NAME, weights, SIZE)


@pytest.fixture
def decoded(monkeypatch):
    """The images that are decoded."""
    found = []

    def record(data, size):
        found.append(data)
        return decode(data, size)

    monkeypatch.setattr(features, "decode", record)
    return found


def eager(home, sha256, images, size, name=NAME):
    """Features by PyTorch, normalised as torchvision does for ImageNet."""
    norm = MobileNet_V2_Weights.IMAGENET1K_V2.transforms()
    pixels = torch.from_numpy(np.stack([decode(image, size) for image in images]))
    with torch.inference_mode():
        module = load_backbone(name, home, sha256)
        return module(normalize(pixels / 255, norm.mean, norm.std)).numpy()


def test_features_are_those_of_eager_pytorch(store, home, weights, images):
    store.fill(ALL, "fail")
    found = store.read(ALL)[:]
    expected = eager(home, weights, images, SIZE)
    assert (found.shape, found.dtype) == ((NUMBER, 1280), np.float32)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * expected.max())
    assert np.ptp(found, axis=0).max() > 0.01 * found.max()


@pytest.mark.parametrize(
    ("name", "size"), [("vit_tiny", 64), pytest.param("vit_b_16", 224, marks=pytest.mark.slow)]
)
def test_features_of_transformers(tmp_path, images, name, size):
    torch.manual_seed(0)
    torch.save(BACKBONES[name].build().state_dict(), tmp_path / "weights.pt")
    sha256 = resolve_weights(name, str(tmp_path / "weights.pt"), tmp_path, lambda: None)
    with FeatureExtractor(tmp_path, name, sha256, size) as run:
        found = np.stack(list(run(iter(images[:3]))))
    assert (found.shape, found.dtype) == ((3, BACKBONES[name].dim), np.float32)
    np.testing.assert_allclose(
        found, eager(tmp_path, sha256, images[:3], size, name), rtol=1e-3, atol=1e-4
    )
    assert np.ptp(found, axis=0).max() > 0.01


def test_photographs_under_imagenet_weights(shared_data, tmp_path):
    photographs = sorted(shared_data("celeba").glob("img_align_celeba/*.jpg"))[:3]
    sha256 = resolve_weights(
        NAME, str(shared_data("../weights/mobilenet_v2_imagenet.pt")), tmp_path, lambda: None
    )
    images = [photograph.read_bytes() for photograph in photographs]
    with FeatureExtractor(tmp_path, NAME, sha256, 224) as run:
        found = np.stack(list(run(iter(images))))
    expected = eager(tmp_path, sha256, images, 224)
    assert expected.max() > 1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_row_does_not_depend_on_the_others(store, home, weights, images, monkeypatch):
    store.fill(ALL, "fail")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr("celeba_fl.vision.store.CHUNK", 5)
    backwards = make_table(images[::-1], fingerprint="backwards")
    other = FeatureStore(home, backwards, NAME, weights, SIZE)
    for rows in (ALL[3:4], ALL[7:], ALL[:9]):
        other.fill(rows, "fail")
    np.testing.assert_array_equal(other.read(ALL)[:][::-1], store.read(ALL)[:])


def test_rows_are_read_in_the_order_asked_for(store):
    store.fill(ALL, "fail")
    every = store.read(ALL)[:]
    np.testing.assert_array_equal(store.read(np.array([5, 2, 5]))[:], every[[5, 2, 5]])
    assert store.read(ALL[:0])[:].shape == (0, 1280)
    some = store.read(np.array([7, 3, 0, 1]))
    assert len(some) == 4
    np.testing.assert_array_equal(some[1:3], every[[3, 0]])
    np.testing.assert_array_equal(some[np.array([3, 0])], every[[1, 7]])
    np.testing.assert_array_equal(some[3:9], every[[1]])
    assert store.readable(np.array([5, 2])).tolist() == [5, 2]


def test_only_missing_rows_are_computed(store, home, table, weights, images, decoded):
    store.fill(ALL[:10], "fail")
    assert sorted(decoded) == sorted(images[:10])
    store.fill(ALL[5:12], "fail")
    assert sorted(decoded) == sorted(images[:12])
    again = FeatureStore(home, table, NAME, weights, SIZE)
    again.fill(ALL[:12], "fail")
    assert len(decoded) == 12
    np.testing.assert_array_equal(again.read(ALL[:12])[:], store.read(ALL[:12])[:])


def test_nothing_is_started_where_nothing_is_missing(store, monkeypatch):
    store.fill(ALL[:3], "fail")
    monkeypatch.setattr(features, "FeatureExtractor", None)
    store.fill(ALL[:3], "fail")
    store.fill(ALL[:0], "fail")


def test_rows_that_are_not_filled_are_not_given_away(store):
    store.fill(ALL[:3], "fail")
    with pytest.raises(RuntimeError, match="before they are filled"):
        store.readable(ALL[:4])


def test_what_one_store_fills_another_one_sees_at_once(store, home, table, weights):
    other = FeatureStore(home, table, NAME, weights, SIZE)
    store.fill(ALL[:3], "fail")
    assert other.readable(ALL[:3]).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(other.read(ALL[:3])[:], store.read(ALL[:3])[:])


def test_stores_of_other_data_weights_or_sizes_are_apart(store, home, images, weights):
    table = make_table(images)
    assert FeatureStore(home, table, NAME, weights, SIZE).folder == store.folder
    others = [
        FeatureStore(home, make_table(images, "other"), NAME, weights, SIZE),
        FeatureStore(home, table, NAME, "0" * 64, SIZE),
        FeatureStore(home, table, NAME, weights, SIZE + 1),
    ]
    assert len({store.folder, *(other.folder for other in others)}) == 4


def test_preprocessing_hash_tells_sizes_and_versions_apart(monkeypatch):
    first = preprocessing_hash(NAME, 96)
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert preprocessing_hash(NAME, 96) == first
    assert preprocessing_hash(NAME, 97) != first
    monkeypatch.setattr(features, "PREPROCESSING", "cropped")
    assert preprocessing_hash(NAME, 96) != first


def test_unreadable_images_are_logged_and_left_out(home, images, weights, decoded, caplog):
    spoilt = [*images]
    spoilt[2], spoilt[7] = images[2][:200], b""
    table = make_table(spoilt, "spoilt")
    store = FeatureStore(home, table, NAME, weights, SIZE)
    store.fill(ALL, "skip")
    rest = [row for row in ALL if row not in (2, 7)]
    assert store.readable(ALL).tolist() == rest
    assert store.readable(np.array([8, 7, 6])).tolist() == [8, 6]
    warning = "Left out 2 unreadable images of noise: 000002.jpg, 000007.jpg"
    assert caplog.messages.count(warning) == 1

    whole = FeatureStore(home, make_table(images), NAME, weights, SIZE)
    whole.fill(ALL, "fail")
    np.testing.assert_array_equal(store.read(np.array(rest))[:], whole.read(np.array(rest))[:])

    decoded.clear()
    FeatureStore(home, table, NAME, weights, SIZE).fill(ALL, "skip")
    assert caplog.messages.count(warning) == 2
    assert decoded == []


def test_unreadable_images_end_a_run_that_wants_it_so(home, images, weights):
    table = make_table([*images[:5], b"", *[b"no image"] * 7], "spoilt")
    store = FeatureStore(home, table, NAME, weights, SIZE)
    rows = np.arange(13)
    for _ in range(2):
        with pytest.raises(InputError) as error:
            store.fill(rows, "fail")
        assert str(error.value).startswith(
            "8 of the images of noise cannot be read: 000005.jpg, 000006.jpg, 000007.jpg, "
            "000008.jpg, 000009.jpg; delete them"
        )
        assert "bad-images = 'skip'" in str(error.value)
    store.fill(rows[:5], "fail")


def test_a_whole_image_in_the_place_of_a_deleted_bad_one(home, celeba_folder, weights):
    folder = celeba_folder()
    path = folder / "img_align_celeba" / "000003.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[:300])
    table = load(str(folder), home)
    with pytest.raises(InputError, match=r"000003\.jpg; delete them, and only then put whole"):
        FeatureStore(home, table, NAME, weights, SIZE).fill(np.arange(12), "fail")
    path.unlink()
    path.write_bytes(whole)
    table = load(str(folder), home)
    FeatureStore(home, table, NAME, weights, SIZE).fill(np.arange(12), "fail")


def test_a_failing_source_is_an_error_not_a_bad_image(home, table, weights):
    def gone(row):
        raise FileNotFoundError(row)

    object.__setattr__(table, "read", gone)
    store = FeatureStore(home, table, NAME, weights, SIZE)
    with pytest.raises(FileNotFoundError):
        store.fill(ALL, "skip")
    with pytest.raises(RuntimeError, match="before they are filled"):
        store.readable(ALL)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a disk that is full")
def test_on_a_full_disk_filling_is_an_error_and_no_row_counts(
    home, table, weights, tmp_path, monkeypatch
):
    store = FeatureStore(home, table, "mobilenet_v2", weights, 32)
    (store.folder / "rows.npy").unlink()
    (store.folder / "rows.npy").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        store.fill(np.arange(len(table)), "skip")
    (store.folder / "rows.npy").unlink()
    with pytest.raises(RuntimeError, match="before they are filled"):
        store.readable(np.arange(len(table)))


def test_backbone_is_exported_once(home, weights, monkeypatch):
    monkeypatch.setattr(features, "_export", None)
    for _ in range(2):
        with FeatureExtractor(home, NAME, weights, SIZE):
            pass
    names = sorted(path.name for path in (home / "onnx").glob("[!.]*"))
    assert names == [f"{weights}-{SIZE}.onnx"]


def test_batches_on_a_gpu_have_one_shape(home, images, weights, monkeypatch):
    shapes = []

    def fake_runner(home, backbone, sha256):
        def run(pixels):
            shapes.append(pixels.shape)
            return pixels.reshape(len(pixels), -1)[:, :2].astype(np.float32)

        return run

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(features, "_cuda_runner", fake_runner)
    monkeypatch.setattr(features, "GPU_BATCH", 10)
    spoilt = [*images]
    spoilt[3] = b""
    with FeatureExtractor(home, NAME, weights, SIZE) as run:
        found = list(run(iter(spoilt)))
    assert shapes == [(10, 3, SIZE, SIZE)] * 3
    assert [row for row, feature in enumerate(found) if feature is None] == [3]
    for row in {*range(NUMBER)} - {3}:
        expected = decode(images[row], SIZE).ravel()[:2]
        np.testing.assert_array_equal(found[row], expected)


# Arguments: home, dataset, weights, first row, last row, step, and after how many images to die.
WRITER = """
import os, signal, sys
from pathlib import Path
import numpy as np
from celeba_fl.vision import features, store
from celeba_fl.data.sources import load

home, dataset, weights = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
first, last, step, death = map(int, sys.argv[4:])
store.CHUNK, calls, decode = 4, [], features.decode

def count(data, size):
    calls.append(size)
    if len(calls) == death:
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(data, size)

features.decode = count
store = features.FeatureStore(home, load(dataset, home), "mobilenet_v2", weights, 32)
store.fill(np.arange(first, last, step), "fail")
"""


@pytest.fixture
def start(toy, home, weights):
    def start(first, last, step, death=0):
        arguments = [str(x) for x in (home, toy["dataset"], weights, first, last, step, death)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), *arguments], env=environment
        )

    return start


@pytest.fixture
def expected(toy, weights):
    """The features of the toy's 96 images, from the home where one process computed them."""
    home = Path(toy["home"])
    store = FeatureStore(home, load(toy["dataset"], home), NAME, weights, SIZE)
    store.fill(np.arange(96), "fail")
    return store.read(np.arange(96))[:]


def test_two_processes_fill_overlapping_rows(toy, home, weights, start, expected, decoded):
    writers = [start(0, 64, 1), start(95, 31, -1)]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    store = FeatureStore(home, load(toy["dataset"], home), NAME, weights, SIZE)
    assert len(store.readable(np.arange(96))) == 96
    assert decoded == []
    np.testing.assert_array_equal(store.read(np.arange(96))[:], expected)


def test_a_killed_writer_leaves_the_rest_to_others(toy, home, weights, start, expected, decoded):
    assert start(0, 96, 1, death=11).wait(120) == -signal.SIGKILL
    store = FeatureStore(home, load(toy["dataset"], home), NAME, weights, SIZE)
    assert store.readable(np.arange(8)).tolist() == [*range(8)]
    with pytest.raises(RuntimeError, match="before they are filled"):
        store.readable(np.array([8]))
    store.fill(np.arange(96), "fail")
    assert len(decoded) == 96 - 8
    np.testing.assert_array_equal(store.read(np.arange(96))[:], expected)


def test_filling_shows_progress(store, caplog):
    caplog.set_level(logging.INFO, "flwr.celeba_fl")
    store.fill(ALL, "fail")
    assert caplog.messages[-1].startswith(f"Computing features: {NUMBER} of {NUMBER} (")
