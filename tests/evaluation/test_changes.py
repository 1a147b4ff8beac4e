"""What changes from one head to another, and how sure that is."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score

from celeba_fl.common.arrays import Floats
from celeba_fl.evaluation.changes import FIGURES, Judged, change, columns

RNG = np.random.default_rng(3)
PEOPLE = RNG.integers(0, 40, 300)
LABELS = RNG.normal(size=(300, 4)) + 0.5 * RNG.normal(size=(40, 4))[PEOPLE] > 0.4
LABELS[:, 3] = True  # nothing is told apart there
ONE = np.round(2 * LABELS + RNG.normal(size=LABELS.shape), 1)  # with equal scores
OTHER = ONE + RNG.normal(size=LABELS.shape)


def figures(scores: Floats, labels: np.ndarray) -> list[float]:
    known = range(3)
    chance = 1 / (1 + np.exp(-scores))
    return [
        np.mean([log_loss(labels[:, i], chance[:, i], labels=[0, 1]) for i in range(4)]),
        np.mean([roc_auc_score(labels[:, i], scores[:, i]) for i in known]),
        np.mean([balanced_accuracy_score(labels[:, i], scores[:, i] > 0) for i in known]),
    ]


def test_figures_are_those_of_scikit_learn() -> None:
    assert Judged.of(ONE, LABELS).values == pytest.approx(figures(ONE, LABELS))


def test_errors_are_those_of_leaving_out_one_person_at_a_time() -> None:
    changed = change(Judged.of(ONE, LABELS), Judged.of(OTHER, LABELS), PEOPLE)
    kept = [np.flatnonzero(one != PEOPLE) for one in np.unique(PEOPLE)]
    without = np.array(
        [
            np.subtract(figures(OTHER[rows], LABELS[rows]), figures(ONE[rows], LABELS[rows]))
            for rows in kept
        ]
    )
    n = len(kept)
    jackknife = np.sqrt((n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    assert changed.error == pytest.approx(jackknife, rel=0.05)
    row = columns(changed, "together_")
    assert [*row][:3] == [f"together_loss_change{end}" for end in ("", "_low", "_high")]
    assert len(row) == 3 * len(FIGURES)
    assert row["together_auroc_change_low"] < row["together_auroc_change"] < 0


def test_a_head_that_tells_nothing_apart_has_an_auroc_of_a_half() -> None:
    assert Judged.of(np.zeros(LABELS.shape), LABELS).values[1:] == pytest.approx([0.5, 0.5])
    same = change(Judged.of(ONE, LABELS), Judged.of(ONE, LABELS), PEOPLE)
    assert same.value.tolist() == same.error.tolist() == [0, 0, 0]
