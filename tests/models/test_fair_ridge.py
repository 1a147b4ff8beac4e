"""Fair heads against direct solutions by scipy, from sums that no partition changes."""

import numpy as np
import pytest
from grouped import MARKS, faces, fair, member_of, summed
from scipy import linalg, optimize

from celeba_fl.common.arrays import add_exactly
from celeba_fl.common.errors import InputError
from celeba_fl.models import ridge
from celeba_fl.models.fair_ridge import FairRidge, cells, check_cells
from celeba_fl.models.ridge import sums_of


def directly(
    x: np.ndarray, y: np.ndarray, member: np.ndarray, penalty: float, rho: float
) -> np.ndarray:
    """The minimum by normal equations with a free bias, every pair of groups a condition."""
    n, wide = len(x), np.c_[x, np.ones(len(x))]
    left = wide.T @ wide + penalty * np.diag([*np.ones(x.shape[1]), 0])
    for of_class in (y, ~y):
        means = [wide[of_class & one].mean(axis=0) for one in member.T]
        for a in range(len(means)):
            for b in range(a):
                u = means[a] - means[b]
                left += rho * n * np.outer(u, u)
    return np.asarray(linalg.solve(left, wide.T @ y, assume_a="pos"))


@pytest.mark.parametrize("of", [1, 2])
@pytest.mark.parametrize("rho", [0.0, 0.1, 3.0, 1000.0])
def test_it_is_the_solution_of_the_penalised_problem(of: int, rho: float) -> None:
    problem, x, y = fair(of)
    penalty = problem.ratio * len(x) * x.var(axis=0).mean()
    w = problem.regression(rho)
    for output in range(of, 5):
        right = directly(x, y[:, output], member_of(y, of), penalty, rho)
        np.testing.assert_allclose(w[:, output], right, rtol=1e-8, atol=1e-8)


def test_no_small_step_makes_the_objective_smaller() -> None:
    """As the docstring has it, for two groups, by scipy's minimiser."""
    problem, x, y = fair(1)
    penalty, (one, label) = problem.ratio * len(x) * x.var(axis=0).mean(), (y[:, 0], y[:, 2])
    u = [x[c & one].mean(axis=0) - x[c & ~one].mean(axis=0) for c in (label, ~label)]

    def objective(w: np.ndarray) -> float:
        error = ((x @ w[:-1] + w[-1] - label) ** 2).sum()
        gap = sum(float(of_class @ w[:-1]) ** 2 for of_class in u)
        return float(error + penalty * (w[:-1] ** 2).sum() + 2.0 * len(x) * gap)

    ours = problem.regression(2.0)[:, 2]
    found = optimize.minimize(objective, np.zeros(8), tol=1e-12)
    assert objective(ours) <= found.fun + 1e-8
    np.testing.assert_allclose(ours, found.x, atol=1e-4)


@pytest.mark.parametrize("of", [1, 2])
def test_a_factor_penalises_scaled_features(of: int) -> None:
    factor = 2.0 ** np.array([-3, 0, 4, 1, -1, 0, 2])
    problem, x, y = fair(of, factor)
    scaled = x * factor
    penalty = problem.ratio * len(x) * scaled.var(axis=0).mean()
    right = directly(scaled, y[:, 2], member_of(y, of), penalty, 1.0)
    np.testing.assert_allclose(problem.regression(1.0)[:, 2], right, rtol=1e-8, atol=1e-8)
    # The head is of features as they are: a calibrated score is linear in the regression.
    head = problem.head(1.0)
    logits, scores = x @ head["weight"][2] + head["bias"][2], scaled @ right[:-1] + right[-1]
    assert np.corrcoef(logits, scores)[0, 1] == pytest.approx(1, abs=1e-9)


def test_without_a_penalty_it_is_the_ridge_to_the_last_bit() -> None:
    problem, x, y = fair(1)
    other, truth = faces(90, 1)
    held_out = sums_of(other, truth, np.ones(90))
    plain, ratio = ridge.solve(sums_of(x.astype(np.float32), y, np.ones(600)), held_out)
    assert problem.ratio == ratio
    assert all((problem.head(0.0)[key] == plain[key]).all() for key in plain)
    # Nor does a penalty change what defines the groups.
    assert (problem.head(5.0)["weight"][0] == plain["weight"][0]).all()
    assert (problem.head(5.0)["weight"][1] != plain["weight"][1]).any()


def test_mean_scores_of_groups_meet_as_the_penalty_grows() -> None:
    problem, x, y = fair(1)
    gaps = []
    for rho in (0.0, 0.1, 1.0, 10.0, 1e6):
        head = problem.head(rho)
        score = x @ head["weight"][2] + head["bias"][2]
        means = [score[y[:, 2] & (y[:, 0] == one)].mean() for one in (0, 1)]
        gaps.append(abs(means[1] - means[0]) / score.std())
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.3
    assert gaps[-1] < 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_no_bit_depends_on_who_holds_what(seed: int) -> None:
    (x, y), (other, truth) = faces(600), faces(90, 1)
    valid = sums_of(other, truth, np.ones(len(other)))
    held = np.random.default_rng(seed).integers(0, 20, 600)
    total = ridge.zero_sums(7, 10)
    for client in np.random.default_rng(seed).permutation(20):
        add_exactly(total, summed(x[held == client], y[held == client], 1))
    pooled, shared = (
        FairRidge(sums, valid, None, MARKS[1]).head(1.0) for sums in (summed(x, y, 1), total)
    )
    assert all(pooled[key].tobytes() == shared[key].tobytes() for key in pooled)


def test_cells_by_hand() -> None:
    # Output 0 makes the groups. Features 1, 2, 4 and 8, in the four cells of output 1.
    x = np.array([[1], [2], [4], [8]], np.float32)
    y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], bool)
    sums = summed(x, y, 1)
    of = cells(sums["xx"][[1, 2]], sums["xy"], (0,)) / 2**36
    # By class and group: the sum of the feature, and the number.
    assert of[:, :, :, 1].tolist() == [[[1, 1], [4, 1]], [[2, 1], [8, 1]]]
    assert of[:, :, :, 0].tolist() == [[[3, 2], [0, 0]], [[0, 0], [12, 2]]]


def test_what_cannot_be_compared_is_left_as_it_is() -> None:
    (x, y), (other, truth) = faces(600), faces(90, 1)
    y[np.flatnonzero(y[:, 0] & y[:, 3])[9:], 3] = False  # nine are too few
    valid = sums_of(other, truth, np.ones(90))
    one = FairRidge(summed(x, y, 1), valid, None, MARKS[1])
    assert one.penalised.tolist() == [False, True, True, False, True]
    assert one.smallest[[0, 3]].tolist() == [0, 9]
    head, plain = one.head(1.0), one.head(0.0)
    same = [bool((a == b).all()) for a, b in zip(head["weight"], plain["weight"], strict=True)]
    assert same == [True, False, False, True, False]
    # Of four groups, two have it: those are compared.
    two = FairRidge(summed(x, y, 2), valid, None, MARKS[2])
    assert two.penalised.tolist() == [False, False, True, True, True]
    assert two.smallest[3] < 9


@pytest.mark.parametrize("of", [1, 2])
@pytest.mark.parametrize("n", [0, 1, 3, 300])
def test_honest_cells_pass(of: int, n: int) -> None:
    for seed in range(5):
        check_cells(summed(*faces(n, seed), of), MARKS[of])


@pytest.mark.parametrize(
    ("where", "by"),
    [
        ((-1, 7), 2**36 * 600),  # more of a group with a label than there are
        ((-1, 7), -(2**36) * 600),
        ((-1, 5), 2**36 * 360),  # a larger group than all but those in it
        ((2, 7), 2**50),
        ((2, 7), -(2**50)),
    ],
)
def test_cells_of_no_examples_are_refused(where: tuple[int, int], by: int) -> None:
    sums = summed(*faces(600), 1)
    sums["xy"][where] += by
    with pytest.raises(InputError, match="no features, labels and groups"):
        check_cells(sums, MARKS[1])
