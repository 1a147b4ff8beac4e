"""Today's code reads what older code wrote; see `tests/support/old_run`."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from old_data import CLIENTS, old_settings, write_old_data
from pyarrow import parquet
from safetensors.numpy import load_file

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.inference.predict import load_model, predict_files
from celeba_fl.launch.inline import run_inline
from celeba_fl.report.comparison import name_runs, write_comparison
from celeba_fl.report.page import write_report
from celeba_fl.runs.reading import find_run, read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.task import load_task
from celeba_fl.vision.features import FeatureStore

OLD = Path(__file__).parents[1] / "support" / "old_run"
NAME = "2026-11-25_16-02-18_1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The old run in its results directory, with its data and features; to be changed."""
    write_old_data(tmp_path)
    run = Path(shutil.copytree(OLD / "run", tmp_path / "runs" / NAME))
    shutil.copytree(OLD / "features", tmp_path / "home" / "features")
    info = (run / "run.json").read_text()
    (run / "run.json").write_text(info.replace("/tmp/old", str(tmp_path)))
    return run


def resume(tmp_path: Path, **keys: Any) -> None:
    """Resume the old run until round 3."""
    config = {**old_settings(tmp_path), "num-server-rounds": 3, "resume": "latest", **keys}
    run_inline(RunConfig.load(config), CLIENTS, server_app.app, client_app)


def rounds(path: Path) -> dict[str, list[float]]:
    """The columns of `rounds.csv`, but for times and for bytes, of which there are fewer now."""
    rows, apart = read_csv(path / "rounds.csv"), {"seconds", "bytes_up", "bytes_down"}
    return {
        name: [float(row[name] or "nan") for row in rows] for name in rows[0] if name not in apart
    }


def same_as_three_rounds(path: Path) -> None:
    """Floats may differ between machines, columns may have been added since, and bins are others.

    Of some twenty images, the AUROC of clients depends on which share a bin.
    """
    columns = rounds(path)
    for name, column in rounds(OLD / "three_rounds").items():
        near = {"abs": 0.02} if name in ("train_auroc", "valid_auroc") else {"rel": 1e-4}
        assert columns[name] == pytest.approx(column, **near), name
    model = load_file(path / "model.safetensors")
    for key, array in load_file(OLD / "three_rounds" / "model.safetensors").items():
        np.testing.assert_allclose(model[key], array, rtol=1e-3, atol=1e-5)


def test_it_is_listed(old: Path, tmp_path: Path) -> None:
    (info,) = read_runs(tmp_path / "runs")
    assert (info.path, info.status, info.rounds) == (old, "completed", 2)
    assert RunConfig.load(info.config).backbone == "vit_tiny"
    assert info.summary["test_accuracy"] == pytest.approx(rounds(old)["test_accuracy"][-1])


def test_it_resumes_to_the_model_of_a_run_that_was_never_interrupted(
    old: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """From its checkpoint and with its features."""

    def compute(store: FeatureStore) -> None:
        raise AssertionError("features are computed, but they are there")

    monkeypatch.setattr(FeatureStore, "computing", compute)
    resume(tmp_path)

    (info,) = read_runs(tmp_path / "runs")
    assert (info.path, info.status, len(info.flwr_run_ids)) == (old, "completed", 2)
    same_as_three_rounds(old)
    assert "when histograms of scores ended at 8" in caplog.text


def test_a_new_run_of_its_settings_is_the_same(old: Path, tmp_path: Path) -> None:
    """Its head still is there by its names: features as they are, and a random start."""
    config = {**old_settings(tmp_path), "num-server-rounds": 3}
    run_inline(RunConfig.load(config), CLIENTS, server_app.app, client_app)
    path = read_runs(tmp_path / "runs")[0].path
    assert path != old
    same_as_three_rounds(path)


def test_it_does_not_resume_with_other_settings(old: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"strategy was 'fedadam' and is 'fedavg'"):
        resume(tmp_path, strategy="fedavg")
    with pytest.raises(InputError, match=r"features was 'last' and is '4:2x2'"):
        resume(tmp_path, features="4:2x2")


def test_its_model_predicts_what_it_scored(old: Path, tmp_path: Path) -> None:
    load_task(RunConfig.load(old_settings(tmp_path))).prepare()  # brings the weights
    model = load_model(find_run("latest", tmp_path / "runs"))
    scores = parquet.read_table(old / "test_scores.parquet").to_pylist()[0]
    image = tmp_path / "celeba" / "img_align_celeba" / scores["image"]
    (answer,) = dict(predict_files(model, [image])).values()
    assert not isinstance(answer, str)
    assert answer["Smiling"].score == pytest.approx(scores["Smiling_score"], abs=1e-3)


def test_without_its_weights_predict_names_them(old: Path, tmp_path: Path) -> None:
    run = find_run("latest", tmp_path / "runs")
    with pytest.raises(InputError, match=run.weights["sha256"]):
        load_model(run)


def test_its_report_and_a_comparison_are_written(old: Path, tmp_path: Path) -> None:
    page = write_report(old)
    assert NAME in page.read_text()
    other = Path(shutil.copytree(old, tmp_path / "runs" / "other"))
    comparison = write_comparison(name_runs([old, other]), tmp_path / "comparison.html")
    assert NAME in comparison.read_text()
