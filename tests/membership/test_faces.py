"""Withdrawing and joining again with the main task: every array, threshold and table."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import outcome
from late import without_traffic
from safetensors.numpy import load_file
from toys import write_sites

from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.membership.withdrawing import BY_CLIENTS, withdraw
from celeba_fl.runs.reading import read_run
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as server_app
from celeba_fl.vision.features import FeatureStore
from celeba_fl.vision.store import Compute

TABLES = ("calibration", "groups", "fairness", "fairer", "fairer_attributes")
# Those of the server alone need nobody to be asked.
MODELS = ("model", "base", "sums", "closed_form")


@pytest.fixture(autouse=True)
def _chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of chance, by what is in the file: no backbone takes its time."""

    @contextmanager
    def computing(store: FeatureStore) -> Iterator[Compute]:
        dim = store.read(np.arange(0)).shape[1]
        yield lambda images: (
            np.random.default_rng(list(image)).normal(size=dim).astype(np.float32)
            for image in images
        )

    monkeypatch.setattr(FeatureStore, "computing", computing)


@pytest.fixture(params=["splits of the server", "sites alone"])
def federation(request: Any, toy: dict[str, Any], tmp_path: Path) -> Any:
    """Run-config keys, and the nodes."""
    keys = {
        **toy,
        "features": "2:1x1",  # few, and of chance: see `_chance`
        "strategy": "closed-form",
        "keep-sums": True,
        "scaling": "clients",
        "init": "base-rates",
        "fair-groups": "Male",
        "fairness-penalty": 1.0,
        "thresholds": "valid",
        "calibration": "valid",
        "min-available-clients": 1,
    }
    if request.param == "sites alone":
        sites = write_sites(tmp_path / "sites", Path(toy["dataset"]))
        return keys | {"dataset": "none"}, [{"site": p.name, "data-path": str(p)} for p in sites]
    return keys, [{"partition-id": i, "num-partitions": 3} for i in range(3)]


def run(keys: dict[str, Any], nodes: list[dict[str, Any]], folder: Path, **own: Any) -> Path:
    """The directory of the one run in `folder`."""
    config = RunConfig.load({**keys, "results-dir": str(folder), **own})
    run_inline(config, nodes, server_app, client_app)
    (path,) = folder.glob("2*")
    return path


def everything(path: Path) -> dict[str, Any]:
    """All that a run says, traffic aside."""
    found = outcome(path) | {name: read_csv(path / f"{name}.csv") for name in TABLES}
    return without_traffic(found) | {
        name: (path / f"{name}.safetensors").read_bytes() for name in MODELS
    }


def of_the_server(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows that no client is asked for."""
    return [row for row in rows if row.get("split") not in ("train", "valid")]


def test_out_and_in_again_with_every_bit(federation: Any, tmp_path: Path) -> None:
    keys, nodes = federation
    names = [str(node.get("site", node.get("partition-id"))) for node in nodes]
    whole = run(keys, nodes, tmp_path / "runs")
    alone = run(keys, nodes, tmp_path / "alone", clients=f"{names[0]},{names[2]}")
    before = everything(whole)

    record = withdraw(read_run(whole), names[1])
    by_clients = keys["dataset"] == "none"
    assert (BY_CLIENTS in record["not_made_anew"]) == by_clients
    for name in MODELS[bool(by_clients) :]:
        files = [(path / f"{name}.safetensors").read_bytes() for path in (whole, alone)]
        assert files[0] == files[1], name
    for name in ("attributes", *TABLES):
        rows = [read_csv(path / f"{name}.csv") for path in (whole, alone)]
        assert of_the_server(rows[0]) == of_the_server(rows[1]), name
    rows = [read_csv(path / "rounds.csv") for path in (whole, alone)]
    test = [[[v for k, v in row.items() if "test_" in k] for row in of_run] for of_run in rows]
    assert test[0] == test[1]
    assert read_csv(whole / "partitions.csv") == read_csv(alone / "partitions.csv")

    join = {"join": str(whole), "results-dir": str(whole.parent)}
    run(keys, nodes, tmp_path / "runs", **join)
    assert everything(whole) == everything(alone)
    run(keys, nodes, tmp_path / "runs", **join, joining=names[1])
    assert everything(whole) == before
    assert load_file(whole / "model.safetensors")["weight"].any()
