import numpy as np
import pytest
import torch
from torchvision.models import MobileNet_V2_Weights
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
    names = sorted(path.name for path in (home / "onnx").glob("[!.]*"))
    assert names == [f"{weights}-{SIZE}.onnx"]


def test_batches_on_a_gpu_have_one_shape(home, images, weights, monkeypatch):
    shapes = []

    def fake_runner(home, view, sha256):
        def run(pixels):
            shapes.append(pixels.shape)
            return pixels.reshape(len(pixels), -1)[:, :2].astype(np.float32)

        return run

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
