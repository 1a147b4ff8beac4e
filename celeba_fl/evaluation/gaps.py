"""How sure differences between groups are: intervals that can hold 0, and what chance would give.

Of two groups the difference has a sign. Of several, all pairs are looked at together (Bonferroni),
and the largest difference lies between the largest of their lower and of their upper ends. The
interval of a pair combines each group's own limits (the square-and-add method: Newcombe 1998, Stat.
Med. 17(8), 873-890; MOVER, Zou & Donner 2008, Stat. Med. 27(10), 1693-1702), which also holds where
a rate is 0 or 1. It takes groups for independent: of people who are in both it is too wide.

Chance deals the groups over the people at random. Groups in which an attribute is rare have rates
that scatter more than such dealing shows, so a difference counts in its own standard errors
(Janssen 1997, Stat. Probab. Lett. 36(1), 9-21; Chung & Romano 2013, Ann. Stat. 41(2), 484-507).
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.arrays import Floats
from celeba_fl.evaluation.fairness import fractions
from celeba_fl.evaluation.intervals import LEVEL, Ends, Estimate, ratio_moments

# By measure: the rates of which it is the largest difference.
GAPS = {
    "demographic_parity_difference": ("selection_rate",),
    "equal_opportunity_difference": ("tpr",),
    "equalized_odds_difference": ("tpr", "fpr"),
}
DEALS = 999
# Examples with and without an attribute, and people whom they show, below which nothing is ranked.
FEWEST_EXAMPLES, FEWEST_PEOPLE = 10, 5
COMPARED, SMALL, UNKNOWN, DEFINES = "yes", "too small", "people unknown", "defines the groups"
Estimates = Mapping[str, Estimate]


def rate_moments(sums: np.ndarray) -> dict[str, Floats]:
    """The `ratio_moments` of each rate, (people, 6, groups, attributes), of counts of each person.

    `sums` are (people, groups, 4, attributes), as for `fractions`.
    """
    return {name: ratio_moments(*fraction) for name, fraction in fractions(sums).items()}


def estimates(moments: Mapping[str, np.ndarray], fewest: int = 0) -> dict[str, Estimate]:
    """The rates, (groups, attributes) each, from summed moments.

    Of fewer than so many people (or clients, if those are the draws) a rate is of nobody known, so
    that it has no interval.
    """
    found = {}
    for name, summed in moments.items():
        rate = Estimate.of_ratio(summed)
        people = np.where(rate.people < fewest, np.nan, rate.people)
        found[name] = Estimate(rate.value, rate.error, people)
    return found


def standing(
    rates: Estimates, counts: np.ndarray, attributes: Sequence[str], grouping: Sequence[str]
) -> np.ndarray:
    """Whether groups can be compared by each attribute, (attributes,): one of the words above.

    `counts` are (groups, 4, attributes).
    """
    n, p = counts[:, 0], counts[:, 1]
    people = np.minimum(rates["tpr"].people, rates["fpr"].people)
    enough = (np.minimum(p, n - p) >= FEWEST_EXAMPLES) & (people >= FEWEST_PEOPLE)
    words = np.where(np.isnan(people).all(), UNKNOWN, SMALL)
    words = np.where(enough.all(axis=0), COMPARED, words)
    return np.where(np.isin(attributes, grouping), DEFINES, words)


def pair_interval(rates: Estimate, one: int, other: int, level: float = LEVEL) -> Ends:
    """The interval of the difference `other` - `one` of two groups' rates, (attributes,) each."""
    low, high = rates.share_interval(level)
    below, above = rates.value - low, high - rates.value
    middle = rates.value[other] - rates.value[one]
    return (
        middle - np.hypot(below[other], above[one]),
        middle + np.hypot(above[other], below[one]),
    )


def signed(rates: Estimates) -> dict[str, tuple[Floats, Ends]]:
    """The second less the first group's rates with their intervals; undefined unless of two."""
    found = {}
    for name, rate in rates.items():
        undefined = np.full(rate.value.shape[1:], np.nan)
        two = len(rate.value) == 2
        value = rate.value[1] - rate.value[0] if two else undefined
        ends = pair_interval(rate, 0, 1) if two else (undefined, undefined)
        found[f"{name}_difference"] = value, ends
    return found


def gap_bounds(rates: Estimates) -> dict[str, Ends]:
    """Intervals of the largest differences, and of the lowest accuracy of a group.

    Each holds for all groups together: a largest difference of 0 lies in it as it should.
    """
    groups = len(rates["tpr"].value)
    pairs = list(combinations(range(groups), 2))
    bounds = {}
    for measure, names in GAPS.items():
        level = 1 - (1 - LEVEL) / (len(pairs) * len(names))
        lows, highs = [], []
        for name in names:
            ends = [pair_interval(rates[name], *pair, level) for pair in pairs]
            lows.append(np.fmax.reduce([np.maximum(np.fmax(a, -b), 0) for a, b in ends]))
            highs.append(np.fmax.reduce([np.fmax(-a, b) for a, b in ends]))
        bounds[measure] = np.maximum.reduce(lows), np.minimum(np.maximum.reduce(highs), 1)
    low, high = rates["accuracy"].share_interval(1 - (1 - LEVEL) / groups)
    bounds["worst_group_accuracy"] = np.fmin.reduce(low), np.fmin.reduce(high)
    return bounds


def by_chance(sums: Floats, compared: NDArray[np.bool_]) -> dict[str, tuple[Floats, Floats]]:
    """What each largest difference would be by chance alone, and its p; (attributes,) each.

    The groups are dealt anew over the people `DEALS` times; who is in several groups counts as one
    person in each. In every deal, the difference of two groups is put into units of its own
    standard error. The first figure is the mean of the largest over the deals, read in the units of
    the run; p is the share of deals, the run's own among them, whose largest has as many units.
    Only of the attributes that are `compared`; `sums` are (people, groups, 4, attributes).
    """
    chosen, number = np.flatnonzero(compared), sums.shape[1]
    found = {gap: (np.full(len(compared), np.nan), np.full(len(compared), np.nan)) for gap in GAPS}
    if not len(chosen):
        return found
    who, group = np.nonzero(sums[:, :, 0, :].any(axis=-1))
    # Small whole numbers, which float32 knows exactly, in half the time.
    moments = rate_moments(sums[who, group][:, None][..., chosen].astype(np.float32))
    dealt = np.random.default_rng(0).permuted(np.tile(group, (DEALS, 1)), axis=1)
    deals = np.concatenate([group[None], dealt])  # the run's own first
    member = (deals[:, None] == np.arange(number)[:, None]).astype(np.float32)
    units: dict[str, Floats] = {}
    apart: dict[str, Floats] = {}
    for name in dict.fromkeys(name for names in GAPS.values() for name in names):
        summed = np.tensordot(member, moments[name][:, :, 0], 1)
        rates = Estimate.of_ratio(np.moveaxis(summed, 2, 0))  # (deals, groups, attributes)
        errors, each = _spread(rates), []
        for a, b in combinations(range(number), 2):
            error = np.maximum(np.hypot(errors[:, a], errors[:, b]), 1e-6)
            unit = np.abs(rates.value[:, a] - rates.value[:, b]) / error
            each.append((unit, np.minimum(unit * error[0], 1)))
        units[name], apart[name] = (np.fmax.reduce(pairs) for pairs in zip(*each, strict=True))
    for gap, names in GAPS.items():
        largest = np.maximum.reduce([apart[name] for name in names])
        unit = np.maximum.reduce([units[name] for name in names])
        chance, p = found[gap]
        chance[chosen] = np.nanmean(largest[1:], axis=0)
        # A deal that leaves groups without a rate tells nothing against chance.
        p[chosen] = (~(unit < unit[0] * (1 - 1e-5))).mean(axis=0)
    return found


def _spread(rates: Estimate) -> Floats:
    """Standard errors; of rates of 0 and 1, which show none, those of Agresti & Coull (1998)."""
    p, n = rates.value, rates.people
    moved = (p * n + 2) / (n + 4)
    return np.where(p * (1 - p) > 0, rates.error, np.sqrt(moved * (1 - moved) / (n + 4)))
