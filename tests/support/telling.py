"""Runs of the main task on features that tell the labels, for studies of what a run has left."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from celeba_fl import client_app, server_app
from celeba_fl.config import RunConfig
from celeba_fl.data.sources import load
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import RunInfo, read_runs
from celeba_fl.vision.features import FeatureStore

MakeRun = Callable[..., RunInfo]


@contextmanager
def telling(
    toy: Mapping[str, Any],
    folders: pytest.TempPathFactory,
    clients: int,
    usual: Mapping[str, Any],
) -> Iterator[MakeRun]:
    """What makes a run of so many clients with the usual keys, and with changes."""
    labels = load(toy["dataset"], Path(toy["home"])).labels
    rows = np.random.default_rng(0).normal(size=(len(labels), 1280)).astype(np.float32)
    rows[:, :40] += 3 * labels

    def run(**keys: Any) -> RunInfo:
        folder = folders.mktemp("runs")
        dashed = {key.replace("_", "-"): value for key, value in keys.items()}
        config = RunConfig.load({**toy, **usual, **dashed, "results-dir": str(folder)})
        run_inline(config, clients, server_app.app, client_app.app)
        (found,) = read_runs(folder)
        assert found.status == "completed", found.reason
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureStore, "read", lambda _, chosen: rows[chosen])
        yield run
