import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from celeba_fl.common.errors import InputError, for_others
from celeba_fl.vision import extractor, precision
from celeba_fl.vision.extractor import FeatureExtractor
from celeba_fl.vision.features import FeatureStore, preprocessing_hash
from celeba_fl.vision.precision import bf16_runner, lacking_bf16, resolve
from celeba_fl.vision.views import make_view

VIEW = make_view("mobilenet_v2", "last", 32)
FAST = replace(VIEW, precision="bf16")
needs_bf16 = pytest.mark.skipif(bool(lacking_bf16()), reason=lacking_bf16())


@pytest.fixture
def able(monkeypatch):
    """Makes the processor one of these abilities, as OpenVINO names them."""

    def make(*abilities):
        core = SimpleNamespace(get_property=lambda *_: list(abilities))
        monkeypatch.setattr(precision, "_core", lambda: core)

    return make


def test_auto_is_bf16_where_the_processor_has_it(able, monkeypatch):
    able("FP32", "BF16")
    assert [resolve(key) for key in ("fp32", "bf16", "auto")] == ["fp32", "bf16", "bf16"]
    able("FP32", "FP16")
    assert [resolve(key) for key in ("fp32", "bf16", "auto")] == ["fp32", "bf16", "fp32"]


def test_without_openvino_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert resolve("auto") == "fp32"
    with pytest.raises(InputError, match=r"'bf16': the package openvino .* 'celeba-fl\[fast\]'"):
        bf16_runner(Path(), 1)


def test_a_processor_without_bf16_is_refused_and_everybody_may_read_why(able):
    able("FP32")
    with pytest.raises(InputError) as caught:
        bf16_runner(Path(), 1)
    said = for_others(caught.value)
    assert said.startswith("precision = 'bf16': the processor has no instructions for bfloat16;")
    assert "set precision to 'fp32'" in said


def test_stores_of_another_precision_are_apart(store, home, table, weights):
    assert preprocessing_hash(FAST) != preprocessing_hash(VIEW)
    assert FeatureStore(home, table, FAST, weights).folder != store.folder


def test_bf16_leaves_a_gpu_idle(home, weights, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(extractor, "bf16_runner", lambda *_: len)
    monkeypatch.setattr(extractor, "_cuda_runner", None)
    with FeatureExtractor(home, FAST, weights) as run:
        assert run._run is len
    extractor._onnx_runner.cache_clear()


@needs_bf16
def test_features_in_bf16_are_close(store, home, table, weights, images):
    rows = np.arange(len(images))
    store.fill(rows, "fail")
    fast = FeatureStore(home, table, FAST, weights)
    fast.fill(rows, "fail")
    exact, close = store.read(rows)[:], fast.read(rows)[:]
    assert (close.shape, close.dtype) == (exact.shape, np.float32)
    assert 0 < np.abs(close - exact).max() < 0.05 * exact.max()
    with FeatureExtractor(home, FAST, weights) as run:
        again = np.stack(list(run(iter(images[:3]))))
    np.testing.assert_array_equal(again, close[:3])


@needs_bf16
def test_openvino_tells_nobody_that_it_is_used():
    script = (
        "from celeba_fl.vision.precision import lacking_bf16; import sys; lacking_bf16();"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry.')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.decode().split("\n")[-2] == "[]"
