"""Every task under `secure-aggregation`: what it says without, but for roundings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import keys_of_kinds
from watched import info, watch

from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as server_app

TIMES = ("seconds", "bytes_up", "bytes_down")


def figures(path: Path, name: str) -> np.ndarray:
    """The numbers of a table, but for times and traffic."""
    rows = read_csv(path / name)
    return np.array(
        [
            [float(cell) if cell else np.nan for key, cell in row.items() if key not in TIMES]
            for row in rows
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fedadam", "fair", "lenet", "dcgan"])
def test_a_task_does_as_well(toy: dict[str, Any], tmp_path: Path, kind: str, reports: None) -> None:
    kinds = keys_of_kinds(toy, tmp_path)
    kinds["fair"] = {**kinds["fedavg"], "strategy": "closed-form", "fair-groups": "Male"}
    keys = {**kinds[kind], "num-server-rounds": 2}
    config = RunConfig.load({**keys, "results-dir": str(tmp_path / "plain")})
    run_inline(config, 4, server_app, client_app)
    (plain,) = read_runs(tmp_path / "plain")
    grid, path = watch({**keys, "results-dir": str(tmp_path / "secure")}, 4)
    assert info(path)["status"] == "completed", grid.errors
    one, other = figures(plain.path, "rounds.csv"), figures(path, "rounds.csv")
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    # One of them is lost in training, and another in the next exchange.
    gone = {("mask", 2): 0, ("mask", 3): 1}
    grid, path = watch(
        {**keys, "results-dir": str(tmp_path / "less")},
        4,
        lambda client, step, serial: gone.get((step, serial)) == client,
    )
    assert info(path)["status"] == "completed", grid.errors
    assert max(int(row["failures"]) for row in read_csv(path / "rounds.csv")) == 1
