"""A run in the tools that people track runs with, from the files of its directory alone.

To add a tool, write a class like those below and give it an entry in `TRACKERS`.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from celeba_fl.common.errors import InputError
from celeba_fl.report.names import PARTS
from celeba_fl.report.reading import Run

Scalars = Mapping[str, float]
PROJECT = "celeba-fl"
# Clients whose curves are written; of more, none are: no tool shows them well.
MOST_CLIENTS = 100
WAIT = 2.0  # seconds
IN_BATCH = 1000  # that MLflow takes


class Tracker(Protocol):
    """A run in a tool."""

    where: str  # how to look at it

    def scalars(self, values: Scalars, step: int) -> None:
        """The figures of a round."""

    def finish(self, values: Scalars, pictures: Mapping[str, Path]) -> None:
        """The final figures, and PNG files by name."""


class TensorBoard:
    """Event files in the run's folder `tensorboard`, so that one log directory shows all runs."""

    def __init__(self, run: Run, settings: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._settings = dict(settings)
        self._writer = SummaryWriter(str(run.path / "tensorboard"))
        self.where = f"tensorboard --logdir {run.path.parent}"

    def scalars(self, values: Scalars, step: int) -> None:
        """The figures of a round."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, values: Scalars, pictures: Mapping[str, Path]) -> None:
        """The final figures beside the settings as hyperparameters, and the pictures."""
        import numpy as np
        from PIL import Image

        final = {f"final/{name}": value for name, value in values.items()}
        self._writer.add_hparams(self._settings, final, run_name=".")
        for name, path in pictures.items():
            with Image.open(path) as image:
                self._writer.add_image(name, np.array(image.convert("RGB")), dataformats="HWC")
        self._writer.close()


class MLflow:
    """A run of MLflow, at MLFLOW_TRACKING_URI or in `mlflow.db` of the results directory."""

    def __init__(self, run: Run, settings: Mapping[str, Any]) -> None:
        import mlflow

        folder, own = run.path.parent, not os.environ.get("MLFLOW_TRACKING_URI")
        if own:
            mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        self._client, self._metric = mlflow.MlflowClient(), mlflow.entities.Metric
        found = self._client.get_experiment_by_name(PROJECT)
        files = (folder / "mlflow").as_uri() if own else None
        experiment = (
            found.experiment_id if found else self._client.create_experiment(PROJECT, files)
        )
        self._id = self._client.create_run(experiment, run_name=run.info.name).info.run_id
        params = [mlflow.entities.Param(key, str(value)) for key, value in settings.items()]
        self._client.log_batch(self._id, params=params)
        self.where = f"mlflow ui --backend-store-uri {mlflow.get_tracking_uri()}"

    def scalars(self, values: Scalars, step: int) -> None:
        """The figures of a round."""
        now = int(time.time() * 1000)
        metrics = [self._metric(name, value, now, step) for name, value in values.items()]
        for start in range(0, len(metrics), IN_BATCH):
            self._client.log_batch(self._id, metrics[start : start + IN_BATCH])

    def finish(self, values: Scalars, pictures: Mapping[str, Path]) -> None:
        """The final figures, and the pictures as artifacts."""
        self.scalars({f"final/{name}": value for name, value in values.items()}, 0)
        for path in pictures.values():
            self._client.log_artifact(self._id, str(path), "pictures")
        self._client.set_terminated(self._id)


class Trackio:
    """A run of Trackio, in its own folder, which TRACKIO_DIR moves."""

    where = f"trackio show --project {PROJECT}"

    def __init__(self, run: Run, settings: Mapping[str, Any]) -> None:
        import trackio

        self._trackio: Any = trackio
        trackio.init(PROJECT, run.info.name, config=dict(settings), auto_log_gpu=False, embed=False)

    def scalars(self, values: Scalars, step: int) -> None:
        """The figures of a round."""
        self._trackio.log(dict(values), step=step)

    def finish(self, values: Scalars, pictures: Mapping[str, Path]) -> None:
        """The final figures, and the pictures."""
        final: dict[str, Any] = {f"final/{name}": value for name, value in values.items()}
        for name, path in pictures.items():
            final[name] = self._trackio.Image(str(path))
        self._trackio.log(final)
        self._trackio.finish()


TRACKERS: Mapping[str, Callable[[Run, Mapping[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "trackio": Trackio,
}


def track(path: Path, tool: str, follow: bool = False) -> str:
    """Write a run into a tool, and return how to look at it there.

    With `follow`, what comes is written as it comes, until the run ends.

    Raises
    ------
    InputError
        If the tool is not installed.
    """
    run = Run.read(path, whole=False)
    try:
        tracker = TRACKERS[tool](run, run.info.config)
    except ImportError as error:
        raise InputError(f"{tool}: {error}; pip install 'celeba-fl[{tool}]'") from error
    written = -1
    while True:
        run = Run.read(path)
        for step, values in _rounds(run):
            if step > written:
                tracker.scalars(values, step)
                written = step
        if not follow or run.info.status != "running":
            break
        time.sleep(WAIT)
    tracker.finish(run.results().values, _pictures(run))
    return tracker.where


def _rounds(run: Run) -> Iterator[tuple[int, Scalars]]:
    """The figures of each round, by ``part/metric``, and of each client."""
    clients: dict[int, dict[str, float]] = {}
    if len({row["client"] for row in run.clients}) <= MOST_CLIENTS:
        for row in run.clients:
            named = {f"client {row['client']}/{key}": value for key, value in row.items()}
            clients.setdefault(int(row["round"]), {}).update(_floats(named))
    for row in run.rounds:
        named = {_name(column): value for column, value in row.items()}
        yield int(row["round"]), {**_floats(named), **clients.get(int(row["round"]), {})}


def _name(column: str) -> str:
    """``test_auroc`` as ``test/auroc``; what is of no split is of the round."""
    parts = (part for part in PARTS if column.startswith(f"{part}_"))
    part = max(parts, key=len, default=None)
    return f"{part}/{column.removeprefix(f'{part}_')}" if part else f"round/{column}"


def _floats(cells: Mapping[str, str]) -> dict[str, float]:
    keys = "/round", "/client"
    found = {}
    for name, value in cells.items():
        if value and not name.endswith(keys):
            try:
                found[name] = float(value)
            except ValueError:  # a text
                continue
    return found


def _pictures(run: Run) -> dict[str, Path]:
    """The charts of a run's report as PNG; drawn if they are not there."""
    from celeba_fl.report.page import write_report

    write_report(run.path, png=True)
    return {path.stem: path for path in sorted((run.path / "plots").glob("*.png"))}
