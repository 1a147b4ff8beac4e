"""`celeba-fl export`."""

from pathlib import Path
from typing import Annotated

import typer

from celeba_fl.cli.printing import Json, described, print_json
from celeba_fl.common.errors import InputError
from celeba_fl.launch.app import app_here
from celeba_fl.runs.reading import find_run

CRATE = "ro-crate"


def export(
    to: Annotated[
        str,
        typer.Option(
            help="folder to write, new or empty; or tensorboard, mlflow, trackio, or ro-crate"
        ),
    ],
    run: Annotated[
        str, typer.Argument(help="a run directory, or a run's name in the results directory")
    ] = "latest",
    follow: Annotated[
        bool, typer.Option(help="go on until the run ends; for a tool that tracks runs")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take the model of a run away, or the run into a tool that people track runs with.

    A folder holds the model from pixels to named probabilities as ONNX and as safetensors, works
    without this package, and has a model card for the Hugging Face hub: read it before you pass the
    model on. TensorBoard, MLflow and Trackio get the figures of rounds and clients, the settings
    and the pictures; ro-crate describes the files of the run directory for archives.
    """
    from celeba_fl.export.tracking import TRACKERS, track

    found = find_run(run, app_here().places().runs_dir)
    if follow and to not in TRACKERS:
        raise InputError(f"--follow: goes with --to {', '.join(TRACKERS)}, not with {to}")
    if to in TRACKERS:
        written = track(found.path, to, follow)
    elif to == CRATE:
        from celeba_fl.export.crate import write_crate

        written = str(write_crate(found.path))
    else:
        from celeba_fl.export.folder import export

        written = str(export(found, Path(to).expanduser()))
    if as_json:
        print_json({"run": described(found), "to": to, "written": written})
    else:
        print(written)
