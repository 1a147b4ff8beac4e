"""The task attributes under a privacy budget: what a site sends is the same whatever it holds."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
from seen_by_server import Seen, audit_of, told_apart
from toys import write_sites

from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs
from celeba_fl.server_app import app as server_app

pytestmark = pytest.mark.slow
PRIVATE = {
    "strategy": "closed-form",
    "init": "public",
    "privacy-epsilon": 1.0,
    "privacy-unit": "image",
    "privacy-dim": 4,
    "audit": True,
}


def with_more(site: Path, folder: Path) -> Path:
    """The images of a site and two more, of labels that nobody else has; some are unreadable."""
    shutil.copytree(site, folder)
    rows = [*csv.reader((folder / "metadata.csv").read_text().splitlines())]
    for name, value in (("faces/more.jpg", "1"), ("faces/broken.jpg", "0")):
        shutil.copy(folder / rows[1][0], folder / name)
        rows.append([name, *([value] * (len(rows[0]) - 1))])
    (folder / "faces/broken.jpg").write_bytes(b"no image")
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def audit(toy: dict[str, Any], folder: Path, sites: list[Path], **keys: Any) -> list[Seen]:
    own = {key.replace("_", "-"): value for key, value in keys.items()}
    config = RunConfig.load({**toy, **PRIVATE, **own, "results-dir": str(folder)})
    nodes = [{"site": f"site-{i}", "data-path": str(path)} for i, path in enumerate(sites)]
    run_inline(config, nodes, server_app, client_app)
    return audit_of(read_runs(folder)[0].path)


def plain(seen: Seen) -> tuple[Any, Any]:
    """What a reply says, but for the arrays that noise is put on."""
    about = {key: value for key, value in seen.said.items() if key != "node"}
    return about, {
        name: (array.shape, str(array.dtype), None if "arrays/" in name else array.tolist())
        for name, array in seen.arrays.items()
    }


@pytest.fixture
def sites(toy: dict[str, Any], tmp_path: Path) -> tuple[list[Path], list[Path]]:
    one = write_sites(tmp_path / "sites", Path(toy["dataset"]))
    return one, [one[0], with_more(one[1], tmp_path / "more"), one[2]]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"strategy": "fedavg", "privacy_unit": "client", "weighting": "uniform"},
    ],
    ids=["closed form", "averages"],
)
def test_no_message_depends_on_images_but_by_what_is_noisy(
    toy: dict[str, Any],
    tmp_path: Path,
    sites: tuple[list[Path], list[Path]],
    keys: dict[str, Any],
) -> None:
    one, other = (
        {
            seen.where: plain(seen)
            for seen in audit(toy, folder, these, **keys, privacy_noise="server")
        }
        for folder, these in zip((tmp_path / "one", tmp_path / "other"), sites, strict=True)
    )
    assert one == other


def test_under_masks_nothing_is_told_apart_at_all(
    toy: dict[str, Any], tmp_path: Path, sites: tuple[list[Path], list[Path]]
) -> None:
    one, other = (
        audit(toy, folder, these, secure_aggregation=True)
        for folder, these in zip((tmp_path / "one", tmp_path / "other"), sites, strict=True)
    )
    assert told_apart(one, other) == []
