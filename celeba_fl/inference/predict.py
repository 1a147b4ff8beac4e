"""Predicting the attributes of any image by the model of a run.

The image goes through the same decoding, the same backbone and the same head as in training, so a
test image scores here what `test_scores.parquet` says, to the last digit.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.config import RunConfig
from celeba_fl.models.heads import scores
from celeba_fl.runs.reading import RunInfo, final_model
from celeba_fl.vision.extractor import FeatureExtractor
from celeba_fl.vision.precision import lacking_bf16
from celeba_fl.vision.views import FP32, LAST, View, make_view
from celeba_fl.vision.weights import weights_path

# Images that are in memory at once.
CHUNK = 64
# What probabilities were recalibrated on, by the part that a model file names.
DECIDED = {
    "server_valid": "the official validation images",
    "valid": "the clients' validation images",
}
AS_GIVEN = "as the head gives them, not recalibrated"


@dataclass(frozen=True)
class Prediction:
    """A model's answer for one attribute of an image.

    The score is the logit, and the probability its sigmoid, as well calibrated as the model is,
    which `Model.probabilities` tells. The attribute is present if the score is above the model's
    threshold.
    """

    score: float
    probability: float
    present: bool


# By attribute, or why there are none.
Answer = dict[str, Prediction] | str


@dataclass(frozen=True)
class Model:
    """The model of a run, from its `model.safetensors`."""

    head: Arrays
    attributes: tuple[str, ...]  # names of the head's outputs
    thresholds: np.ndarray  # (attributes,) a score above is a yes; 0 unless the run chose others
    view: View  # what the head sees of an image
    weights: str  # SHA-256 (hex) of the backbone's weights
    home: Path  # where those weights are kept
    faces: str  # those that it was trained on, in words
    probabilities: str  # whether they were recalibrated, in words


def load_model(run: RunInfo) -> Model:
    """Read the model of a run.

    Raises
    ------
    InputError
        If the run has no model of CelebA's attributes, or the backbone's weights are not kept
        here.
    """
    head, metadata = final_model(run)
    try:
        attributes = tuple(json.loads(metadata["attributes"]))
        weights, size = metadata["weights"], int(metadata["image-size"])
        features = metadata.get("features", LAST)  # older models have no other
        view = make_view(metadata["backbone"], features, size)
        precision = metadata.get("precision", FP32)
        chosen = json.loads(metadata.get("thresholds", "null"))
        thresholds = np.array(chosen or [0.0] * len(attributes))
        calibration = json.loads(metadata.get("calibration", "null"))
        decided = DECIDED[calibration["by"]] if calibration else None
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{run.path.name}: its model is not one of the task attributes: {error!r}"
        ) from error
    if precision != FP32 and (lacking := lacking_bf16()):
        LOG.warning("The model saw images in %s, and this machine cannot: %s", precision, lacking)
        precision = FP32
    view = replace(view, precision=precision)
    homes = [*([Path(run.home)] if run.home else []), RunConfig.load().home_dir]
    home = next((home for home in homes if weights_path(home, weights).exists()), None)
    if home is None:
        raise InputError(
            f"the backbone's weights are not kept in {' or '.join(map(str, dict.fromkeys(homes)))} "
            f"({weights_path(homes[0], weights)} is missing): set CELEBA_FL_HOME to where they "
            f"are, or run an experiment with weights = {run.config['weights']!r} here once"
        )
    drawn = run.config["dataset"] == "drawn"
    faces = "drawn faces, not photographs" if drawn else f"aligned faces ({run.dataset['name']})"
    probabilities = f"recalibrated on {decided}" if decided else AS_GIVEN
    return Model(head, attributes, thresholds, view, weights, home, faces, probabilities)


def can_predict(run: RunInfo) -> bool:
    """Whether a run has a model of CelebA's attributes."""
    try:
        return "attributes" in final_model(run)[1]
    except InputError:
        return False


class Predictor:
    """A model ready for images; a context manager, to be kept open as long as images come."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._extract = FeatureExtractor(model.home, model.view, model.weights)

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(self, *_: object) -> None:
        self._extract.__exit__()

    def __call__(self, images: Iterable[bytes]) -> Iterator[dict[str, Prediction] | None]:
        """Predict each encoded image in order, by attribute; None for one that cannot be read."""
        for feature in self._extract(iter(images)):
            yield None if feature is None else self._judge(feature)

    def _judge(self, feature: np.ndarray) -> dict[str, Prediction]:
        outputs = scores(self.model.head, feature[None])[0]
        sigmoid = (1 + np.tanh(outputs / 2)) / 2  # cannot overflow
        columns = outputs.tolist(), sigmoid.tolist(), (outputs > self.model.thresholds).tolist()
        cells = zip(self.model.attributes, *columns, strict=True)
        return {name: Prediction(*values) for name, *values in cells}


def predict_files(model: Model, paths: Sequence[Path]) -> Iterator[tuple[Path, Answer]]:
    """Each file with what the model says of it, or with why it cannot be read."""
    with Predictor(model) as predict:
        for start in range(0, len(paths), CHUNK):
            chunk = paths[start : start + CHUNK]
            read = [_read(path) for path in chunk]
            answers = predict(data for data in read if isinstance(data, bytes))
            for path, data in zip(chunk, read, strict=True):
                if isinstance(data, str):
                    yield path, data
                else:
                    yield path, next(answers) or "it is not an image, or not a complete one"


def predictions_table(
    model: Model, predictions: Sequence[tuple[Path, Mapping[str, Prediction]]]
) -> Table:
    """Attributes by images: yes or no, and the probability."""
    caption = escape(
        f"The model was trained on {model.faces}; its probabilities are {model.probabilities}"
    )
    table = Table("attribute", *(escape(path.name) for path, _ in predictions), caption=caption)
    yes = {True: "[bold]yes[/bold]", False: "no "}
    for name in model.attributes:
        cells = (prediction[name] for _, prediction in predictions)
        table.add_row(name, *(f"{yes[cell.present]} {cell.probability:4.0%}" for cell in cells))
    return table


def predictions_json(model: Model, answers: Mapping[Path, Answer]) -> dict[str, Any]:
    """Predictions for programs, and the files that could not be read with the reasons."""
    return {
        "trained_on": model.faces,
        "probabilities": model.probabilities,
        "images": {
            str(path): {name: asdict(prediction) for name, prediction in answer.items()}
            for path, answer in answers.items()
            if not isinstance(answer, str)
        },
        "unreadable": {str(path): why for path, why in answers.items() if isinstance(why, str)},
    }


def _read(path: Path) -> bytes | str:
    try:
        return path.read_bytes()
    except OSError as error:
        return error.strerror or str(error)
