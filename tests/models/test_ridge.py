"""Sums that are exact, and what is solved from them, against scikit-learn and by hand."""

from typing import Any

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.arrays import add_exactly as add
from celeba_fl.common.errors import InputError
from celeba_fl.evaluation.metrics import bce_with_logits
from celeba_fl.models import ridge, scaling
from celeba_fl.models.ridge import RATIOS, Problem, calibrate, solve, squared_error, sums_of

UNIT = 2**36


def ones(labels):
    return np.ones(len(labels))


def examples(n, seed=0, dim=6):
    """Features, and two labels that depend on them."""
    rng = np.random.default_rng(seed)
    x = rng.gamma(1.0, size=(n, dim)).astype(np.float32)
    y = x[:, :2] + rng.normal(size=(n, 2)) > [1.0, 2.5]
    return x, y


def rounded(x):
    """What the sums take the features for."""
    return np.rint(x.astype(np.float64) * 2**14) / 2**14


def gram(x, y):
    """X'X and X'Y the direct way."""
    x = np.c_[rounded(x), np.ones(len(x))]
    return x.T @ x, x.T @ y


def regressions(xx, xy):
    """The regression of each ratio."""
    problem = Problem.of(xx, xy)
    return [problem.regression(ratio) for ratio in RATIOS]


def test_sums_by_hand():
    x, y = np.float32([[1, 2], [3, 0.5]]), np.array([[True], [False]])
    sums = sums_of(x, y, np.array([1.0, 2.0]))
    # Rows (1, 2, 1) and, counting twice, (3, 0.5, 1).
    assert (sums["xx"] / UNIT).tolist() == [1 + 18, 2 + 3, 1 + 6, 4 + 0.5, 2 + 1, 1 + 2]
    assert (sums["xy"] / UNIT).tolist() == [[1], [2], [1]]
    assert {array.dtype for array in sums.values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize("number", [0, 1, 50])
def test_no_bit_depends_on_who_holds_what(monkeypatch, number):
    x, y = examples(130)
    rng = np.random.default_rng(number)
    weight = rng.choice([0.37, 1.0, 2.9], 130)
    pooled = sums_of(x, y, weight)
    monkeypatch.setattr(ridge, "BLOCK", 7)
    total = ridge.zero_sums(6, 2)
    # Of 50 clients some hold nothing.
    held = rng.integers(0, max(number, 1), 130)
    for client in rng.permutation(max(number, 1)):
        mine = held == client
        add(total, sums_of(x[mine], y[mine], weight[mine]))
    assert all((total[key] == pooled[key]).all() for key in pooled)


def test_a_weight_is_a_number_of_copies():
    x, y = examples(20)
    twice = sums_of(x, y, np.full(20, 2.0))
    copies = sums_of(np.r_[x, x], np.r_[y, y], np.ones(40))
    assert all((twice[key] == copies[key]).all() for key in copies)


def test_a_small_weight_is_not_none():
    x, y = examples(20)
    assert sums_of(x, y, np.full(20, 1e-6))["xx"][-1] == 20 * UNIT // 256


@pytest.mark.parametrize("value", [128.0, -200.0, np.nan, np.inf])
def test_features_out_of_range_are_refused(value):
    with pytest.raises(InputError, match="takes features below 128"):
        sums_of(np.float32([[1], [value]]), np.ones((2, 1), bool), np.ones(2))


def test_the_largest_features_are_still_exact():
    largest = np.nextafter(np.float32(128), np.float32(0))
    x = np.full((scaling.BLOCK, 1), largest, np.float32)
    x[1:] = largest - np.float32(2**-14)
    sums = sums_of(x, np.ones((len(x), 1), bool), np.ones(len(x)))
    steps = [round(float(value) * 2**14) for value in x[:, 0]]
    assert sums["xx"][0] == 256 * sum(step**2 for step in steps)


def test_sums_that_do_not_fit_are_refused():
    x, y = np.full((10, 1), 127, np.float32), np.ones((10, 1), bool)
    with pytest.raises(InputError, match="do not fit into 64 bits"):
        sums_of(x, y, np.full(10, 1e5))
    total = {"xx": np.array([2**61]), "xy": np.array([[0]])}
    add(total, {"xx": np.array([2**60]), "xy": np.array([[0]])})
    with pytest.raises(InputError, match="do not fit into 64 bits"):
        add(total, {"xx": np.array([2**61]), "xy": np.array([[0]])})


def test_regressions_are_ridge():
    x, y = examples(40)
    xx, xy = gram(x, y)
    for ratio, w in zip(RATIOS, regressions(xx, xy), strict=True):
        alpha = ratio * rounded(x).var(axis=0).mean() * 40
        right = Ridge(alpha).fit(rounded(x), y.astype(float))
        np.testing.assert_allclose(w[:-1].T, right.coef_, rtol=1e-6)
        np.testing.assert_allclose(w[-1], right.intercept_, rtol=1e-6)


def test_fewer_examples_than_features():
    x, y = examples(4)
    w = regressions(*gram(x, y))[0]
    alpha = RATIOS[0] * rounded(x).var(axis=0).mean() * 4
    np.testing.assert_allclose(w[:-1].T, Ridge(alpha).fit(rounded(x), y * 1.0).coef_, rtol=1e-6)


def test_examples_that_are_all_alike_have_their_shares():
    y = np.array([[True], [False], [False], [False]])
    for w in regressions(*gram(np.full((4, 3), 0.5), y)):
        np.testing.assert_allclose(np.array([0.5, 0.5, 0.5, 1]) @ w, 0.25)


def test_squared_error():
    x, y = examples(30)
    w = np.random.default_rng(1).normal(size=(7, 2))
    direct = ((np.c_[rounded(x), np.ones(30)] @ w - y) ** 2).mean(axis=0)
    np.testing.assert_allclose(squared_error(w, *gram(x, y)), direct)


@pytest.mark.parametrize("seed", range(5))
def test_calibration_is_discriminant_analysis_of_the_score(seed):
    x, y = examples(60, seed)
    w = np.random.default_rng(seed).normal(size=(7, 2))
    score = np.c_[rounded(x), np.ones(60)] @ w
    w *= np.where([score[y[:, i], i].mean() > score[~y[:, i], i].mean() for i in (0, 1)], 1, -1)
    score = np.c_[rounded(x), np.ones(60)] @ w
    logits = np.c_[rounded(x), np.ones(60)] @ calibrate(w, gram(x, y), gram(x, y))
    for i in (0, 1):
        right = LinearDiscriminantAnalysis(solver="lsqr").fit(score[:, [i]], y[:, i])
        n1, n0 = y[:, i].sum(), (~y[:, i]).sum()
        prior = np.log((n1 + 0.5) / (n0 + 0.5)) - np.log(n1 / n0)
        expected = right.decision_function(score[:, [i]]) + prior
        np.testing.assert_allclose(logits[:, i], expected, rtol=1e-6, atol=1e-9)


def columns(scores, labels):
    """Sums whose features are the scores of the outputs, given by column."""
    return gram(np.array(scores).T, np.array(labels).T > 0)


def test_moments_are_of_validation_and_the_share_of_train():
    # Train: means 0 and 1, variance 1/2, p = 1.5 / 5. Validation: means 1 and 3, variance 1.
    train = columns([[-1, 0, 1, 1]], [[0, 0, 0, 1]])
    valid = columns([[0, 2, 2, 4]], [[0, 0, 1, 1]])
    slope, shift = calibrate(np.array([[1.0], [0.0]]), train, valid)[:, 0]
    assert slope == pytest.approx(2)
    assert shift == pytest.approx(-2 * 2 + np.log(1.5 / 3.5))


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [1, 1, 1, 1]], ids=["none", "all"])
def test_where_validation_says_nothing_the_moments_are_of_train(labels):
    train = columns([[0, 2, 2, 4]], [[0, 0, 1, 1]])
    slope, _ = calibrate(np.array([[1.0], [0.0]]), train, columns([[0, 2, 2, 4]], [labels]))[:, 0]
    assert slope == pytest.approx(2)


def test_a_score_that_is_the_wrong_way_round_says_nothing():
    train = columns([[0, 2, 2, 4]], [[0, 0, 1, 1]])
    valid = columns([[0, 2, 2, 4]], [[1, 1, 0, 0]])
    assert calibrate(np.array([[1.0], [0.0]]), train, valid)[:, 0].tolist() == [0, 0]


def test_an_attribute_that_validation_lacks_is_corrected_as_the_others_are():
    """Its slope is not the one of train, which is too sure of what it has seen."""
    # Of the first, train says d = 2 and v = 1, validation d = 1 and v = 2.
    train = columns([[0, 2, 2, 4], [0, 4, 4, 8]], [[0, 0, 1, 1]] * 2)
    root = np.sqrt(2)
    valid = columns([[-root, root, 1 - root, 1 + root], [0, 2, 4, 6]], [[0, 0, 1, 1], [0, 0, 0, 0]])
    w = np.vstack([np.eye(2), np.zeros(2)])
    logits = calibrate(w, train, valid)
    # Of the second, train says d = 4 and v = 4: half of d, twice v.
    np.testing.assert_allclose(logits[:2], [[1 / 2, 0], [0, 2 / 8]], rtol=1e-3, atol=1e-9)
    # It is centred where its negatives on validation would be if the positives were d above them.
    np.testing.assert_allclose(logits[2], [-1 / 2 * 1 / 2, -2 / 8 * (3 + 1)], rtol=1e-3)


def test_few_examples_count_by_their_number():
    """D is 2 on train and 1 on validation where it is known well; the other has one positive."""
    train = columns([[0, 2, 2, 4] * 2] * 2, [[0, 0, 1, 1] * 2] * 2)
    many = [[0, 2, 1, 3] * 50, [0, 2] * 99 + [1, 21]]
    valid = columns(many, [[0, 0, 1, 1] * 50, [0] * 199 + [1]])
    w = np.vstack([np.eye(2), np.zeros(2)])
    slope = np.diag(calibrate(w, train, valid)[:2])
    known, own = np.array([50, 199 / 200]), np.array([[2, 2], [1, 1]])
    second = np.array(many[1])
    gap = np.array([1, 21 - second[:-1].mean()])
    within = np.array([1, second[:-1].var() * 199 / 200])
    prior = [(known @ a) / (known @ b) * b for a, b in zip((gap, within), own, strict=True)]
    d, v = ((known * a + 30 * b) / (known + 30) for a, b in zip((gap, within), prior, strict=True))
    np.testing.assert_allclose(slope, d / v, rtol=1e-3)


def test_an_attribute_that_train_never_shows_has_its_share_for_a_score():
    x, y = examples(30)
    y[:, 1] = False
    other = examples(10, 1)
    head, _ = solve(sums_of(x, y, ones(x)), sums_of(other[0], other[1], ones(other[0])))
    assert not head["weight"][1].any()
    assert head["bias"][1] == pytest.approx(np.log(0.5 / 30.5))


def test_the_ratio_is_that_of_least_error_on_validation():
    x, y = examples(100, dim=20)
    x_valid, y_valid = examples(200, 1, dim=20)
    head, chosen = solve(sums_of(x, y, ones(x)), sums_of(x_valid, y_valid, ones(x_valid)))
    errors = {}
    for ratio in RATIOS:
        alpha = ratio * rounded(x).var(axis=0).mean() * 100
        predicted = Ridge(alpha).fit(rounded(x), y * 1.0).predict(rounded(x_valid))
        errors[ratio] = ((predicted - y_valid) ** 2).mean()
    assert chosen == min(errors, key=lambda ratio: errors[ratio])
    assert RATIOS[0] < chosen < RATIOS[-1]
    assert {key: (array.dtype, array.shape) for key, array in head.items()} == {
        "weight": (np.float32, (2, 20)),
        "bias": (np.float32, (2,)),
    }


def test_where_the_classes_are_normal_scores_are_logits():
    rng = np.random.default_rng(0)

    def draw(n):
        y = rng.random((n, 2)) < [0.3, 0.05]
        return (y @ means + rng.normal(size=(n, 6))).astype(np.float32), y

    means = np.array([[1.0, 0, 0, 1, 0, 0], [0, 1.5, 0, 0, 1, 0]])
    (x, y), valid, (x_test, y_test) = draw(400), draw(400), draw(20_000)
    head, _ = solve(sums_of(x, y, ones(x)), sums_of(valid[0], valid[1], ones(valid[0])))
    logits = x_test @ head["weight"].T + head["bias"]
    # log p(x | 1) - log p(x | 0) + log odds, of unit variances.
    true = x_test @ means.T - (means**2).sum(axis=1) / 2 + np.log([0.3 / 0.7, 0.05 / 0.95])
    loss, least = (bce_with_logits(s, y_test).mean(axis=0) for s in (logits, true))
    np.testing.assert_allclose(loss, least, rtol=0.05)
    # As sure as it may be: half or twice as sure is worse.
    for factor in (0.5, 2.0):
        assert (loss < bce_with_logits(factor * logits, y_test).mean(axis=0)).all()


def test_the_end_of_the_grid_is_logged(caplog):
    x, y = examples(30)
    solve(sums_of(x, y, ones(x)), sums_of(x, ~y, ones(x)))
    assert "is the end of the grid" in caplog.text


def test_with_a_factor_it_is_the_closed_form_on_scaled_features():
    """Of features whose sizes differ a hundredfold, one of them dead."""
    size = np.array([0.1, 1, 10, 1, 2, 1])
    (x, y), (held, truth) = ((x * size, y) for x, y in (examples(60), examples(50, seed=1)))
    x[:, 5] = held[:, 5] = 3.0
    factor = np.append(2.0 ** -np.round(np.log2(x[:, :5].std(axis=0))), 0.0)
    own, other = (sums_of(a.astype(np.float32), b, ones(b)) for a, b in ((x, y), (held, truth)))
    # Rounded first, as the sums do; powers of two change no bit of it.
    direct = [
        (z.T @ z, z.T @ b)
        for a, b in ((x, y), (held, truth))
        for z in [np.c_[rounded(a.astype(np.float32)) * factor, np.ones(len(a))]]
    ]
    path = regressions(*direct[0])
    best = int(np.argmin([squared_error(w, *direct[1]).mean() for w in path]))
    logits = calibrate(path[best], *direct)

    head, ratio = solve(own, other, factor)
    assert ratio == RATIOS[best]
    np.testing.assert_allclose(head["weight"], (logits[:-1] * factor[:, None]).T, rtol=1e-5)
    np.testing.assert_allclose(head["bias"], logits[-1], rtol=1e-5)
    assert not head["weight"][:, 5].any()
    raw = solve(own, other)[0]
    assert np.abs(raw["weight"] - head["weight"]).max() > 0.01


def test_a_factor_of_one_changes_nothing():
    x, y = examples(60)
    sums = sums_of(x, y, ones(y))
    for key, array in solve(sums, sums)[0].items():
        np.testing.assert_array_equal(array, solve(sums, sums, np.ones(6))[0][key])


# ---- what must hold of sums -----------------------------------------------------------------


def honest(n: int, weight: float = 1.0, seed: int = 0) -> tuple[Arrays, np.ndarray]:
    """Sums of some examples, which include unlikely ones, and their positives."""
    chance = np.random.default_rng(seed)
    x = chance.normal(size=(n, 5)).astype(np.float32) * [1, 0.01, 20, 127.9 / 5, 0]
    x = np.clip(x, -127.9, 127.9).astype(np.float32)
    y = chance.random((n, 4)) < [0, 0.1, 0.5, 1]
    x[:, 1] = y[:, 2]
    return ridge.sums_of(x, y, np.full(n, weight)), y.sum(axis=0) * weight


@pytest.mark.parametrize("n", [0, 1, 2, 30, 3000])
@pytest.mark.parametrize("weight", [1.0, 0.25, 3.5])
def test_honest_sums_pass(n: int, weight: float) -> None:
    for seed in range(5):
        sums, positives = honest(n, weight, seed)
        ridge.check_sums(sums, (n * weight, n * weight), (positives, positives))
        ridge.check_sums(sums, (n * 0.25, n * 4), (0.0, n * 4.0))


def upper(i: int, j: int, size: int = 6) -> int:
    """Where a product of columns is in `xx`."""
    return int(i * size - i * (i - 1) // 2 + j - i)


@pytest.mark.parametrize(
    ("key", "where", "change"),
    [
        ("xx", upper(5, 5), lambda v: v * 2),
        ("xx", upper(5, 5), lambda v: v + 2**36),
        ("xx", upper(2, 2), lambda v: -v),
        ("xx", upper(2, 2), lambda v: v // 10**6),
        ("xx", upper(2, 2), lambda v: v + 2**61),
        ("xx", upper(0, 2), lambda v: v + 2**50),
        ("xx", upper(2, 5), lambda v: v - 2**50),
        ("xx", upper(4, 5), lambda v: v + 1),
        ("xy", (5, 1), lambda v: v + 2**36),
        ("xy", (5, 1), lambda v: -v),
        ("xy", (2, 1), lambda v: v * -30 - 2**48),
        ("xy", (2, 0), lambda v: v + 2**40),
        ("xy", (2, 3), lambda v: v + 2**40),
        ("xy", slice(None), lambda v: v * -30),
        ("xy", slice(None), lambda v: v * 0),
        ("xx", slice(None), lambda v: v * 0 + 2**60),
        ("xx", slice(None), lambda v: np.random.default_rng(1).integers(-(2**60), 2**60, len(v))),
    ],
)
def test_sums_of_no_examples_are_refused(key: str, where: Any, change: Any) -> None:
    sums, positives = honest(30)
    sums[key][where] = change(sums[key][where])
    with pytest.raises(InputError, match="sums for the closed form: "):
        ridge.check_sums(sums, (30.0, 30.0), (positives, positives))
