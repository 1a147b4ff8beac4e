"""The page on which a model is tried: its answers are the predictor's, and nothing is kept."""

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest
from words import text_of

from celeba_fl.dashboard import try_model
from celeba_fl.inference.predict import Predictor, load_model
from celeba_fl.runs.reading import RunInfo, read_run

Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def _forget() -> None:
    try_model._ready.clear()


@pytest.fixture(scope="module")
def face() -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (60, 50, 3)).astype(np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def upload(page: AppTest, name: str, data: bytes) -> AppTest:
    return page.file_uploader(key="picture").set_value((name, data, "image/png")).run()


def test_without_models(runs: Path, page: Open) -> None:
    assert "No run has a model yet" in text_of(page("try_model"))


def test_answers_are_those_of_the_predictor(run: Path, page: Open, face: bytes) -> None:
    opened = page("try_model")
    said = text_of(opened)
    assert "trained on aligned faces" in said
    assert "written nowhere" in said
    opened = upload(opened, "face.png", face)
    with Predictor(load_model(read_run(run))) as predict:
        (expected,) = predict([face])
    assert expected is not None
    table = opened.dataframe[0].value
    assert len(table) == 40
    assert list(table["probability"]) == sorted(table["probability"], reverse=True)
    for _, row in table.iterrows():
        one = expected[str(row["attribute"]).replace(" ", "_")]
        assert row["probability"] == one.probability
        assert row["seen"] == ("yes" if one.present else "no")
    seen = ", ".join(str(row["attribute"]) for _, row in table.iterrows() if row["seen"] == "yes")
    assert all(name in text_of(opened) for name in seen.split(", "))


def test_two_runs_on_one_picture(run: Path, runs: Path, page: Open, face: bytes) -> None:
    shutil.copytree(run, runs / "aaa")
    opened = page("try_model")
    opened.selectbox(key="second").set_value(run.name).run()
    table = upload(opened, "face.png", face).dataframe[0].value
    np.testing.assert_array_equal(table["probability (first)"], table["probability (second)"])
    assert len([one for one in opened.markdown if "Seen by the model" in one.value]) == 2


def test_nothing_is_written(run: Path, page: Open, face: bytes, tmp_path: Path) -> None:
    opened = page("try_model")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    upload(opened, "face.png", face)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_directory_of_somebody_else_is_passed_over(
    run: Path, runs: Path, page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run, runs / "theirs")
    stat = Path.stat

    def refuse(path: Path, **options: bool) -> os.stat_result:
        if path.parent == runs / "theirs":
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    opened = page("try_model")
    text_of(opened)
    assert len(opened.selectbox(key="first").options) == 1


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_a_bad_image_gets_one_message(run: Path, page: Open, data: bytes) -> None:
    opened = upload(page("try_model"), "face_1.png", data)
    (error,) = opened.error
    assert "face_1.png cannot be read as an image" in error.value.replace("\\", "")
    assert not opened.dataframe


def test_half_an_image_is_bad_too(run: Path, page: Open, face: bytes) -> None:
    opened = upload(page("try_model"), "half.png", face[: len(face) // 2])
    assert "half.png cannot be read as an image" in text_of(opened)


def test_a_model_that_cannot_be_used_says_why(run: Path, page: Open, face: bytes) -> None:
    (run / "model.safetensors").write_bytes(b"junk")
    opened = upload(page("try_model"), "face.png", face)
    assert "model.safetensors cannot be read" in text_of(opened)
    (run / "run.json").write_text("{")
    assert "is unreadable" in text_of(page("try_model"))


def test_a_model_is_loaded_once(
    run: Path, page: Open, face: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []

    def load(info: RunInfo) -> object:
        loads.append(info.path)
        return load_model(info)

    monkeypatch.setattr(try_model, "load_model", load)
    for _ in range(2):
        upload(page("try_model"), "face.png", face)
    assert loads == [run]
