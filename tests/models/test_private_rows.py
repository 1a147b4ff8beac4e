import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeba_fl.common.errors import InputError
from celeba_fl.models.private_rows import (
    ROW_STEP,
    STEP,
    Public,
    Release,
    counting,
    noise_scales,
    rows_of,
    sensitivity,
    sums_of,
)

DIM, K, OUTPUTS = 7, 3, 4


def made(seed: int = 0, **changed: float) -> Public:
    rng = np.random.default_rng(seed)
    numbers = {"reach": 0.8, "constant": 0.5, "times": 1.5, **changed}
    directions = rng.normal(size=(DIM, K))
    return Public.of(rng.normal(size=DIM), directions, rng.uniform(size=OUTPUTS), **numbers)


def released(features: np.ndarray, labels: np.ndarray, public: Public) -> np.ndarray:
    """What is released of some images, as one vector in units, before noise."""
    sums = sums_of(features, labels, public)
    diagonal = np.equal(*np.triu_indices(public.k + 1))
    xx = sums["xx"] * STEP * np.where(diagonal, 1.0, math.sqrt(2))
    return np.concatenate([xx, sums["xy"].ravel() * STEP * public.times])


features_of = st.floats(-1e3, 1e3, width=32) | st.sampled_from([0.0, 1e-30, 127.9, 3e38])


@st.composite
def people(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and identities of some images."""
    n = draw(st.integers(1, 8))
    features = draw(st.lists(features_of, min_size=n * DIM, max_size=n * DIM))
    labels = draw(st.lists(st.booleans(), min_size=n * OUTPUTS, max_size=n * OUTPUTS))
    who = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    table = np.array(features, np.float32).reshape(n, DIM)
    return table, np.array(labels, bool).reshape(n, OUTPUTS), np.array(who)


@given(people(), st.integers(1, 3), st.integers(0, 3), st.sampled_from([0.2, 2.5]))
@settings(max_examples=60, deadline=None)
def test_a_person_moves_what_is_released_by_no_more_than_the_sensitivity(
    data: tuple[np.ndarray, np.ndarray, np.ndarray], most: int, seed: int, size: float
) -> None:
    features, labels, who = data
    content = np.random.default_rng(seed).integers(0, 2**63, len(who)).astype(np.uint64)
    public = made(seed, constant=size, times=1 / size, reach=size)
    both = counting(who, content, most, seed)
    with_her = released(features[both], labels[both], public)
    for person in np.unique(who):
        others = who != person
        alone = counting(who[others], content[others], most, seed)
        assert np.array_equal(alone, both[others])  # nobody else's images are other ones
        rest = released(features[others][alone], labels[others][alone], public)
        moved = np.linalg.norm(with_her - rest)
        assert moved <= sensitivity(public, most) * (1 + 1e-12)
        # Her images move it by themselves: those of others are the same numbers with and without.
        hers = both & (who == person)
        assert np.allclose(with_her - rest, released(features[hers], labels[hers], public))


def test_the_sensitivity_is_reached_so_that_half_of_it_would_be_too_little() -> None:
    public = made()
    features = np.tile(public.mean + 100 * public.directions[:, 0] * public.unit, (3, 1))
    labels = np.tile(public.rates < 0.5, (3, 1))
    for images in (1, 3):
        moved = np.linalg.norm(released(features[:images], labels[:images], public))
        assert moved == pytest.approx(sensitivity(public, images), rel=1e-4)
        assert moved > sensitivity(public, images) / 2


@given(people())
@settings(max_examples=30, deadline=None)
def test_a_row_is_a_function_of_its_image_alone_and_never_too_long(
    data: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    features, labels, _ = data
    public = made()
    x, y = rows_of(features, labels, public)
    for i in range(len(labels)):
        one = rows_of(features[i : i + 1], labels[i : i + 1], public)
        assert np.array_equal(one[0][0], x[i])
        assert np.array_equal(one[1][0], y[i])
        assert sum(int(v) ** 2 for v in x[i, :-1]) <= 2**36  # exactly
        assert sum(int(v) ** 2 for v in y[i]) * ROW_STEP**2 <= public.reach**2
    assert np.array_equal(x, np.rint(x))
    assert (x[:, -1] == 2**17).all()


def test_short_rows_are_projections() -> None:
    public = made()
    features = (public.mean + np.random.default_rng(1).normal(size=(20, DIM)) / 50).astype("f4")
    x, y = rows_of(features, np.zeros((20, OUTPUTS), bool), public)
    projected = (features - public.mean) @ (public.directions * public.unit)
    short = np.linalg.norm(projected, axis=1) < 1
    assert short.any()
    assert np.allclose(x[short, :-1] * ROW_STEP, projected[short], atol=1e-3)
    wide = -public.rates * min(1, public.reach / np.linalg.norm(public.rates))
    assert np.allclose(y * ROW_STEP, wide, atol=1e-5)


def test_no_image_breaks_the_sums() -> None:
    features = np.array([[math.nan, math.inf, -math.inf, 1e30, 0, 0, 0]], np.float32)
    x, _ = rows_of(features, np.zeros((1, OUTPUTS), bool), made())
    assert np.isfinite(x).all()


def test_sums_add_up_over_clients_and_blocks() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(5000, DIM)).astype("f4"), rng.random((5000, OUTPUTS)) < 0.4
    public = made()
    whole = sums_of(features, labels, public)
    parts = [sums_of(features[i::3], labels[i::3], public) for i in range(3)]
    assert all(np.array_equal(sum(part[key] for part in parts), whole[key]) for key in whole)
    release = Release.of(whole, public, 0.0)
    assert release.n == pytest.approx(5000)
    x, y = (of * ROW_STEP for of in rows_of(features, labels, public))
    assert np.allclose(release.xx, x.T @ x)
    assert np.allclose(release.xy, x.T @ y)


def test_which_images_of_a_person_count() -> None:
    who = np.array([5, 1, 5, 5, 1, 9])
    content = np.array([3, 1, 4, 1, 5, 9], np.uint64)
    chosen = counting(who, content, 2, 0)
    assert [int(chosen[who == one].sum()) for one in (5, 1, 9)] == [2, 2, 1]
    order = np.random.default_rng(0).permutation(6)
    assert np.array_equal(counting(who[order], content[order], 2, 0), chosen[order])
    assert not counting(who[:0], content[:0], 2, 0).any()


def test_noise_is_scaled_as_what_is_released() -> None:
    public = made()
    scales = noise_scales(public, 2.0)
    assert scales["xx"].tolist()[:2] == [2 / STEP, 2 / STEP / math.sqrt(2)]
    assert (scales["xy"] == 2 / STEP / public.times).all()
    with pytest.raises(InputError, match="steps"):
        noise_scales(public, 1e-3)


def test_statistics_travel_as_bytes() -> None:
    public = made()
    again = Public.from_bytes(public.to_bytes())
    assert again.to_bytes() == public.to_bytes()
    assert np.array_equal(again.directions, public.directions)
    for data in (b"", public.to_bytes()[:-1], bytes(48)):
        with pytest.raises(InputError, match="public statistics"):
            Public.from_bytes(data)


@pytest.mark.parametrize("wrong", [{"reach": math.nan}, {"times": 0.0}, {"constant": 1e9}])
def test_statistics_that_are_of_no_use_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="public statistics"):
        made(**wrong)
