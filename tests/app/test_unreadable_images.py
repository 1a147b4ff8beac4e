"""Runs on images of which one cannot be read."""

from pathlib import Path
from typing import Any

import pytest
from toys import write_celeba

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv


@pytest.fixture
def cut_short(toy: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The toy with the first train image of a hundred bytes only."""
    folder = write_celeba(tmp_path / "celeba", splits="0" * 20 + "1" * 4 + "2" * 4, seed=5)
    image = folder / "img_align_celeba" / "000001.jpg"
    image.write_bytes(image.read_bytes()[:100])
    return {**toy, "dataset": str(folder), "results-dir": str(tmp_path / "runs")}


def test_an_unreadable_image_is_named_and_left_out(
    cut_short: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_inline(RunConfig.load(cut_short), 4, server_app.app, client_app)
    (done,) = read_runs(tmp_path / "runs")
    assert done.status == "completed"
    held = read_csv(done.path / "partitions.csv")
    assert sum(int(row["num_examples"]) + int(row["num_valid"]) for row in held) == 19
    assert "000001.jpg" in caplog.text


def test_an_unreadable_image_fails_the_run_under_fail(
    cut_short: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whose image it is reads its name, the server does not."""
    with pytest.raises(InputError, match=r"client \d: .* cannot be read: "):
        run_inline(
            RunConfig.load({**cut_short, "bad-images": "fail"}), 4, server_app.app, client_app
        )
    (done,) = read_runs(tmp_path / "runs")
    assert done.status == "failed"
    assert "000001.jpg" not in done.reason
    assert "cannot be read: 000001.jpg" in caplog.text
