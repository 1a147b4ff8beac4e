import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2
from torchvision.transforms.v2.functional import normalize

from celeba_fl.data.images import decode
from celeba_fl.vision import extractor
from celeba_fl.vision.backbones import BACKBONES
from celeba_fl.vision.extractor import FeatureExtractor
from celeba_fl.vision.views import make_view
from celeba_fl.vision.weights import load_backbone, resolve_weights

NAME, SIZE, NUMBER = "mobilenet_v2", 32, 24
VIEW = make_view(NAME, "last", SIZE)
ALL = np.arange(NUMBER)


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
    sha256 = resolve_weights(name, str(tmp_path / "weights.pt"), tmp_path, None)
    with FeatureExtractor(tmp_path, make_view(name, "last", size), sha256) as run:
        found = np.stack(list(run(iter(images[:3]))))
    assert (found.shape, found.dtype) == ((3, BACKBONES[name].dim), np.float32)
    np.testing.assert_allclose(
        found, eager(tmp_path, sha256, images[:3], size, name), rtol=1e-3, atol=1e-4
    )
    assert np.ptp(found, axis=0).max() > 0.01


@pytest.fixture(scope="module")
def lively(tmp_path_factory):
    """A home with its random MobileNetV2, whose batch norm was fitted to noise, and its hash.

    Without that its deeper features are next to nothing.
    """
    home = tmp_path_factory.mktemp("lively")
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = mobilenet_v2()
        for part in network.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = 1.0
        network.train()(torch.randn(16, 3, 96, 96))
    torch.save(network.state_dict(), home / "weights.pt")
    return home, network.eval(), resolve_weights(NAME, str(home / "weights.pt"), home, None)


def by_hooks(whole, images, items):
    """Means over equal blocks of the maps that torchvision's own MobileNetV2 has."""
    maps = {}
    for number, block in enumerate(whole.features):
        block.register_forward_hook(lambda *args, number=number: maps.update({number: args[2]}))
    with torch.inference_mode():
        whole(images)
    parts = []
    for number, rows, columns in items:
        edge = maps[number].shape[-1]
        kernel = edge // rows, edge // columns
        parts.append(torch.nn.functional.avg_pool2d(maps[number], kernel).flatten(1))
    return torch.cat(parts, dim=1).numpy()


@pytest.mark.parametrize(
    ("features", "items"),
    [
        pytest.param("13:2x2", [(13, 2, 2)], marks=pytest.mark.slow),
        pytest.param("13:3x2", [(13, 3, 2)], marks=pytest.mark.slow),
        pytest.param(
            "0:4x4+10:6x1+13:2x2+17:3x3",
            [(0, 4, 4), (10, 6, 1), (13, 2, 2), (17, 3, 3)],
            marks=pytest.mark.slow,
        ),
        ("2:1x1+last", [(2, 1, 1), (18, 1, 1)]),
        pytest.param("18:1x1", [(18, 1, 1)], marks=pytest.mark.slow),
    ],
)
def test_a_cut_network_sees_what_torchvisions_whole_one_does(lively, images, features, items):
    """Channel by channel, of each its cells row by row; on grids that divide the map."""
    home, whole, sha256 = lively
    view = make_view(NAME, features, 96)
    with FeatureExtractor(home, view, sha256) as run:
        found = np.stack(list(run(iter(images[:3]))))
    pixels = torch.from_numpy(np.stack([decode(image, 96) for image in images[:3]]))
    module = extractor.seeing(home, view, sha256)
    with torch.inference_mode():
        eager = module(pixels).numpy()
    expected = by_hooks(whole, pixels * module.scale + module.shift, items)
    assert found.shape == expected.shape == (3, view.dim)
    np.testing.assert_allclose(eager, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * expected.max())
    assert np.ptp(found, axis=0).max() > 0.1


def test_nothing_after_the_deepest_stage_is_exported(home, weights, tmp_path):
    """The whole network is there already."""
    (own := tmp_path / "own").mkdir()
    (own / "weights").symlink_to(home / "weights")
    FeatureExtractor(own, make_view(NAME, "2:2x2", 64), weights).__exit__()
    (cut,), whole = (own / "onnx").glob("*.onnx"), home / "onnx" / f"{weights}-{SIZE}.onnx"
    # Of 2.2 million numbers the blocks to 2 have 0.007, 4 bytes each.
    assert whole.stat().st_size > 8.8e6
    assert cut.stat().st_size < 1e5


@pytest.mark.parametrize(
    "features",
    [
        pytest.param("last", marks=pytest.mark.slow),
        pytest.param("13:2x2", marks=pytest.mark.slow),
        pytest.param("13:2x2+17:2x1+last", marks=pytest.mark.slow),
    ],
)
def test_mirrored_features_are_the_mean_of_two_passes(lively, features):
    """So an image and its mirror image have the same ones."""
    rng, files = np.random.default_rng(1), []
    pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
    for one in (pixels, pixels[:, ::-1]):
        with io.BytesIO() as file:
            Image.fromarray(one).save(file, "PNG")
            files.append(file.getvalue())
    home, _, sha256 = lively
    found = {}
    for flags in ("", "+mirrored"):
        with FeatureExtractor(home, make_view(NAME, features + flags, 64), sha256) as run:
            found[flags] = np.stack(list(run(iter(files))))
    image, mirror = found["+mirrored"]
    np.testing.assert_allclose(image, mirror, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(image, found[""].mean(axis=0), rtol=1e-4, atol=1e-5)
    assert np.abs(np.diff(found[""], axis=0)).max() > 0.1


@pytest.mark.slow
def test_token_grids_of_a_transformer(tmp_path, images):
    torch.manual_seed(0)
    torch.save(BACKBONES["vit_tiny"].build().state_dict(), tmp_path / "weights.pt")
    sha256 = resolve_weights("vit_tiny", str(tmp_path / "weights.pt"), tmp_path, None)
    view = make_view("vit_tiny", "2:4x2+4:1x4+last+folded", 64)
    with FeatureExtractor(tmp_path, view, sha256) as run:
        (found,) = run(iter(images[:1]))
    module, norm = load_backbone("vit_tiny", tmp_path, sha256), BACKBONES["vit_tiny"]
    tokens: list[torch.Tensor] = []
    for layer in (module.encoder.layers[1], module.encoder.ln):
        layer.register_forward_hook(lambda *args: tokens.append(args[2][0]))
    pixels = torch.from_numpy(decode(images[0], 64)[None])
    with torch.inference_mode():
        own = module(normalize(pixels / 255, norm.mean, norm.std))[0]
    first, second = (one[1:].reshape(4, 4, 128).permute(2, 0, 1) for one in tokens)
    means = second.mean(dim=1)
    expected = [
        first.mean(dim=2).flatten(),  # two columns of two patches, one on the other
        ((means + means.flip(1)) / 2)[:, :2].flatten(),
        own,
    ]
    assert found.shape == (view.dim,) == (128 * 4 + 128 * 2 + 128,)
    np.testing.assert_allclose(found, torch.cat(expected).numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.slow  # of noise under random weights: test_features_are_those_of_eager_pytorch
def test_photographs_under_imagenet_weights(shared_data, tmp_path):
    photographs = sorted(shared_data("celeba").glob("img_align_celeba/*.jpg"))[:3]
    sha256 = resolve_weights(
        NAME, str(shared_data("../weights/mobilenet_v2_imagenet.pt")), tmp_path, None
    )
    images = [photograph.read_bytes() for photograph in photographs]
    with FeatureExtractor(tmp_path, make_view(NAME, "last", 224), sha256) as run:
        found = np.stack(list(run(iter(images))))
    expected = eager(tmp_path, sha256, images, 224)
    assert expected.max() > 1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_backbone_is_exported_once(home, weights, monkeypatch):
    monkeypatch.setattr(extractor, "_export", None)
    for _ in range(2):
        with FeatureExtractor(home, VIEW, weights):
            pass
    assert (home / "onnx" / f"{weights}-{SIZE}.onnx").exists()


def test_without_a_gpu_what_is_exported_needs_no_torch(home, weights, images):
    code = f"""
import sys
from pathlib import Path
from celeba_fl.vision import extractor
from celeba_fl.vision.views import make_view
extractor.GPUS = ()
view = make_view({NAME!r}, "last", {SIZE})
with extractor.FeatureExtractor(Path({str(home)!r}), view, {weights!r}) as run:
    assert len(list(run(iter([{images[0]!r}])))) == 1
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr


def test_batches_on_a_gpu_have_one_shape(home, images, weights, monkeypatch):
    shapes = []

    def fake_runner(home, view, sha256):
        def run(pixels):
            shapes.append(pixels.shape)
            return pixels.reshape(len(pixels), -1)[:, :2].astype(np.float32)

        return run

    monkeypatch.setattr(extractor, "GPUS", ("/dev/null",))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(extractor, "_cuda_runner", fake_runner)
    monkeypatch.setattr(extractor, "GPU_BATCH", 10)
    spoilt = [*images]
    spoilt[3] = b""
    with FeatureExtractor(home, VIEW, weights) as run:
        found = list(run(iter(spoilt)))
    assert shapes == [(10, 3, SIZE, SIZE)] * 3
    assert [row for row, feature in enumerate(found) if feature is None] == [3]
    for row in {*range(NUMBER)} - {3}:
        expected = decode(images[row], SIZE).ravel()[:2]
        np.testing.assert_array_equal(found[row], expected)
