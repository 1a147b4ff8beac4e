"""Whose sums spoil a head: suspected, and shown to do harm, alone or together."""

from typing import Any

import numpy as np
import pytest

from celeba_fl.common.arrays import Arrays, sum_counts
from celeba_fl.models import ridge
from celeba_fl.tasks.contributions import Contributions

DIM, OUTPUTS, CLIENTS, PEOPLE = 6, 3, 14, 25


class Valid:
    """A validation split of ten images a person."""

    def __init__(self, features: np.ndarray, labels: np.ndarray) -> None:
        self.features, self.labels = features, labels
        self.celeb_id = np.repeat(np.arange(PEOPLE), 10)

    def __len__(self) -> int:
        return len(self.labels)


def contributions(liars: set[int], times: int) -> Contributions:
    """Clients of 60 images, and liars of 8 whose X'Y counts so many times."""
    rng = np.random.default_rng(0)
    true = rng.standard_normal((DIM, OUTPUTS))

    def images(number: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.standard_normal((number, DIM)).astype(np.float32)
        return x, x @ true + rng.standard_normal((number, OUTPUTS)) > 0

    def sums(part: str, x: np.ndarray, labels: np.ndarray, times: int = 1) -> Arrays:
        own = ridge.sums_of(x, labels, np.ones(len(x)))
        own["xy"][:-1] *= times
        return {f"{part}_{key}": array for key, array in own.items()}

    judged = images(10 * PEOPLE)
    valid: Any = Valid(*judged)
    own = {
        str(i): sums("train", *images(8 if i in liars else 60), times if i in liars else 1)
        for i in range(CLIENTS)
    }
    total = sum_counts(own.values()) | sums("valid", *judged)
    return Contributions(total, own, own.__getitem__, valid)


def test_nobody_is_accused_where_all_are_honest() -> None:
    assert contributions(set(), 1).accused == []


@pytest.mark.parametrize(("times", "accused"), [(-1, ["1"]), (-2, ["1", "4", "7"])])
def test_suspects_are_accused_who_do_harm_alone_or_together(times: int, accused: list[str]) -> None:
    """Beside the honest only the first is seen to do harm; at -2 the other two do so together."""
    judged = contributions({1, 4, 7}, times)
    names = np.array(judged.pulls.names)
    assert names[judged.pulls.suspected].tolist() == ["1", "4", "7"]
    assert judged.accused == accused
