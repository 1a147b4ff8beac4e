"""The head of noisy sums and public images: weights, limits and calibration, checked by hand."""

from dataclasses import replace

import numpy as np
import pytest

from celeba_fl.common.arrays import Arrays, Floats
from celeba_fl.models import private_ridge, private_rows
from celeba_fl.models.private_rows import Public, Release
from celeba_fl.privacy.noise import discrete_gaussian

DIM, OUTPUTS = 12, 3
TRUTH = np.random.default_rng(7).normal(size=(DIM, OUTPUTS))


def people(number: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and identities of so many people with five images each."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(number), 5)
    x = 3 + rng.normal(size=(len(who), DIM)) * np.linspace(2, 0.5, DIM)
    noise = 2 * rng.normal(size=(len(who), OUTPUTS))
    return x.astype(np.float32), ((x - 3) @ TRUTH + noise > 0.5), who


def released(
    public: Public, number: int, seed: int, multiplier: float
) -> tuple[Release, np.ndarray, np.ndarray]:
    """A release over images of people, and these."""
    x, y, _ = people(number, seed)
    sums = private_rows.sums_of(x, y, public, private_rows.each_alone(len(y)))
    sigma = multiplier * public.clip
    if sigma:
        scales = private_rows.noise_scales(public, sigma)
        sums = {key: array + discrete_gaussian(scales[key]) for key, array in sums.items()}
    return Release.of(sums, public, sigma), x, y


def scores(head: Arrays, x: np.ndarray) -> Floats:
    """The logits of a head."""
    logits: Floats = x @ head["weight"].T.astype(np.float64) + head["bias"]
    return logits


def loss(head: Arrays, x: np.ndarray, y: np.ndarray) -> float:
    """The mean loss of a head, in nats."""
    return float(np.logaddexp(0, np.where(y, -1, 1) * scores(head, x)).mean())


def test_statistics_of_four_images() -> None:
    x = np.array([[1, 0, 7], [3, 0, 7], [1, 4, 7], [3, 4, 7]], np.float32)
    y = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], bool)
    public = private_ridge.learn(x, y, private_rows.each_alone(4), 5)
    assert public.mean.tolist() == [2, 2, 7]
    assert public.rates.tolist() == [0.5, 0.5]
    assert public.spread == pytest.approx(np.sqrt(0.5))
    # Scaled, the images are at (+-1, +-1): each of length sqrt(2), and the third feature is dead.
    assert public.k == 2
    assert np.abs(public.directions * public.unit)[2].max() == 0
    z, t = (rows * private_rows.ROW_STEP for rows in private_rows.rows_of(x, y, public))
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(t, axis=1), 1, rtol=1e-5)
    # |v|^2 = |z|^4 + 2 |z|^2 |t|^2, the same for all of them.
    assert public.clip == pytest.approx(np.sqrt(3), rel=1e-4)


def test_a_person_may_add_what_the_smallest_public_one_adds() -> None:
    x, y, who = people(20, 0)
    content = np.arange(len(who)).astype(np.uint64)
    of_people = private_rows.units_of(who, content, 3, 1)
    alone, three = (
        private_ridge.learn(x, y, units, 4).clip
        for units in (private_rows.each_alone(len(who)), of_people)
    )
    assert alone < three < 3 * 1.8


def test_directions_count_by_what_noise_leaves_of_them() -> None:
    xx, xy = np.diag([8.0]), np.array([[4.0, -2.0]])
    # Noise of 1 and a distance of 2: alpha = 1/4, so A = 8.5, and M = 8.5 / (8.5 + 1.5).
    a, b = private_ridge.weighed(xx, xy, np.diag([10.0]), sigma=1.0, rho=1.5)
    np.testing.assert_allclose(a, [[0.85 * 8.5]])
    np.testing.assert_allclose(b, 0.85 * xy)


def test_without_noise_sums_count_as_they_are() -> None:
    xx, xy = np.diag([8.0, 2.0]), np.ones((2, 3))
    a, b = private_ridge.weighed(xx, xy, np.eye(2), sigma=0.0, rho=0.0)
    np.testing.assert_allclose(a, xx, atol=1e-12)
    np.testing.assert_allclose(b, xy)


def test_a_direction_with_no_positive_eigenvalue_counts_nothing() -> None:
    xx, xy = np.diag([8.0, -2.0]), np.ones((2, 1))
    a, b = private_ridge.weighed(xx, xy, np.diag([9.0, 0.0]), sigma=0.0, rho=1.0)
    np.testing.assert_allclose(a, np.diag([64 / 9, 0]))
    np.testing.assert_allclose(b, [[8 / 9], [0]])


@pytest.mark.parametrize("multiplier", [0.0, 1.0])
def test_clients_sums_make_a_better_head_than_public_images_alone(multiplier: float) -> None:
    x, y, who = people(8, 0)
    units = private_rows.each_alone(len(y))
    public = private_ridge.learn(x, y, units, DIM)
    release, *_ = released(public, 400, 1, multiplier)
    head = private_ridge.solve(release, x, y, who, units)
    alone = private_ridge.public_alone(x, y, who, public)
    test_x, test_y, _ = people(200, 2)
    assert loss(head, test_x, test_y) < loss(alone, test_x, test_y) - 0.01


def test_what_is_all_noise_changes_nothing() -> None:
    x, y, who = people(30, 0)
    units = private_rows.each_alone(len(y))
    public = private_ridge.learn(x, y, units, DIM)
    release, *_ = released(public, 40, 1, 0.0)
    noise = np.random.default_rng(0).normal(size=release.xy.shape)
    sigma = 1e6
    drowned = replace(release, xx=-sigma * np.eye(DIM), xy=sigma * noise, sigma=sigma)
    head = private_ridge.solve(drowned, x, y, who, units)
    alone = private_ridge.public_alone(x, y, who, public)
    np.testing.assert_allclose(head["weight"], alone["weight"], atol=0.02)


def test_scores_are_calibrated_by_people_who_are_left_out() -> None:
    x, y, who = people(40, 0)
    units = private_rows.each_alone(len(y))
    public = private_ridge.learn(x, y, units, DIM)
    head = private_ridge.public_alone(x, y, who, public)
    test_x, test_y, _ = people(400, 2)
    claimed = 1 / (1 + np.exp(-scores(head, test_x)))
    np.testing.assert_allclose(claimed.mean(axis=0), test_y.mean(axis=0), atol=0.06)
    best = loss({"weight": TRUTH.T * 0.8, "bias": -(3 * TRUTH.sum(axis=0) + 0.5) * 0.8}, x, y)
    assert loss(head, test_x, test_y) < best + 0.05


def test_attributes_that_no_public_image_has_keep_their_ranks() -> None:
    scores = np.array([[0.0, 1, 0], [2, 3, 0], [4, 5, 0]])
    deviation = np.sqrt(8 / 3)
    slope, offset = private_ridge.steadied(np.array([2.0, 0, 0]), np.array([1.0, -3, 4]), scores)
    # The second has scores of the same deviation as the first, about 3; the third has none.
    np.testing.assert_allclose(slope * deviation, [2 * deviation, 2 * deviation, 0])
    np.testing.assert_allclose(offset, [1, -3 - 2 * 3, 4])


def test_images_that_are_all_alike_give_a_head_of_their_rates() -> None:
    x, y = np.ones((8, DIM), np.float32), np.arange(8)[:, None] < [2, 4, 6]
    public = private_ridge.learn(x, y, private_rows.each_alone(8), 4)
    head = private_ridge.public_alone(x, y, np.arange(8), public)
    assert not head["weight"].any()
    np.testing.assert_allclose(1 / (1 + np.exp(-head["bias"])), [2.5 / 9, 4.5 / 9, 6.5 / 9])


def test_an_image_in_the_middle_counts_about_as_much_as_others() -> None:
    x, y, who = people(40, 0)
    public = private_ridge.learn(x, y, private_rows.each_alone(len(y)), DIM)
    alone = private_ridge.public_alone(x, y, who, public)
    x[0] = public.mean  # a row of length 0
    np.testing.assert_allclose(
        private_ridge.public_alone(x, y, who, public)["weight"], alone["weight"], atol=0.1
    )


def test_one_public_person_is_enough_for_a_head() -> None:
    x, y, who = people(1, 0)
    units = private_rows.each_alone(len(y))
    public = private_ridge.learn(x, y, units, DIM)
    release, *_ = released(public, 40, 1, 1.0)
    head = private_ridge.solve(release, x, y, who, units)
    assert public.k < DIM
    assert all(np.isfinite(array).all() for array in head.values())
