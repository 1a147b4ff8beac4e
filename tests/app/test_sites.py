"""Sites with images of their own."""

import errno
import json
import os
import sys
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
from celeba_fl.tasks.attributes import Attributes
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
    (path / "log.txt").unlink()  # in one process, the log of the sites is that of the run
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


# Faults of a site's own tables: the old text, the new one, and what the server may read of it.
FAULTS = {
    "a cell": (
        ",0\n",
        ",meier\n",
        "metadata.csv, line 2: ... of ... is ..., and should be one of ...",
    ),
    "a second row": ("\nfaces/", "\nfaces/000001.jpg" + ",1" * 40 + "\nfaces/", "metadata.csv"),
    "a lost image": ("\nfaces/", "\nfaces/meier-", "metadata.csv names ... images that are not"),
    "a column": ("Smiling", "Meier", "metadata.csv lacks the columns ...; there should be"),
    "a name": ("file_name", "meier", "metadata.csv lacks the columns"),
    "a row": ("\nfaces/", "\nmeier, 17\nfaces/", ""),
    "no text": ("\nfaces/", "\n\udcff", ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_of_a_sites_tables_the_server_reads_file_and_kind_and_the_site_all(
    toy: dict[str, Any],
    sites: list[dict[str, Any]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    # As at a deployed site: of one that is simulated, the server reads all.
    monkeypatch.setattr(sys.modules["celeba_fl.client_app"], "simulated", lambda: False)
    old, new, words = FAULTS[fault]
    metadata = Path(sites[1]["data-path"]) / "metadata.csv"
    text = metadata.read_text().replace(old, new, 1)
    metadata.write_bytes(text.encode(errors="surrogateescape"))
    run_sites(toy, sites, tmp_path / "runs", dataset="none")
    server = [r.getMessage() for r in caplog.records if r.filename != "client_app.py"]
    (refusal,) = [line for line in server if "is refused" in line]
    assert f"client hospital-b: {words}" in refusal
    for trace in ("meier", "Meier", "faces/", ".jpg", "17", str(tmp_path), ",1,"):
        assert trace not in refusal.partition("client hospital-b: ")[2]
    errors = [r for r in caplog.records if r.levelname == "ERROR"]
    (site,) = [r.getMessage() for r in errors if r.filename == "client_app.py"]
    assert site.startswith("client hospital-b: ")
    assert len(site) > len(f"client hospital-b: {words}")


def test_a_site_without_its_folder_is_refused_for_that_and_gets_no_file(
    toy: dict[str, Any],
    sites: list[dict[str, Any]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody has the weights yet, as on a new machine."""
    monkeypatch.setattr(Attributes, "receive", lambda *_: pytest.fail("weights were sent"))
    sites[1]["data-path"] = str(tmp_path / "no such folder")
    run_sites(toy, sites, tmp_path / "runs", dataset="none")
    refused = "client hospital-b: data-path = ...: there is no such folder on this machine"
    assert refused in caplog.text
    assert "lacks" not in caplog.text
