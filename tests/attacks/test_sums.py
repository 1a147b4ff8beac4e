"""False sums: as large as no check of a single client can refuse."""

import numpy as np
import pytest

from celeba_fl.attacks.sums import falsify
from celeba_fl.models import ridge


@pytest.mark.parametrize("strength", [0.5, 30.0, 1e6])
def test_false_sums_are_possible_and_far_from_the_true_ones(strength: float) -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((60, 5)) < [0.0, 0.02, 0.3, 0.5, 1.0]
    features = rng.random((60, 7), np.float32) + labels[:, 2:3]
    true = ridge.sums_of(features, labels, np.ones(60))
    sums = {f"{part}_{key}": array for part in ("train", "valid") for key, array in true.items()}
    false = falsify(sums, strength)
    positives = labels.sum(axis=0)
    part = {key: false[f"train_{key}"] for key in ("xx", "xy")}
    ridge.check_sums(part, (60, 60), (positives, positives))
    assert (false["train_xy"][-1] == sums["train_xy"][-1]).all()
    assert (false["train_xy"][:-1, 2] < 0.5 * sums["train_xy"][:-1, 2]).all()
    assert all(false[key] is sums[key] for key in sums if key != "train_xy")
    assert false["train_xy"].dtype == sums["train_xy"].dtype
