"""Labels that attackers flip."""

import numpy as np
import pytest

from celeba_fl.attacks.labels import FLIP, flipped
from celeba_fl.config import RunConfig

CONFIG = RunConfig.load({"attack": "label-flip"})


@pytest.mark.parametrize("dtype", ["int64", "uint8"])
def test_classes_are_counted_from_the_end(dtype: str) -> None:
    labels: np.ndarray = np.array([0, 1, 9, 4], dtype)
    found = flipped(labels, CONFIG, {FLIP: True}, 10)
    assert found.tolist() == [9, 8, 0, 5]
    assert found.dtype == dtype


def test_attributes_are_turned_round() -> None:
    labels = np.array([[True, False], [False, False]])
    assert flipped(labels, CONFIG, {FLIP: True}).tolist() == [[False, True], [True, True]]


def test_an_honest_client_keeps_its_labels() -> None:
    labels = np.array([True, False])
    assert flipped(labels, CONFIG, {}) is labels
    assert flipped(labels, RunConfig.load(), {FLIP: True}) is labels
