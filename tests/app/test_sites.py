"""Sites with images of their own."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import (
    info,
)
from toys import write_sites

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.vision.features import FeatureStore


def run_sites(toy: dict[str, Any], nodes: list[dict[str, Any]], folder: Path, **keys: Any) -> Path:
    config = RunConfig.load({**toy, "results-dir": str(folder), **keys})
    run_inline(config, nodes, server_app.app, client_app)
    return Path(read_runs(folder)[0].path)


@pytest.fixture
def sites(toy: dict[str, Any], tmp_path: Path) -> list[dict[str, Any]]:
    folders = write_sites(tmp_path / "sites", Path(toy["dataset"]))
    return [{"site": folder.name, "data-path": str(folder)} for folder in folders]


def test_without_data_on_the_server_sites_are_judged_on_valid(
    toy: dict[str, Any], sites: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = run_sites(toy, sites, tmp_path / "runs", dataset="none")
    row = read_csv(path / "rounds.csv")[-1]
    assert row["valid_loss"]
    assert {row[name] for name in row if name.startswith(("test_", "server_valid_"))} == {""}
    assert {row["split"] for row in read_csv(path / "attributes.csv")} == {"train", "valid"}
    assert json.loads((path / "summary.json").read_text()) == {}


def test_no_image_name_or_path_of_a_site_is_written_by_the_server(
    toy: dict[str, Any], sites: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = run_sites(toy, sites, tmp_path / "runs", dataset="none")
    written = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    for trace in ("faces/", "000001.jpg", str(tmp_path / "sites")):
        assert trace.encode() not in written


def test_sites_and_partitions_in_one_run(
    toy: dict[str, Any], sites: list[dict[str, Any]], tmp_path: Path
) -> None:
    partitions = [{"partition-id": i, "num-partitions": 2} for i in range(2)]
    path = run_sites(toy, [*sites, *partitions], tmp_path / "runs")
    held = {
        row["client"]: int(row["num_examples"]) + int(row["num_valid"])
        for row in read_csv(path / "partitions.csv")
    }
    named = {"hospital-a": 20, "hospital-b": 20, "hospital-c": 20}
    assert held == {"0": 30, "1": 30, **named}
    assert read_csv(path / "rounds.csv")[-1]["test_loss"]


def test_a_site_that_lacks_attributes_is_refused_by_name(
    toy: dict[str, Any],
    sites: list[dict[str, Any]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    metadata = Path(sites[1]["data-path"]) / "metadata.csv"
    metadata.write_text(metadata.read_text().replace("Smiling", "Smile"))
    path = run_sites(toy, sites, tmp_path / "runs", dataset="none")
    assert [row["client"] for row in read_csv(path / "partitions.csv")] == [
        "hospital-a",
        "hospital-c",
    ]
    assert "client hospital-b: " in caplog.text
    assert "lacks the columns Smiling" in caplog.text


def test_two_sites_of_one_name_are_refused(
    toy: dict[str, Any], sites: list[dict[str, Any]], tmp_path: Path
) -> None:
    sites[1]["site"] = "hospital-a"
    with pytest.raises(InputError, match="two clients are called 'hospital-a'"):
        run_sites(toy, sites, tmp_path / "runs", dataset="none")


def test_a_full_disk_at_a_site_is_named(
    toy: dict[str, Any],
    sites: list[dict[str, Any]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill = FeatureStore.fill

    def full(store: FeatureStore, rows: np.ndarray, bad_images: str) -> None:
        if "hospital-b" in store.table.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fill(store, rows, bad_images)

    monkeypatch.setattr(FeatureStore, "fill", full)
    path = run_sites(toy, sites, tmp_path / "runs", dataset="none")
    assert info(path)["num_clients"] == 2
    assert "client hospital-b: [Errno 28] No space left on device" in caplog.text
