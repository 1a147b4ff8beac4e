"""The bins of scores: for scores of any size, with 0 and every edge exact."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from celeba_fl.evaluation.bins import CENTRES, EDGES, NUM_BINS, ZERO_BIN, bins_of
from celeba_fl.evaluation.metrics import Counts


def test_there_are_as_many_bins_as_before_and_they_are_in_order() -> None:
    assert NUM_BINS == 128
    assert EDGES.shape == (NUM_BINS - 1,)
    assert (np.diff(EDGES) > 0).all()
    assert EDGES[ZERO_BIN - 1] == 0


def test_edges_are_binary_fractions_the_same_on_every_machine() -> None:
    np.testing.assert_array_equal(EDGES * 1024, np.rint(EDGES * 1024))
    # 1/8 wide from -5 to 2; then 1/8 x 1.18, x 1.18^2, in steps of 1/1024.
    inner = EDGES[(EDGES >= -5) & (EDGES <= 2)]
    np.testing.assert_array_equal(inner, np.arange(-40, 17) / 8)
    assert EDGES[EDGES > 2][0] == 2 + 151 / 1024  # 151.04
    assert EDGES[EDGES > 2][1] == 2 + 329 / 1024  # 151.04 + 178.23 = 329.27
    assert EDGES[EDGES < -5][-1] == -5 - 151 / 1024
    assert EDGES[0] < -250
    assert EDGES[-1] > 250


def test_bins_are_open_below_and_closed_above() -> None:
    edge = 3 / 8
    scores = np.array([edge, np.nextafter(edge, 1), 0, 5e-324, -1e6, 1e6, EDGES[0], EDGES[-1]])
    first = [ZERO_BIN + 2, ZERO_BIN + 3, ZERO_BIN - 1, ZERO_BIN]
    assert bins_of(scores).tolist() == [*first, 0, NUM_BINS - 1, 0, NUM_BINS - 2]


def test_the_centre_of_a_bin_is_in_it() -> None:
    np.testing.assert_array_equal(bins_of(CENTRES), np.arange(NUM_BINS))


@pytest.mark.parametrize("spread", [0.5, 1.0, 4.0, 10.0, 40.0])
@pytest.mark.parametrize("middle", [-4.0, 0.0, 2.0])
def test_areas_are_right_however_far_scores_run(spread: float, middle: float) -> None:
    """With edges from -8 to 8 the area of scores that run to 30 was up to 0.4 too low."""
    rng = np.random.default_rng(0)
    labels = rng.random((5000, 1)) < 0.2
    scores = spread * (rng.normal(size=labels.shape) + 1.2 * labels) + middle * max(1, spread / 2)
    exact = roc_auc_score(labels[:, 0], scores[:, 0])
    assert Counts.of(scores, labels).auroc()[0] == pytest.approx(exact, abs=0.005)
