"""Predictions: what a run says of its own test images, and of files that are none."""

import io
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import run as run_adding
from PIL import Image
from pyarrow import parquet
from rich.console import Console
from safetensors import safe_open
from safetensors.numpy import save_file

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.common.errors import InputError
from celeba_fl.common.files import pack_arrays
from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.inference import predict
from celeba_fl.inference.predict import (
    Predictor,
    can_predict,
    load_model,
    predict_files,
    predictions_json,
    predictions_table,
)
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import RunInfo, final_model, find_run
from celeba_fl.vision.views import make_view


@pytest.fixture(scope="module")
def whole(toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> RunInfo:
    """A run of the main task."""
    config = RunConfig.load({**toy, "results-dir": str(tmp_path_factory.mktemp("whole"))})
    run_inline(config, 2, server_app.app, client_app)
    return find_run("latest", config.runs_dir)


def images(whole: RunInfo) -> Path:
    return Path(whole.config["dataset"]) / "img_align_celeba"


def rewritten(whole: RunInfo, folder: Path, **metadata: str | None) -> RunInfo:
    """The run with a model of other metadata; None takes a key away."""
    with safe_open(whole.path / "model.safetensors", "numpy") as file:
        names, said = file.keys(), {**file.metadata(), **metadata}
        arrays = {name: file.get_tensor(name) for name in names}
    save_file(arrays, folder / "model.safetensors", {k: v for k, v in said.items() if v})
    return replace(whole, path=folder)


def test_a_test_image_scores_what_the_run_says(whole: RunInfo) -> None:
    table = parquet.read_table(whole.path / "test_scores.parquet").to_pydict()
    paths = [images(whole) / name for name in table["image"]]
    said = list(predict_files(load_model(whole), paths))

    assert len(said) == 24
    for row, (path, of) in enumerate(said):
        assert path == paths[row]
        assert isinstance(of, dict)
        assert [one.score for one in of.values()] == [table[f"{n}_score"][row] for n in ATTRIBUTES]
        for one in of.values():
            assert one.probability == pytest.approx(1 / (1 + math.exp(-one.score)), abs=1e-15)
            assert one.present == (one.score > 0)


@pytest.mark.parametrize(
    "features",
    [pytest.param("13:2x2+folded+mirrored", marks=pytest.mark.slow), "13:1x2+17:1x1+last"],
)
def test_of_other_features_it_scores_what_the_run_says(
    toy: dict[str, Any], tmp_path: Path, features: str
) -> None:
    config = RunConfig.load({**toy, "features": features, "results-dir": str(tmp_path)})
    run_inline(config, 2, server_app.app, client_app)
    run = find_run("latest", tmp_path)
    view = make_view("mobilenet_v2", features, 32)
    said = {"name": features, "spec": view.features, "image_size": 32, "dim": view.dim}
    assert run.features == said
    model = load_model(run)
    assert model.view == view
    assert model.head["weight"].shape == (40, view.dim)
    table = parquet.read_table(run.path / "test_scores.parquet").to_pydict()
    for row, (_, of) in enumerate(predict_files(model, [images(run) / n for n in table["image"]])):
        assert isinstance(of, dict)
        assert [one.score for one in of.values()] == [table[f"{n}_score"][row] for n in ATTRIBUTES]


def test_models_without_a_word_about_features_saw_the_last(whole: RunInfo, tmp_path: Path) -> None:
    assert load_model(rewritten(whole, tmp_path, features=None)).view.features == "last"


def test_a_model_of_bf16_where_there_is_none(
    whole: RunInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    model = rewritten(whole, tmp_path, precision="bf16")
    monkeypatch.setattr(predict, "lacking_bf16", lambda: "")
    assert load_model(model).view.precision == "bf16"
    monkeypatch.setattr(predict, "lacking_bf16", lambda: "the processor is old")
    assert load_model(model).view.precision == "fp32"
    assert "in bf16, and this machine cannot: the processor is old" in caplog.text
    assert load_model(rewritten(whole, tmp_path, precision=None)).view.precision == "fp32"


def test_a_model_of_features_that_there_are_not(whole: RunInfo, tmp_path: Path) -> None:
    wrong = "not one of the task attributes: .*features = '13:9x9': '13:9x9' is finer"
    with pytest.raises(InputError, match=wrong):
        load_model(rewritten(whole, tmp_path, features="13:9x9"))


def test_thresholds(whole: RunInfo, tmp_path: Path) -> None:
    path = next(images(whole).iterdir())
    with Predictor(load_model(whole)) as predict:
        (plain,) = predict([path.read_bytes()])
    assert plain
    scores = [one.score for one in plain.values()]
    below, above = np.nextafter(scores, -np.inf), np.array(scores)
    for thresholds, present in ((below, True), (above, False)):
        run = rewritten(whole, tmp_path, thresholds=json.dumps(thresholds.tolist()))
        with Predictor(load_model(run)) as predict:
            (of,) = predict([path.read_bytes()])
        assert of
        assert [one.present for one in of.values()] == [present] * 40
        assert [one.score for one in of.values()] == scores


def test_models_without_thresholds(whole: RunInfo, tmp_path: Path) -> None:
    model = load_model(rewritten(whole, tmp_path, thresholds=None))
    assert model.thresholds.tolist() == [0.0] * 40


def test_it_says_what_its_probabilities_are(whole: RunInfo, tmp_path: Path) -> None:
    plain = load_model(whole)
    assert plain.probabilities == "as the head gives them, not recalibrated"
    about = json.dumps({"by": "valid", "slope": [0.5] * 40, "offset": [0.0] * 40})
    model = load_model(rewritten(whole, tmp_path, calibration=about))
    assert model.probabilities == "recalibrated on the clients' validation images"
    assert predictions_json(model, {})["probabilities"] == model.probabilities
    assert model.probabilities in str(predictions_table(model, []).caption)
    for broken in ('{"by": "test"}', "[1]", "{"):
        with pytest.raises(InputError, match="not one of the task attributes"):
            load_model(rewritten(whole, tmp_path, calibration=broken))


def test_any_form_and_size(whole: RunInfo) -> None:
    png = io.BytesIO()
    Image.new("RGBA", (301, 17), (200, 30, 60, 128)).save(png, "PNG")
    with Predictor(load_model(whole)) as predict:
        said = list(predict([png.getvalue(), b"nothing", png.getvalue()]))
        assert said[0] == said[2]
        assert said[1] is None
        assert list(predict([png.getvalue()])) == said[:1]  # as often as one likes


def test_files_that_cannot_be_read(whole: RunInfo, tmp_path: Path) -> None:
    good = next(images(whole).iterdir())
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:200])
    (tmp_path / "empty.png").touch()
    names = ["text.jpg", "cut.jpg", "empty.png", "missing.jpg", ""]
    said = list(predict_files(load_model(whole), [good, *(tmp_path / n for n in names), good]))

    assert [isinstance(of, str) for _, of in said] == [False, *[True] * 5, False]
    assert said[0] == said[-1]
    assert {of for _, of in said[1:4]} == {"it is not an image, or not a complete one"}
    assert said[4][1] == "No such file or directory"
    assert said[5][1] == "Is a directory"


def test_more_than_are_in_memory_at_once(whole: RunInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted(images(whole).iterdir())[:7]
    at_once = list(predict_files(load_model(whole), paths))
    monkeypatch.setattr("celeba_fl.inference.predict.CHUNK", 3)
    assert list(predict_files(load_model(whole), paths)) == at_once


# ---- what is not there ----------------------------------------------------------------------


def test_weights_that_are_not_here(
    whole: RunInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELEBA_FL_HOME", str(tmp_path / "empty"))
    run = replace(whole, home=str(tmp_path / "gone"))
    with pytest.raises(InputError, match=r"not kept in .*gone or .*empty .*set CELEBA_FL_HOME"):
        load_model(run)

    # Wherever they are now.
    shutil.copytree(Path(whole.home) / "weights", tmp_path / "empty" / "weights")
    assert load_model(run).home == tmp_path / "empty"


def test_a_run_without_a_model(whole: RunInfo, tmp_path: Path) -> None:
    run = replace(whole, path=tmp_path, status="failed")
    with pytest.raises(InputError, match=r"model.safetensors does not exist: the run is failed"):
        load_model(run)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"model.safetensors cannot be read"):
        load_model(run)


def test_a_model_of_another_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run_adding(tmp_path, num_server_rounds=1)
    with pytest.raises(InputError, match=r"is not one of the task attributes: .*attributes"):
        load_model(find_run(str(path), tmp_path))


# ---- for people ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "faces"),
    [("drawn", "drawn faces, not photographs"), ("[b]", "aligned faces ([b])")],
)
def test_the_table(whole: RunInfo, dataset: str, faces: str) -> None:
    names = {"config": {**whole.config, "dataset": dataset}, "dataset": {"name": dataset}}
    model = load_model(replace(whole, **names))
    path = next(images(whole).iterdir())
    ((_, of),) = predict_files(model, [path])
    assert isinstance(of, dict)
    console = Console(width=100)
    with console.capture() as text:
        console.print(predictions_table(model, [(Path("[red]"), of), (path, of)]))

    lines = text.get().splitlines()
    assert faces in " ".join(line.strip() for line in lines[-3:])
    assert "[red]" in lines[1]
    rows = [[c.strip() for c in ln.strip("│ ").split("│")] for ln in lines if ln.startswith("│")]
    assert [row[0] for row in rows] == list(ATTRIBUTES)
    first = next(iter(of.values()))
    answer = f"{'yes' if first.present else 'no'} {first.probability:.0%}"
    assert [" ".join(cell.split()) for cell in rows[0][1:]] == [answer, answer]


def test_latest_is_the_newest_that_can_predict(whole: RunInfo, tmp_path: Path) -> None:
    path = shutil.copytree(whole.path, tmp_path / "2001-01-01_00-00-00_1")
    failed = shutil.copytree(whole.path, tmp_path / "2002-01-01_00-00-00_1")
    (failed / "model.safetensors").unlink()
    other = shutil.copytree(whole.path, tmp_path / "2003-01-01_00-00-00_1")
    (other / "model.safetensors").write_bytes(pack_arrays({"w": np.zeros(1)}, {"network": "x"}))
    spoilt = shutil.copytree(whole.path, tmp_path / "2004-01-01_00-00-00_1")
    head, metadata = final_model(whole)
    nan = {name: np.full_like(array, np.nan) for name, array in head.items()}
    (spoilt / "model.safetensors").write_bytes(pack_arrays(nan, metadata))

    assert find_run("latest", tmp_path, can_predict).path == path
    with pytest.raises(InputError, match=r"model\.safetensors: .* has NaN or infinity in it"):
        load_model(find_run("latest", tmp_path))
