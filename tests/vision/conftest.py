import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tables import image_table

from celeba_fl.data.images import decode
from celeba_fl.vision import extractor
from celeba_fl.vision.extractor import FeatureExtractor
from celeba_fl.vision.features import FeatureStore
from celeba_fl.vision.views import make_view
from celeba_fl.vision.weights import resolve_weights

NAME, NUMBER = "mobilenet_v2", 24
VIEW = make_view(NAME, "last", 32)


@pytest.fixture(scope="module")
def state(toy):
    """A MobileNetV2's state dict, with its classifier, as torchvision gives it."""
    return torch.load(toy["weights"])


@pytest.fixture
def stored(toy, home):
    """The hash of weights that are stored under `home`."""
    return resolve_weights(NAME, toy["weights"], home, None)


@pytest.fixture(scope="module")
def weights(toy):
    """Hash of weights in the toy's home, where their ONNX file is too."""
    home = Path(toy["home"])
    sha256 = resolve_weights(NAME, toy["weights"], home, None)
    FeatureExtractor(home, VIEW, sha256).__exit__()
    return sha256


@pytest.fixture
def home(toy, weights, tmp_path):
    """A home without features that shares the toy's weights and ONNX file."""
    home = tmp_path / "home"
    home.mkdir()
    for kept in ("weights", "onnx"):
        (home / kept).symlink_to(Path(toy["home"]) / kept)
    return home


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
    return image_table(images)


@pytest.fixture
def store(home, table, weights):
    return FeatureStore(home, table, VIEW, weights)


@pytest.fixture
def decoded(monkeypatch):
    """The images that are decoded."""
    found = []

    def record(data, size, **_):
        found.append(data)
        return decode(data, size)

    monkeypatch.setattr(extractor, "decode", record)
    return found
