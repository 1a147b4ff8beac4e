"""The scale of features by hand, exact sums, and heads in both coordinates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeba_fl.common.arrays import Arrays, add_exactly
from celeba_fl.common.errors import InputError
from celeba_fl.models import scaling
from celeba_fl.models.heads import scores
from celeba_fl.models.scaling import Scaling, fold, scaled, sums_of, unfold, zero_sums

# Features (1, 4), (3, 4), (5, 4) and (7, 4): mean 4, variance 5, and a dead one.
ROWS = np.array([[1, 4], [3, 4], [5, 4], [7, 4]], np.float32)
HEAD = {
    "weight": np.array([[2, 3], [-1, 1]], np.float32),
    "bias": np.array([0.5, -0.5], np.float32),
}


def real_like(seed: int, n: int = 400) -> np.ndarray:
    """Features as a network gives them: many sizes, sparse ones, dead and nearly dead ones."""
    rng = np.random.default_rng(seed)
    rows = rng.gamma(0.5, size=(n, 60)) * np.exp(rng.normal(0, 2, 60))
    rows[:, :5] = rng.choice([0.0, 0.7, 3.0, 50.0, 120.0], 5)
    rows[:, 5:10] += [1e1, 3e1, 5e1, 1e-3, 0]
    rows[:, 10:15] = 20 + rng.normal(size=(n, 5)) * [1e-6, 1e-4, 3e-3, 0.05, 0.07]
    rows[1:, 15] = 0.0
    return np.minimum(rows, 127).astype(np.float32)


def random_head(seed: int, dim: int = 60) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "weight": rng.normal(0, 0.1, (40, dim)).astype(np.float32),
        "bias": rng.normal(0, 2, 40).astype(np.float32),
    }


def test_sums_by_hand() -> None:
    sums = sums_of(ROWS)
    assert sums["n"].tolist() == [4]
    assert (sums["x"] / 2**14).tolist() == [16, 16]
    assert (sums["xx"] / 2**28).tolist() == [1 + 9 + 25 + 49, 64]
    assert {array.dtype for array in sums.values()} == {np.dtype(np.int64)}


def test_the_scale_by_hand() -> None:
    scale = Scaling.of_sums(sums_of(ROWS))
    assert scale.mean.tolist() == [4, 4]
    assert scale.factor.tolist() == [np.float32(5**-0.5), 0]
    assert {scale.mean.dtype, scale.factor.dtype} == {np.dtype(np.float32)}
    np.testing.assert_allclose(
        scaled(ROWS, scale)[:], np.array([[-3, 0], [-1, 0], [1, 0], [3, 0]]) / 5**0.5, rtol=1e-6
    )


@pytest.mark.parametrize("clients", [1, 3, 50])
@pytest.mark.parametrize("block", [7, scaling.BLOCK])
def test_no_bit_depends_on_who_holds_what(
    monkeypatch: pytest.MonkeyPatch, clients: int, block: int
) -> None:
    rows, rng = real_like(1), np.random.default_rng(clients)
    pooled = sums_of(rows)
    monkeypatch.setattr(scaling, "BLOCK", block)
    held, total = rng.integers(0, clients, len(rows)), zero_sums(60)
    for client in rng.permutation(clients):
        add_exactly(total, sums_of(rows[held == client]))
    assert {key: total[key].tolist() for key in total} == {
        key: pooled[key].tolist() for key in pooled
    }
    assert Scaling.of_sums(total).to_bytes() == Scaling.of_sums(pooled).to_bytes()


@pytest.mark.parametrize("number", [0, 1])
def test_too_few_examples_have_no_scale(number: int) -> None:
    scale = Scaling.of_sums(sums_of(ROWS[:number]))
    assert scale.factor.tolist() == [0, 0]
    assert scale.mean.tolist() == ROWS[:number].sum(axis=0).tolist()


def test_dead_is_what_varies_by_little_of_its_size_or_by_less_than_a_step() -> None:
    signs = np.tile([-1, 1], 50)[:, None]
    deviations = np.array([0.031, 0.032, 5e-5, 1.1e-4])
    rows = (np.array([10, 10, 0, 0]) + signs * deviations).astype(np.float32)
    assert (Scaling.of_sums(sums_of(rows)).factor > 0).tolist() == [False, True, False, True]


@pytest.mark.parametrize("value", [128.0, -200.0, np.nan, np.inf])
def test_features_out_of_range_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="takes features below 128"):
        sums_of(np.array([[1], [value]], np.float32))


def test_the_largest_features_are_still_exact() -> None:
    largest = np.nextafter(np.float32(128), np.float32(0))
    rows = np.full((2 * scaling.BLOCK + 3, 1), largest, np.float32)
    rows[1:] = largest - np.float32(2**-14)
    steps = [round(float(value) * 2**14) for value in rows[:, 0]]
    sums = sums_of(rows)
    assert int(sums["x"][0]) == sum(steps)
    assert int(sums["xx"][0]) == sum(step**2 for step in steps)


def test_a_folded_head_by_hand() -> None:
    scale = Scaling(np.array([4, 4], np.float32), np.array([0.5, 0], np.float32))
    head = fold(HEAD, scale)
    assert head["weight"].tolist() == [[1, 0], [-0.5, 0]]
    assert head["bias"].tolist() == [0.5 - 4, -0.5 + 2]
    assert {array.dtype for array in head.values()} == {np.dtype(np.float32)}


def test_an_unfolded_head_by_hand() -> None:
    scale = Scaling(np.array([4, 4], np.float32), np.array([0.5, 0], np.float32))
    head = unfold(HEAD, scale)
    # The dead feature stays what it is on average.
    assert head["weight"].tolist() == [[4, 0], [-2, 0]]
    assert head["bias"].tolist() == [0.5 + 8 + 12, -0.5 - 4 + 4]


@pytest.mark.parametrize("change", [fold, unfold])
def test_without_a_scale_everything_is_as_it_was(change: object) -> None:
    assert fold(HEAD, None) is HEAD
    assert unfold(HEAD, None) is HEAD
    assert scaled(ROWS, None) is ROWS


@given(seed=st.integers(0, 10**6))
def test_folding_changes_no_score(seed: int) -> None:
    rows, head = real_like(seed), random_head(seed)
    scale = Scaling.of_sums(sums_of(rows))
    assert 6 <= (scale.factor == 0).sum() <= 12
    before = scores(head, scaled(rows, scale))
    np.testing.assert_allclose(scores(fold(head, scale), rows), before, rtol=0, atol=1e-5)


@given(seed=st.integers(0, 10**6))
def test_unfolding_changes_no_score(seed: int) -> None:
    rows, head = real_like(seed), random_head(seed)
    scale = Scaling.of_sums(sums_of(rows))
    head["weight"] *= np.minimum(scale.factor, 10)  # a head on raw features, nothing for dead ones
    after = scores(unfold(head, scale), scaled(rows, scale))
    np.testing.assert_allclose(after, scores(head, rows), rtol=0, atol=1e-4)
    again = fold(unfold(head, scale), scale)
    np.testing.assert_allclose(scores(again, rows), scores(head, rows), rtol=0, atol=1e-4)


def test_a_scale_travels_as_bytes() -> None:
    scale = Scaling.of_sums(sums_of(real_like(0)))
    data = scale.to_bytes()
    assert len(data) == 2 * 60 * 4
    back = Scaling.from_bytes(data)
    np.testing.assert_array_equal(back.mean, scale.mean)
    np.testing.assert_array_equal(back.factor, scale.factor)


def test_rows_are_scaled_as_they_are_read() -> None:
    rows = real_like(0)
    scale = Scaling.of_sums(sums_of(rows))
    view = scaled(rows, scale)
    assert (len(view), view.shape) == (400, (400, 60))
    chosen = view[np.array([5, 2])]
    assert chosen.dtype == np.float32
    np.testing.assert_array_equal(chosen, (rows[[5, 2]] - scale.mean) * scale.factor)
    assert view[:].std(axis=0)[scale.factor > 0] == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_honest_sums_pass(n):
    x = np.random.default_rng(n).normal(size=(n, 4)).astype(np.float32) * [1, 0, 1e-3, 30]
    x[:, 1] = 127.9
    scaling.check_sums(scaling.sums_of(x), n)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("n", lambda v: v + 1),
        ("x", lambda v: v * -30),
        ("x", lambda v: v * 0 + 2**40),
        ("xx", lambda v: v * 0),
        ("xx", lambda v: -v),
        ("xx", lambda v: v + 2**60),
    ],
)
def test_sums_of_no_features_are_refused(key, change):
    sums = scaling.sums_of(np.full((50, 2), 3, np.float32))
    sums[key] = change(sums[key])
    with pytest.raises(InputError, match="sums of features: "):
        scaling.check_sums(sums, 50)
