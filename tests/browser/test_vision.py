"""What the page makes of pictures, beside what Python makes of them."""

import base64
import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from celeba_fl.data.drawn_pictures import HEIGHT, WIDTH
from celeba_fl.data.images import decode, encode
from celeba_fl.data.table import hash_image
from celeba_fl.rounds.runtimes import TOLERANCE, distance
from celeba_fl.vision.augmentation import alteration
from celeba_fl.vision.extractor import FeatureExtractor, onnx_file
from celeba_fl.vision.probe import probe, probe_features
from celeba_fl.vision.views import make_view
from celeba_fl.vision.weights import resolve_weights

PEER = Path(__file__).parent / "js" / "vision_peer.mjs"
SHAPES = [(218, 178), (64, 64), (40, 31), (1, 1), (7, 90), (215, 160), (90, 7), (65, 64)]
pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")


def page(what: str, given: object = None) -> Any:
    """What the page's modules make of something, in node."""
    done = subprocess.run(
        ["node", str(PEER)],
        input=json.dumps([what, given]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def picture(pixels: np.ndarray) -> dict[str, Any]:
    """Pixels (height, width, 3) as the page has them."""
    return {"width": pixels.shape[1], "height": pixels.shape[0], "data": text(pixels.tobytes())}


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def opened(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def square(pixels: np.ndarray) -> bytes:
    """(3, size, size) as the page has it."""
    return pixels.transpose(1, 2, 0).tobytes()


def test_hashes_are_those_of_python() -> None:
    datas = [bytes(range(256)) * 3 + b"a" * more for more in (0, 1, 127)] + [b"", b"a" * 128]
    assert page("hashes", [text(data) for data in datas]) == [str(hash_image(d)) for d in datas]


def test_resizing_is_pillows_to_the_last_bit() -> None:
    cases = [(noise(*shape), size) for shape in SHAPES for size in (64, 128)]
    found = page("resized", [{"image": picture(p), "size": size} for p, size in cases])
    for (pixels, size), one in zip(cases, found, strict=True):
        assert base64.b64decode(one) == square(decode(encode(pixels.transpose(2, 0, 1)), size))


def test_altered_versions_are_those_of_python_to_the_last_bit() -> None:
    datas = [jpeg(noise(HEIGHT, WIDTH)), encode(probe()), jpeg(noise(40, 90))]
    cases = [(data, 7 + 2**40 * i, i + 1) for data in datas for i in range(7)]
    given = [
        {
            "image": picture(opened(data)),
            "size": 64,
            "encoded": text(data),
            "version": {"seed": seed, "number": number},
        }
        for data, seed, number in cases
    ]
    for (data, *version), one in zip(cases, page("altered", given), strict=True):
        wanted = square(decode(data, 64, alteration(data, 64, *version)))
        assert base64.b64decode(one) == wanted, version


def test_the_probe_is_the_same_picture() -> None:
    assert page("probe") == picture(probe().transpose(1, 2, 0))


@pytest.mark.skipif("ORT_WEB" not in os.environ, reason="ORT_WEB names no ONNX Runtime Web")
@pytest.mark.slow
def test_features_are_the_native_ones(tmp_path: Path) -> None:
    weights = resolve_weights("mobilenet_v2", "drawn", tmp_path, lambda _: pytest.fail("trained"))
    view = make_view("mobilenet_v2", "fast", 64)
    images = [noise(HEIGHT, WIDTH), noise(300, 90)]
    told = {
        "backbone": view.backbone,
        "weights": weights,
        "features": view.features,
        "imageSize": view.image_size,
        "dim": view.dim,
    }
    file = str(onnx_file(tmp_path, view, weights))
    found = page("seen", {"onnx": file, "view": told, "images": [picture(i) for i in images]})
    with FeatureExtractor(tmp_path, view, weights) as extractor:
        wanted = list(extractor(encode(image.transpose(2, 0, 1)) for image in images))
    for row, native in zip(found["rows"], wanted, strict=True):
        page_row = np.frombuffer(base64.b64decode(row), np.float32)
        np.testing.assert_allclose(page_row, native, atol=1e-5)
    assert found["words"]["runtime"].startswith("onnxruntime-web ")
    seen = np.frombuffer(base64.b64decode(found["probe"]), np.float32)
    assert distance(seen, probe_features(tmp_path, view, weights)) < TOLERANCE / 1000
