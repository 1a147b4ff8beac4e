"""Erased features against what defines them, and heads on them against a direct solution."""

import numpy as np
import pytest
from grouped import fair, member_of
from scipy import linalg
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from celeba_fl.models import leace
from celeba_fl.models.ridge import Problem


def problem_of(x: np.ndarray, y: np.ndarray, group: np.ndarray) -> tuple[Problem, np.ndarray]:
    """The problem, and the products with the groups in its coordinates."""
    wide = np.c_[x, np.ones(len(x))]
    problem = Problem.of(wide.T @ wide, wide.T @ y)
    return problem, problem.vectors.T @ (x - x.mean(axis=0)).T @ group


def erased(x: np.ndarray, problem: Problem, cross: np.ndarray) -> np.ndarray:
    left, right = (problem.vectors @ part for part in leace.eraser(problem, cross))
    return np.asarray(x - (x - x.mean(axis=0)) @ right @ left.T)


@pytest.mark.parametrize("of", [1, 2])
def test_no_linear_predictor_of_the_group_beats_its_mean(of: int) -> None:
    _, x, y = fair(of)
    member = member_of(y, of)
    left = erased(x, *problem_of(x, y, member[:, 1:]))
    group = member @ np.arange(1 << of)
    share = member.mean(axis=0)
    least = -(share * np.log(share)).sum()
    before, after = (
        log_loss(group, LogisticRegression(C=1e6, max_iter=10_000).fit(z, group).predict_proba(z))
        for z in (x, left)
    )
    assert before < 0.95 * least
    assert after == pytest.approx(least, abs=1e-6)
    # Nor does least squares, and the means of all groups are one.
    np.testing.assert_allclose((left - left.mean(axis=0)).T @ member, 0, atol=1e-9)
    np.testing.assert_allclose(left.mean(axis=0), x.mean(axis=0))


def test_nothing_else_moves() -> None:
    """Belrose et al.'s map, written out with a matrix root, and it erases once."""
    _, x, y = fair(1)
    group = y[:, :1].astype(float)
    left = erased(x, *problem_of(x, y, group))
    centred = x - x.mean(axis=0)
    white = linalg.inv(linalg.sqrtm(centred.T @ centred))
    q = white @ centred.T @ group
    project = linalg.inv(white) @ q @ q.T @ white / (q.T @ q)
    np.testing.assert_allclose(left, x - centred @ project.T, atol=1e-9)
    np.testing.assert_allclose(erased(left, *problem_of(left, y, group)), left, atol=1e-6)


def test_features_that_do_not_vary() -> None:
    _, x, y = fair(1)
    x[:, 2], x[:, 5] = 3.0, x[:, 0]
    left = erased(x, *problem_of(x, y, y[:, :1]))
    np.testing.assert_allclose(left[:, 2], 3.0)
    np.testing.assert_allclose(left[:, 5], left[:, 0], atol=1e-9)
    np.testing.assert_allclose((left - left.mean(axis=0)).T @ y[:, 0], 0, atol=1e-6)


@pytest.mark.parametrize("of", [1, 2])
def test_a_regression_on_erased_features_is_folded(of: int) -> None:
    problem, x, y = fair(of)
    sums, cross = problem_of(x, y, member_of(y, of)[:, 1:])
    left = erased(x, sums, cross)
    w = leace.regression(sums, cross, problem.ratio)
    penalty = problem.ratio * len(x) * x.var(axis=0).mean()
    wide = np.c_[left, np.ones(len(x))]
    lifted = wide.T @ wide + penalty * np.diag([*np.ones(x.shape[1]), 0])
    right = wide @ linalg.solve(lifted, wide.T @ y)
    np.testing.assert_allclose(np.c_[x, np.ones(len(x))] @ w, right, atol=1e-8)


def test_a_group_without_members_changes_nothing() -> None:
    problem, x, y = fair(1)
    sums, cross = problem_of(x, y, np.zeros((len(x), 1)))
    w = leace.regression(sums, cross, problem.ratio)
    np.testing.assert_allclose(w, sums.regression(problem.ratio))


def test_the_erased_head_leaves_what_defines_the_groups() -> None:
    problem, x, y = fair(1)
    head, plain = problem.erased_head(), problem.head(0.0)
    assert (head["weight"][0] == plain["weight"][0]).all()
    score = x @ head["weight"].T + head["bias"]
    means = [score[y[:, 0] == one].mean(axis=0) for one in (False, True)]
    np.testing.assert_allclose(means[0][1:], means[1][1:], atol=1e-5)
    assert abs(means[0][0] - means[1][0]) > 0.5
