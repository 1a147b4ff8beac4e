"""Updates compared: how far each client moved the model, and whether as the cohort did."""

import math
from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord

from celeba_fl.common.arrays import Arrays
from celeba_fl.rounds.messages import NAN, unpack, view
from celeba_fl.rounds.outliers import COSINE, NORM


def compare_updates(
    models: Mapping[str, ArrayRecord], before: Mapping[str, Array], after: Mapping[str, Array]
) -> dict[str, dict[str, float]]:
    """The norm of each client's update, and its cosine to the step that the global model took.

    The model, `before` that step, is what the clients were sent. Numbers that count something, such
    as batches, are left out. One model after the other is unpacked; sums are NumPy's own, whose
    bits do not depend on the number of threads. A cosine is NaN where one of the two has not moved.
    """
    start = {key: unpack(array) for key, array in before.items()}
    start = {key: array for key, array in start.items() if array.dtype.kind == "f"}
    step = _moved(start, after)
    length = math.sqrt(_product(step, step))
    compared = {}
    for client, model in models.items():
        update = _moved(start, model)
        norm = math.sqrt(_product(update, update))
        alike = _product(update, step) / norm / length if norm and length else NAN
        compared[client] = {NORM: norm, COSINE: alike}
    return compared


def _moved(start: Arrays, model: Mapping[str, Array]) -> Arrays:
    return {key: view(model[key]).astype(np.float64) - array for key, array in start.items()}


def _product(left: Arrays, right: Arrays) -> float:
    return math.fsum(float((left[key] * right[key]).sum()) for key in left)
