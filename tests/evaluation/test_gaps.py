"""How sure differences between groups are: by hand, by Newcombe's table, and by the truth."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import norm

from celeba_fl.evaluation.gaps import (
    COMPARED,
    DEFINES,
    SMALL,
    UNKNOWN,
    by_chance,
    estimates,
    gap_bounds,
    pair_interval,
    rate_moments,
    signed,
    standing,
)
from celeba_fl.evaluation.intervals import Estimate


def rates_of(sums: np.ndarray, fewest: int = 0) -> dict[str, Estimate]:
    moments = {name: one.sum(axis=0) for name, one in rate_moments(sums).items()}
    return estimates(moments, fewest)


def people(*groups: list[tuple[int, int, int, int]]) -> np.ndarray:
    """Counts (people, groups, 4, 1) of people who are in one group each."""
    each = [(g, one) for g, group in enumerate(groups) for one in group]
    sums = np.zeros((len(each), len(groups), 4, 1))
    for i, (g, one) in enumerate(each):
        sums[i, g, :, 0] = one
    return sums


def simulated(
    rng: np.random.Generator, number: int, attributes: int = 20, groups: int = 2, gap: float = 0
) -> np.ndarray:
    """People of 30 images whose rates differ from person to person, and by group if by a `gap`."""
    sums = np.zeros((number, groups, 4, attributes))
    for i in range(number):
        p = rng.binomial(30, rng.beta(2, 2, attributes))
        odds = np.exp(1.5 + 0.8 * rng.normal(size=attributes) - gap * (i % groups))
        tp, fp = rng.binomial(p, odds / (1 + odds)), rng.binomial(30 - p, 1 / (1 + odds))
        sums[i, i % groups] = np.stack([np.full(attributes, 30), p, tp, fp])
    return sums


@pytest.mark.parametrize(
    ("one", "other", "ends"),
    # Newcombe 1998, Stat. Med. 17(8), table II, method 10.
    [
        ((0, 20), (0, 10), (-0.1611, 0.2775)),
        ((0, 10), (0, 10), (-0.2775, 0.2775)),
        ((0, 20), (10, 10), (0.6791, 1.0000)),
        ((0, 10), (10, 10), (0.6075, 1.0000)),
    ],
)
def test_where_all_people_agree_the_groups_own_limits_combine(one, other, ends) -> None:
    groups = ([(3, 2, 2 * (i < k), 0) for i in range(n)] for k, n in (one, other))
    rates = rates_of(people(*groups))
    value, found = signed(rates)["tpr_difference"]
    assert value == other[0] / other[1]
    np.testing.assert_allclose(np.array(found)[:, 0], ends, atol=6e-5)
    low, high = gap_bounds(rates)["equal_opportunity_difference"]
    assert (low[0], high[0]) == pytest.approx((max(ends[0], 0), ends[1]), abs=6e-5)


def test_a_pair_combines_lopsided_limits() -> None:
    rates = rates_of(people([(4, 2, 2, 0), (4, 2, 1, 0)], [(4, 2, 1, 1), (4, 2, 0, 1)]))["tpr"]
    low, high = rates.share_interval()
    (b1, b2), (a1, a2) = (rates.value - low)[:, 0], (high - rates.value)[:, 0]
    (found,) = np.array(pair_interval(rates, 0, 1)).T
    assert found == pytest.approx([-0.5 - (b2**2 + a1**2) ** 0.5, -0.5 + (a2**2 + b1**2) ** 0.5])


def test_the_sign_says_which_group_is_served_worse() -> None:
    rates = rates_of(people([(4, 2, 2, 0), (4, 2, 1, 0)], [(4, 2, 1, 1), (4, 2, 0, 1)]))
    found = {name: value[0] for name, (value, _) in signed(rates).items()}
    assert found == {
        "accuracy_difference": -0.5,
        "tpr_difference": -0.5,
        "fpr_difference": 0.5,
        "selection_rate_difference": 0,
    }


def test_of_more_groups_no_difference_has_a_sign() -> None:
    rates = rates_of(simulated(np.random.default_rng(0), 12, groups=3))
    assert all(np.isnan([value, *ends]).all() for value, ends in signed(rates).values())


def test_all_pairs_share_one_level() -> None:
    rates = rates_of(simulated(np.random.default_rng(0), 60, groups=4))
    low, high = gap_bounds(rates)["equalized_odds_difference"]
    ends = [
        np.array(pair_interval(rates[name], a, b, 1 - 0.05 / 12))
        for name in ("tpr", "fpr")
        for a, b in permutations(range(4), 2)
    ]
    np.testing.assert_allclose(low, np.maximum(np.max([one[0] for one in ends], axis=0), 0))
    np.testing.assert_allclose(high, np.minimum(np.max([one[1] for one in ends], axis=0), 1))
    worst = np.array(rates["accuracy"].share_interval(1 - 0.05 / 4)).min(axis=1)
    np.testing.assert_allclose(gap_bounds(rates)["worst_group_accuracy"], worst)


def test_what_is_compared() -> None:
    enough = [(4, 2, 1, 1)] * 5
    few_people = [(20, 10, 5, 5)] * 4
    few_images = [(3, 2, 1, 1), *[(2, 1, 1, 1)] * 4]
    one_sided = [(4, 4, 1, 0)] * 9
    for second, word in (
        (enough, COMPARED), (few_people, SMALL), (few_images, SMALL), (one_sided, SMALL)
    ):  # fmt: skip
        sums = people(enough, second)
        counts = sums.sum(axis=0)
        assert standing(rates_of(sums), counts, ("Smiling",), ("Male",)) == [word]
        assert standing(rates_of(sums), counts, ("Male",), ("Male",)) == [DEFINES]
        nobody = rates_of(np.zeros_like(sums), fewest=10)
        assert standing(nobody, counts, ("Smiling",), ("Male",)) == [UNKNOWN]


def test_chance_by_every_deal_there_is() -> None:
    """Six people, three of each group: 20 deals, each as likely as any other."""
    right = [9, 8, 6, 5, 3, 4]
    sums = people(*([(20, 10, k, 10 - k) for k in right[i : i + 3]] for i in (0, 3)))
    (chance, p), r = (
        by_chance(sums, np.array([True]))["equal_opportunity_difference"],
        np.array(right) / 10,
    )

    def units(first: tuple[int, ...]) -> float:
        groups = r[list(first)], np.delete(r, first)
        error = np.hypot(*(group.std(ddof=1) / 3**0.5 for group in groups))
        return abs(groups[0].mean() - groups[1].mean()) / error

    deals = [units(one) for one in permutations(range(6), 3) if one == tuple(sorted(one))]
    own = units((0, 1, 2))
    assert len(deals) == 20
    assert p[0] == pytest.approx(np.mean(np.array(deals) >= own - 1e-9), abs=0.03)
    error = abs(r[:3].mean() - r[3:].mean()) / own
    expected = np.mean(np.minimum(np.array(deals) * error, 1))
    assert chance[0] == pytest.approx(expected, abs=0.02)


def test_only_what_is_compared_has_a_chance() -> None:
    sums = simulated(np.random.default_rng(0), 20)
    compared = np.arange(20) % 3 == 0
    for chance, p in by_chance(sums, compared).values():
        assert (np.isnan(chance) == ~compared).all()
        assert (np.isnan(p) == ~compared).all()
    for chance, p in by_chance(sums, np.zeros(20, bool)).values():
        assert np.isnan([chance, p]).all()


@pytest.mark.parametrize("groups", [2, 4])
def test_without_a_gap_0_is_in_the_interval_and_chance_explains_it(groups: int) -> None:
    """50 people, 20 attributes, 15 times: at most about one in twenty is wrong."""
    rng = np.random.default_rng(1)
    misses, rejected, chances, values = [], [], [], []
    for _ in range(15):
        sums = simulated(rng, 50, groups=groups)
        rates = rates_of(sums)
        low, _ = gap_bounds(rates)["equal_opportunity_difference"]
        chance, p = by_chance(sums, np.ones(20, bool))["equal_opportunity_difference"]
        tpr = rates["tpr"].value
        misses += [low > 0]
        rejected += [p <= 0.05]
        chances += [chance]
        values += [tpr.max(axis=0) - tpr.min(axis=0)]
    most = 0.05 + norm.ppf(0.99) * (0.05 * 0.95 / 300) ** 0.5
    assert np.mean(misses) < most
    assert np.mean(rejected) < most
    assert np.mean(chances) == pytest.approx(np.mean(values), rel=0.2)


def test_a_gap_is_found() -> None:
    sums = simulated(np.random.default_rng(0), 50, gap=2)
    _, p = by_chance(sums, np.ones(20, bool))["equalized_odds_difference"]
    low, _ = gap_bounds(rates_of(sums))["equalized_odds_difference"]
    assert (p == 1 / 1000).mean() > 0.9
    assert (low > 0).mean() > 0.9
