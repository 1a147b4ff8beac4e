"""A model with all that belongs to it, as a folder that the Hugging Face hub takes as it is."""

from pathlib import Path

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import pack_arrays, write_bytes, write_json
from celeba_fl.export.card import card
from celeba_fl.export.networks import exported, write_onnx
from celeba_fl.report.reading import Run
from celeba_fl.runs.reading import RunInfo


def export(run: RunInfo, folder: Path) -> Path:
    """Write the model of a run into a new folder, and return its `README.md`.

    Raises
    ------
    InputError
        If the run has no model that can be exported, or the folder is not empty or cannot be
        written to.
    """
    given = exported(run)
    try:
        if folder.exists() and next(folder.iterdir(), None):
            raise InputError(f"{folder} is not empty: name another folder, or delete it")
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(
            folder / "model.safetensors", pack_arrays(dict(given.tensors), {"format": "pt"})
        )
        write_json(folder / "config.json", given.config)
        if given.preprocessor:
            write_json(folder / "preprocessor_config.json", given.preprocessor)
        write_onnx(given, folder / "model.onnx")
        text = card(Run.read(run.path), given, folder)
        write_bytes(folder / "README.md", text.encode())  # the last: where it is, all is there
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error}") from error
    return folder / "README.md"
