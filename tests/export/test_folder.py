"""Exported folders: read as people read them who do not have this package."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.numpy import save_file

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.common.files import pack_arrays
from celeba_fl.config import RunConfig
from celeba_fl.data.cifar10 import IMAGE_SIZE
from celeba_fl.data.images import decode
from celeba_fl.export.folder import export
from celeba_fl.export.networks import LENET, faces
from celeba_fl.inference.predict import Predictor, load_model, predict_files
from celeba_fl.launch.inline import run_inline
from celeba_fl.models import dcgan, lenet
from celeba_fl.models.heads import initial_head
from celeba_fl.runs.reading import RunInfo, find_run, read_run
from celeba_fl.vision.views import make_view


def with_model(
    make_run: Callable[..., Path], arrays: Arrays, metadata: dict[str, str], task: str
) -> RunInfo:
    """A run directory with a model, and with little else."""
    info = {"config": {"task": task, "strategy": "fedavg"}, "dataset": {"name": "uoft-cs/cifar10"}}
    path = make_run("run", info=info)
    save_file(arrays, path / "model.safetensors", metadata)
    return read_run(path)


def snippets(folder: Path) -> Sequence[str]:
    """The pieces of Python in a card."""
    text = (folder / "README.md").read_text()
    return [part.partition("```")[0] for part in text.split("```python\n")[1:]]


def executed(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a piece of Python leaves, run in a folder."""
    found: dict[str, Any] = {}
    monkeypatch.chdir(folder)
    exec(code, found)
    return found


@pytest.mark.slow
def test_a_face_gets_the_same_answers_in_all_ways(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = "2:4x4+5:2x2+last+folded+mirrored"
    keys = {**toy, "features": view, "thresholds": "valid", "valid-fraction": 0.3}
    config = RunConfig.load({**keys, "results-dir": str(tmp_path / "runs")})
    run_inline(config, 2, server_app.app, client_app)
    run, out = find_run("latest", config.runs_dir), tmp_path / "out"
    assert export(run, out) == out / "README.md"
    files = sorted((Path(run.config["dataset"]) / "img_align_celeba").iterdir())[:3]
    model = load_model(run)
    answers = [answer for _, answer in predict_files(model, files) if not isinstance(answer, str)]
    wanted = np.array([[one.probability for one in answer.values()] for answer in answers])
    present = np.array([[one.present for one in answer.values()] for answer in answers])
    session = onnxruntime.InferenceSession(out / "model.onnx")
    images = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    found = session.run(None, {"images": images})
    np.testing.assert_allclose(found[0], wanted, atol=1e-4)
    np.testing.assert_array_equal(found[1], present)
    shutil.copy(files[0], out / "picture.jpg")
    for code in snippets(out):
        probabilities = executed(code, out, monkeypatch)["probabilities"]
        np.testing.assert_allclose(np.ravel(probabilities.tolist()), wanted[0], atol=1e-4)
    config = json.loads((out / "config.json").read_text())
    assert config["labels"] == list(model.attributes)
    at = 1 / (1 + np.exp(-model.thresholds))
    np.testing.assert_allclose(config["thresholds"], at, atol=1e-7)
    props = session.get_modelmeta().custom_metadata_map
    assert json.loads(props["labels"]) == config["labels"]
    preprocessor = json.loads((out / "preprocessor_config.json").read_text())
    assert preprocessor["size"] == {"height": model.view.image_size, "width": model.view.image_size}
    card = ModelCard.load(out / "README.md")
    assert card.data.pipeline_tag == "image-classification"
    measured = {one.metric_type: one.metric_value for one in card.data.eval_results or []}
    assert measured["auroc"] == pytest.approx(run.summary["test_auroc"], abs=1e-6)
    assert str(tmp_path) not in card.content
    assert "trained a face-attribute head on" in card.content.partition("\n## ")[0]
    for title in ("Intended use", "Factors", "Metrics", "Privacy", "Caveats"):
        assert f"\n## {title}\n" in card.content
    assert "](pictures/attributes.png)" in card.content
    assert (out / "pictures" / "attributes.png").exists()


@pytest.mark.slow
def test_a_head_on_the_last_features_is_torchvisions_own_network(
    toy_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(read_run(toy_run))
    view = make_view("mobilenet_v2", "last", 32)
    model = replace(model, head=initial_head(view.dim, 40, seed=2), view=view)
    given = faces(model)
    (tmp_path / "model.safetensors").write_bytes(pack_arrays(given.tensors, {}))
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.jpg", "PNG")
    with Predictor(model) as predict:
        [answer] = predict([(tmp_path / "picture.jpg").read_bytes()])
    found = executed(given.code, tmp_path, monkeypatch)["probabilities"].tolist()
    wanted = [one.probability for one in (answer or {}).values()]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.slow
def test_a_square_picture_gets_the_same_classes_in_all_ways(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays, out = lenet.initial_arrays(0, 3), tmp_path / "out"
    metadata = {"network": LENET, "classes": json.dumps(["cat", "dog", "ship"])}
    export(with_model(make_run, arrays, metadata, "lenet"), out)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)
    Image.fromarray(pixels).save(out / "picture.jpg", "PNG")
    seen = decode((out / "picture.jpg").read_bytes(), IMAGE_SIZE)
    odds = np.exp(lenet.scores(arrays, seen[None])[0])
    for code in snippets(out):
        found = executed(code, out, monkeypatch)["probabilities"]
        np.testing.assert_allclose(np.ravel(found.tolist()), odds / odds.sum(), atol=1e-6)
    config = json.loads((out / "config.json").read_text())
    assert config["labels"] == ["cat", "dog", "ship"]


@pytest.mark.slow
def test_a_generator_makes_the_same_faces_in_all_ways(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays, out = dcgan.initial_arrays(2, seed=1), tmp_path / "out"
    export(with_model(make_run, arrays, {"network": dcgan.NETWORK}, "dcgan"), out)
    noise = dcgan.noise(5, seed=3)
    wanted = np.stack(list(dcgan.generate(arrays, noise)))
    session = onnxruntime.InferenceSession(out / "model.onnx")
    [found] = session.run(None, {"noise": noise})
    np.testing.assert_array_equal(found.transpose(0, 3, 1, 2), wanted)
    by_onnx, by_torch = (executed(code, out, monkeypatch) for code in snippets(out))
    assert by_onnx["images"].shape == (16, 64, 64, 3)
    own = by_torch["model"](torch.from_numpy(noise))
    np.testing.assert_array_equal(dcgan.in_8_bits(own).numpy(), wanted)
    assert not (out / "preprocessor_config.json").exists()
    card = ModelCard.load(out / "README.md")
    assert card.data.pipeline_tag == "unconditional-image-generation"


def test_what_is_in_a_folder_is_not_written_over(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    run = with_model(make_run, dcgan.initial_arrays(2, 1), {"network": dcgan.NETWORK}, "dcgan")
    with pytest.raises(InputError, match="full is not empty: name another"):
        export(run, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match=r"mine.txt/out cannot be written to"):
        export(run, tmp_path / "full" / "mine.txt" / "out")


def test_a_model_of_a_task_of_ones_own_is_refused_by_name(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = with_model(make_run, {"sum": np.ones(1, np.float32)}, {}, "mine")
    with pytest.raises(InputError, match=f"{run.path.name}: its model is of a task of its own"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
