"""`celeba-fl export`."""

from pathlib import Path
from typing import Annotated

import typer

from celeba_fl.launch.app import app_here
from celeba_fl.runs.reading import find_run


def export(
    to: Annotated[Path, typer.Option(help="folder to write, which must be empty or new")],
    run: Annotated[
        str, typer.Argument(help="a run directory, or a run's name in the results directory")
    ] = "latest",
) -> None:
    """Write the model of a run as a folder that works without this package.

    It holds the model from pixels to named probabilities as ONNX and as safetensors, and a model
    card for the Hugging Face hub. Read the card before you pass it on.
    """
    from celeba_fl.export.folder import export

    print(export(find_run(run, app_here().places().runs_dir), to.expanduser()))
