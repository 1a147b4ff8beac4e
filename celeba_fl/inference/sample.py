"""New faces, by the generator of a run."""

from pathlib import Path

import numpy as np

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.common.files import write_bytes
from celeba_fl.data.images import encode, tile
from celeba_fl.models.dcgan import NETWORK, generate, noise
from celeba_fl.runs.reading import RunInfo, final_model

# More would be too small to see.
IN_GRID = 100


def load_generator(run: RunInfo) -> Arrays:
    """Read the generator of a run from its `model.safetensors`.

    Raises
    ------
    InputError
        If the run has no model, or one that generates nothing.
    """
    arrays, metadata = final_model(run)
    if metadata.get("network") != NETWORK:
        raise InputError(
            f"{run.path.name}: its model is not one of the task dcgan, and generates no faces"
        )
    return arrays


def can_generate(run: RunInfo) -> bool:
    """Whether a run has a model that generates faces."""
    try:
        return final_model(run)[1].get("network") == NETWORK
    except InputError:
        return False


def write_faces(arrays: Arrays, count: int, seed: int, out: Path) -> list[Path]:
    """Write faces as PNG files, and the first of them side by side as `grid.png`, the last file.

    With the same seed, the first faces are the same for every `count`.

    Raises
    ------
    InputError
        If `out` has faces already, or cannot be written to.
    """
    if next(out.glob("face-*.png"), None) or (out / "grid.png").exists():
        raise InputError(f"{out} has faces already; move them away, or name another folder")
    first, paths = [], []
    try:
        for number, face in enumerate(generate(arrays, noise(count, seed)), start=1):
            paths.append(out / f"face-{number:04d}.png")
            write_bytes(paths[-1], encode(face), sync=False)
            if number <= IN_GRID:
                first.append(face)
        write_bytes(out / "grid.png", encode(tile(np.stack(first))))
    except OSError as error:
        raise InputError(f"{out} cannot be written to: {error}") from error
    return [*paths, out / "grid.png"]
