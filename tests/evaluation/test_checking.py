"""Counts that are, or are not, those of so many examples."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.evaluation import harmonic
from celeba_fl.evaluation.bins import EDGES, NUM_BINS
from celeba_fl.evaluation.checking import (
    check_answers,
    check_confusion,
    check_groups,
    check_names,
    check_parts,
    check_scores,
)
from celeba_fl.evaluation.corrections import count_answers
from celeba_fl.evaluation.fairness import count_groups
from celeba_fl.evaluation.metrics import Counts

NAMES = ("a", "b", "c")


def examples(n: int, spread: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(n)
    return chance.normal(size=(n, 3)) * spread, chance.random((n, 3)) < [0, 0.5, 1]


@pytest.mark.parametrize("n", [0, 1, 40, 300])
@pytest.mark.parametrize("spread", [0.0, 0.1, 3.0, 50.0, 1e6])
def test_honest_scores_pass(n: int, spread: float) -> None:
    scores, labels = examples(n, spread)
    counts = Counts.of(scores, labels).to_arrays()
    seen = check_scores(counts, n, 3, labels.sum(axis=0))
    assert {*seen} == {*counts}
    single = Counts.of(scores.astype(np.float32), labels).to_arrays()
    check_scores(single, n, 3, None)
    # They may be those of some of the clients that were counted.
    check_scores(counts, n + 1, 3, labels.sum(axis=0) + 1, at_most=True)
    for more in (n - 1, n + 1):
        with pytest.raises(InputError, match="positives and negatives: the total is another"):
            check_scores(counts, more, 3, None, at_most=more < n)


def test_scores_on_the_edges_of_bins_pass() -> None:
    scores = np.repeat(EDGES[:, None], 3, axis=1)
    for labels in (np.ones_like(scores, bool), np.zeros_like(scores, bool)):
        check_scores(Counts.of(scores, labels).to_arrays(), len(scores), 3, labels.sum(axis=0))


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("positives", lambda v: v.astype(np.int64) * 10**6),
        ("positives", lambda v: v.astype(np.int64) * -1),
        ("positives", lambda v: v.astype(float)),
        ("positives", lambda v: v[:, :5]),
        ("positives", lambda v: v[::-1].copy()),
        ("negatives", lambda v: v * 0),
        ("negatives", lambda v: v.astype(np.int64) + 1),
        ("loss", lambda v: v * 0),
        ("loss", lambda v: v * 2),
        ("loss", lambda v: -v),
        ("loss", lambda v: v.astype(int)),
        ("loss", lambda v: v[:1]),
        ("loss", lambda v: None),
    ],
)
def test_other_scores_are_refused(key: str, change: Callable[[np.ndarray], Any]) -> None:
    scores, labels = examples(40)
    counts = Counts.of(scores, labels).to_arrays()
    counts[key] = change(counts[key])
    counts = {name: array for name, array in counts.items() if array is not None}
    with pytest.raises(InputError, match=f"{key}|positives"):
        check_scores(counts, 40, 3, labels.sum(axis=0))


def grouped(n: int) -> Arrays:
    scores, labels = examples(n)
    groups = count_groups(scores, labels, NAMES, [("a",), ("b", "c")])
    return {**Counts.of(scores, labels).to_arrays(), **groups}


@pytest.mark.parametrize("n", [0, 1, 40])
def test_honest_groups_pass(n: int) -> None:
    assert check_groups(grouped(n), 3, [2, 4]) == ("group_positives", "group_negatives")


def test_groups_that_do_not_add_up_are_refused() -> None:
    for change in (lambda v: v * 2, lambda v: v * 0, lambda v: np.roll(v, 1, axis=1)):
        counts = grouped(40)
        counts["group_negatives"] = change(counts["group_negatives"])
        with pytest.raises(InputError, match="group_negatives"):
            check_groups(counts, 3, [2, 4])
    with pytest.raises(InputError, match="group_positives: should be whole numbers of shape"):
        check_groups(grouped(40), 3, [2, 2])


def test_answers_of_a_teacher() -> None:
    chance = np.random.default_rng(0)
    answers = chance.integers(-2, 2, (30, 3)).astype(np.int8)
    labels, predicted = chance.random((2, 30, 3)) < 0.5
    honest = count_answers(answers, labels, predicted)
    assert {*check_answers(honest, 30, 3)} == {*honest}
    for key in honest:
        with pytest.raises(InputError, match="teacher_"):
            check_answers({**honest, key: honest[key] + 31}, 30, 3)


def test_confusion() -> None:
    honest: Arrays = {"confusion": np.array([[3, 1], [0, 2]]), "loss": np.array([2.5])}
    of_class = np.array([4, 2])
    assert {*check_confusion(honest, of_class, 6, 2)} == {*honest}
    assert {*check_confusion(honest, of_class + 1, 8, 2, at_most=True)} == {*honest}
    for number, wrong, n in ((of_class, honest, 7), (of_class[::-1], honest, 6)):
        with pytest.raises(InputError, match="confusion"):
            check_confusion(wrong, number, n, 2)
    with pytest.raises(InputError, match="confusion: should not be below 0"):
        check_confusion({**honest, "confusion": np.array([[7, -1], [0, 0]])}, None, 6, 2)


def test_parts_and_names_are_those_that_were_asked_for() -> None:
    check_parts({"valid": {}, "train": {}})
    check_names(["a"], ("a",))
    for names in (["train"], ["train", "valid", "test"]):
        with pytest.raises(InputError, match="it should send train, valid, and sends others"):
            check_parts({name: {} for name in names})
    with pytest.raises(InputError, match="it should send none"):
        check_names(["a"], ())


def test_a_client_may_claim_any_number_of_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Areas of a curve take no table of as many numbers, and are the same without one."""
    scores, labels = examples(300)
    counts = Counts.of(scores, labels)
    whole = counts.average_precision_error()
    monkeypatch.setattr(harmonic, "LARGEST_TABLE", 100)
    np.testing.assert_allclose(counts.average_precision_error(), whole, rtol=0, atol=1e-4)
    monkeypatch.undo()
    bins = np.full((3, NUM_BINS), 2**40)
    huge = Counts(bins, bins, np.zeros(3))
    assert (huge.average_precision_error() < 1).all()
