import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeba_fl.common.arrays import add_exactly
from celeba_fl.common.errors import InputError
from celeba_fl.models.private_rows import (
    ROW_STEP,
    STEP,
    Public,
    Release,
    clipped,
    each_alone,
    noise_scales,
    rows_of,
    sizes_of,
    sums_of,
    units_of,
    zero_sums,
)

DIM, K, OUTPUTS = 7, 3, 4
Images = tuple[np.ndarray, np.ndarray, np.ndarray]


def made(seed: int = 0, **changed: float) -> Public:
    rng = np.random.default_rng(seed)
    numbers = {"spread": 0.8, "times": 1.5, "clip": 0.9, **changed}
    directions = rng.normal(size=(DIM, K)) / 4
    return Public.of(rng.normal(size=DIM), directions, rng.uniform(size=OUTPUTS), **numbers)


def vector(sums: dict[str, np.ndarray], public: Public) -> list[int]:
    """The entries of sums, as they are."""
    return [*sums["xx"].tolist(), *sums["xy"].ravel().tolist()]


def length(sums: dict[str, np.ndarray], public: Public) -> float:
    """The length of what is released, worked out with whole numbers as far as they go."""
    diagonal = np.equal(*np.triu_indices(public.k)).tolist()
    xx = sum((1 if on else 2) * n**2 for n, on in zip(sums["xx"].tolist(), diagonal, strict=True))
    xy = sum(n**2 for n in sums["xy"].ravel().tolist())
    return math.sqrt(xx + public.times**2 * xy) * STEP


features_of = st.floats(-5, 5, width=32) | st.sampled_from([0.0, 1e-30, 127.9, 3e38, -1e3])


@st.composite
def people(draw: st.DrawFn) -> Images:
    """Features, labels and identities of some images; some are alike."""
    n = draw(st.integers(1, 8))
    features = draw(st.lists(features_of, min_size=n * DIM, max_size=n * DIM))
    labels = draw(st.lists(st.booleans(), min_size=n * OUTPUTS, max_size=n * OUTPUTS))
    who = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    same = draw(st.lists(st.integers(0, n - 1), min_size=n, max_size=n))
    table = np.array(features, np.float32).reshape(n, DIM)[same]
    return table, np.array(labels, bool).reshape(n, OUTPUTS)[same], np.array(who)


@given(
    people(),
    st.integers(1, 3),
    st.integers(0, 3),
    st.sampled_from([0.05, 0.9, 16.0]),
    st.sampled_from([0.1, 2.0, 50.0]),
)
@settings(max_examples=80, deadline=None)
def test_a_person_moves_what_is_released_by_no_more_than_the_clip(
    data: Images, most: int, seed: int, clip: float, times: float
) -> None:
    """Neighbouring data: with and without all images of a person, whoever else is there."""
    features, labels, who = data
    content = np.random.default_rng(seed).integers(0, 2**63, len(who)).astype(np.uint64)
    public = made(seed, clip=clip, times=times)

    def of(rows: np.ndarray) -> dict[str, np.ndarray]:
        units = units_of(who[rows], content[rows], most, seed)
        return sums_of(features[rows], labels[rows], public, units)

    together = of(np.arange(len(who)))
    for person in np.unique(who):
        others, hers = of(np.flatnonzero(who != person)), of(np.flatnonzero(who == person))
        assert length(hers, public) <= clip
        add_exactly(others, hers)  # nobody else's share has changed by a single step
        assert vector(others, public) == vector(together, public)


@given(people(), st.sampled_from([0.05, 0.9]))
@settings(max_examples=40, deadline=None)
def test_an_image_moves_it_by_no_more_either(data: Images, clip: float) -> None:
    features, labels, _ = data
    public, together = made(clip=clip), zero_sums(made())
    for i in range(len(labels)):
        one = sums_of(features[i : i + 1], labels[i : i + 1], public, each_alone(1))
        assert length(one, public) <= clip
        add_exactly(together, one)
    units = each_alone(len(labels))
    assert vector(sums_of(features, labels, public, units), public) == vector(together, public)


@pytest.mark.parametrize("images", [1, 3])
def test_the_clip_is_reached_so_that_half_of_it_would_be_too_little(images: int) -> None:
    public = made()
    rng = np.random.default_rng(0)
    features = (public.mean + 9 * rng.normal(size=(images, DIM))).astype(np.float32)
    labels = rng.random((images, OUTPUTS)) < 0.5
    moved = length(sums_of(features, labels, public, [np.arange(images)[None]]), public)
    assert public.clip / 2 < moved
    assert moved == pytest.approx(public.clip, rel=1e-4)


def test_units_that_are_short_count_in_full_and_others_by_one_weight() -> None:
    public = made(clip=5.0)
    rng = np.random.default_rng(2)
    features = (public.mean + rng.normal(size=(300, DIM))).astype(np.float32)
    labels = rng.random((300, OUTPUTS)) < 0.5
    z, t = rows_of(features, labels, public)
    rows = z.reshape(100, 3, -1), t.reshape(100, 3, -1)
    short = sizes_of(*rows, public.times) * STEP < 0.999 * public.clip
    assert short.any()
    assert not short.all()
    z, t = clipped(*rows, public)
    assert np.array_equal(z[short], rows[0][short])
    assert np.array_equal(t[short], rows[1][short])
    size = sizes_of(*rows, public.times)[~short] * STEP
    whole = np.einsum("umk,umj->ukj", *(of[~short] * ROW_STEP for of in rows))
    now = np.einsum("umk,umj->ukj", z[~short] * ROW_STEP, t[~short] * ROW_STEP)
    assert np.allclose(now, whole * public.clip / size[:, None, None], atol=1e-3)
    assert (sizes_of(z, t, public.times) * STEP <= public.clip).all()


def test_rows_are_projections_and_labels_are_above_their_rates() -> None:
    public = made()
    features = (public.mean + np.random.default_rng(1).normal(size=(20, DIM))).astype("f4")
    labels = np.random.default_rng(1).random((20, OUTPUTS)) < 0.5
    z, t = rows_of(features, labels, public)
    projected = (features - public.mean) @ (public.directions * public.unit)
    assert np.allclose(z * ROW_STEP, projected, atol=1e-3)
    assert np.allclose(t * ROW_STEP, (labels - public.rates) / public.spread, atol=1e-5)
    assert np.array_equal(z, np.rint(z))


def test_no_image_breaks_the_sums() -> None:
    features = np.array([[math.nan, math.inf, -math.inf, 1e30, 0, 0, 0]], np.float32)
    z, _ = rows_of(features, np.zeros((1, OUTPUTS), bool), made())
    assert np.isfinite(z).all()


def test_sums_add_up_over_clients_and_blocks() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(5000, DIM)).astype("f4"), rng.random((5000, OUTPUTS)) < 0.4
    public = made(clip=16.0)
    whole, parts = sums_of(features, labels, public, each_alone(5000)), zero_sums(public)
    for i in range(3):
        part = features[i::3], labels[i::3]
        add_exactly(parts, sums_of(*part, public, each_alone(len(part[1]))))
    assert vector(parts, public) == vector(whole, public)
    release = Release.of(whole, public, 0.0)
    z, t = rows_of(features, labels, public)
    rows = clipped(z.reshape(5000, 1, -1), t.reshape(5000, 1, -1), public)
    z, t = (of.reshape(5000, -1) * ROW_STEP for of in rows)
    assert np.allclose(release.xx, z.T @ z)
    assert np.allclose(release.xy, z.T @ t)


def test_which_images_of_a_person_count() -> None:
    who = np.array([5, 1, 5, 5, 1, 9])
    content = np.array([3, 1, 4, 1, 5, 9], np.uint64)

    def chosen(order: np.ndarray) -> dict[int, set[int]]:
        units = units_of(who[order], content[order], 2, 0)
        rows = [order[one] for of_size in units for one in of_size]
        assert all(len(set(who[one])) == 1 for one in rows)
        return {int(who[one[0]]): set(one.tolist()) for one in rows}

    found = chosen(np.arange(6))
    assert {one: len(rows) for one, rows in found.items()} == {5: 2, 1: 2, 9: 1}
    assert chosen(np.random.default_rng(0).permutation(6)) == found
    assert units_of(who[:0], content[:0], 2, 0) == []


def test_noise_is_scaled_as_what_is_released() -> None:
    public = made()
    scales = noise_scales(public, 2.0)
    assert scales["xx"].tolist()[:2] == [2 / STEP, 2 / STEP / math.sqrt(2)]
    assert (scales["xy"] == 2 / STEP / public.times).all()
    assert {key: of.shape for key, of in scales.items()} == {
        key: of.shape for key, of in zero_sums(public).items()
    }
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


@pytest.mark.parametrize("wrong", [{"spread": math.nan}, {"times": 0.0}, {"clip": 17.0}])
def test_statistics_that_are_of_no_use_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="public statistics"):
        made(**wrong)
