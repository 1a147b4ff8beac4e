"""How often the 95 % intervals hold the truth, on made-up people whose truth is known.

Each person has 20 to 40 images, an own rate of every attribute, and scores that are alike on all of
them; the truth is that of 30,000 such people. The first table is of figures of a test split, the
second of groups that differ in nothing but how many of them have an attribute: whether 0 lies in
the interval of their difference, how often chance is ruled out at the level of 5 %, and how often
one of the attributes, the worst, is called farther apart than by chance after Holm's correction.

A percentile interval of drawn people, what the app had before, stands beside.
"""

import argparse
from collections.abc import Iterable, Sequence

import numpy as np
from people import head, line

from celeba_fl.common.arrays import Floats
from celeba_fl.evaluation.corrections import holm
from celeba_fl.evaluation.fairness import outcomes
from celeba_fl.evaluation.gaps import (
    by_chance,
    estimates,
    gap_bounds,
    rate_moments,
    signed,
    standing,
)
from celeba_fl.evaluation.intervals import Ends, Estimate, identity_sums
from celeba_fl.evaluation.resampling import Scores, attribute_intervals, intervals

ATTRIBUTES = tuple(f"a{i}" for i in range(12))
SHARES = np.linspace(0.05, 0.6, 12)
# People of a split, and how many of the asked times it is drawn: many people take long.
SIZES = {14: 1, 50: 1 / 2, 200: 1 / 4}
FIGURES = "accuracy", "balanced_accuracy", "auroc"
POPULATION, CLIENTS_PEOPLE = 30_000, 2
Cells = dict[str, list[np.ndarray]]


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Logistic function."""
    return 1 / (1 + np.exp(-x))


def draw(rng: np.random.Generator, number: int, groups: int = 1) -> tuple[Scores, np.ndarray]:
    """The images of some people, and the group of each image.

    Attributes are rarer in each group than in the one before, and as easy to see in all.
    """
    group = rng.integers(0, groups, number)
    person = np.repeat(np.arange(number), rng.integers(20, 41, number))
    shape = (number, len(ATTRIBUTES))
    base = np.log(SHARES / (1 - SHARES))
    habit = base + np.where(np.arange(12) % 2, 1, 2.5) * rng.normal(size=shape) - group[:, None] / 2
    labels = rng.random((len(person), 12)) < sigmoid(habit)[person]
    looks = 0.5 * rng.normal(size=shape), 0.4 * rng.normal(size=shape), 0.4 * rng.normal(size=shape)
    alike = looks[0][person] + np.where(labels, looks[1][person], looks[2][person])
    seen = np.linspace(1, 2.5, 12) * (2 * labels - 1) + 0.3 * base
    scores = seen + alike + 1.2 * rng.normal(size=labels.shape)
    names = np.arange(len(person)).astype(str)
    return Scores(names, person, ATTRIBUTES, labels, scores), group[person]


def truth(groups: int) -> tuple[Scores, np.ndarray]:
    """So many people that their figures are the truth."""
    return draw(np.random.default_rng(1), POPULATION, groups)


def counts(scores: Scores, group: np.ndarray, groups: int) -> np.ndarray:
    """Counts of each person, (people, groups, 4, attributes)."""
    member = group[:, None] == np.arange(groups)
    marks = outcomes(scores.scores > 0, scores.labels, member)
    return identity_sums(marks, scores.celeb_id)


def rates_of(sums: np.ndarray) -> dict[str, Estimate]:
    """The rates of groups."""
    return estimates({name: one.sum(axis=0) for name, one in rate_moments(sums).items()})


def holds(
    ends: Sequence[Floats | float], value: np.ndarray | float, counted: np.ndarray | bool = True
) -> np.ndarray:
    """1 where the value lies in the interval, 0 where not, NaN where there is none."""
    low, high = (np.asarray(end, np.float64) for end in ends)
    covered = ((low <= value) & (value <= high)).astype(np.float64)
    return np.where(np.isnan(low + high) | ~np.asarray(counted), np.nan, covered)


def percentile(scores: Scores, rng: np.random.Generator) -> Ends:
    """The accuracy's interval from drawing people, as it was."""
    right = identity_sums((scores.scores > 0) == scores.labels, scores.celeb_id)
    images = np.bincount(scores.celeb_id)
    drawn = rng.multinomial(len(images), np.full(len(images), 1 / len(images)), 1000)
    values = (drawn @ right) / (drawn @ images)[:, None]
    low, high = np.quantile(values, (0.025, 0.975), axis=0)
    return low, high


def measure(rng: np.random.Generator, number: int, known: Scores, into: Cells) -> None:
    """Whether the intervals of one test split hold the truth."""
    scores, _ = draw(rng, number)
    enough = scores.people_of("auroc") >= 5
    enough &= np.minimum(scores.labels.sum(axis=0), (~scores.labels).sum(axis=0)) >= 10
    means = intervals(scores)
    each = attribute_intervals(scores, {name: scores.attribute_values[name] for name in FIGURES})
    for name in FIGURES:
        title = name.replace("_", " ")
        into.setdefault(f"mean {title}", []).append(holds(means[name], known.values[name]))
        covered = holds(each[name], known.attribute_values[name], enough)
        into.setdefault(f"{title} of an attribute", []).append(covered)
    before = holds(percentile(scores, rng), known.attribute_values["accuracy"], enough)
    into.setdefault("the same accuracy, percentiles of draws", []).append(before)
    # Clients of two people each, whose sums are all that is known.
    holder = scores.celeb_id // CLIENTS_PEOPLE
    one = np.ones((len(holder), 1), bool)
    sums = identity_sums(outcomes(scores.scores > 0, scores.labels, one), holder)
    moments = {name: m.sum(axis=0) for name, m in rate_moments(sums).items()}
    for name in ("accuracy", "tpr"):
        rate = estimates(moments, 10)[name]
        value = known.attribute_values["accuracy"] if name == "accuracy" else true_rate(known)
        covered = holds(rate.share_interval(), value, enough)[0]
        into.setdefault(f"{name} of clients of two people", []).append(covered)


def true_rate(known: Scores) -> np.ndarray:
    """The true positive rate of each attribute."""
    return (known.labels & (known.scores > 0)).sum(axis=0) / known.labels.sum(axis=0)


def compare(rng: np.random.Generator, number: int, groups: int, into: Cells) -> None:
    """Whether groups that are served alike are said to be."""
    scores, group = draw(rng, number, groups)
    sums = counts(scores, group, groups)
    rates = rates_of(sums)
    compared = standing(rates, sums.sum(axis=0), ATTRIBUTES, ()) == "yes"
    if not compared.any():
        return
    title = f"{groups} groups: "
    for name, (_, ends) in signed(rates).items():
        if groups == 2 and name in ("tpr_difference", "fpr_difference"):
            into.setdefault(f"{title}0 in the {name}", []).append(holds(ends, 0, compared))
    bounds = gap_bounds(rates)["equalized_odds_difference"]
    into.setdefault(f"{title}0 in the equalized odds", []).append(holds(bounds, 0, compared))
    _, p = by_chance(sums, compared)["equalized_odds_difference"]
    ruled = np.where(compared, p <= 0.05, np.nan)
    into.setdefault(f"{title}chance is ruled out", []).append(ruled)
    worst = np.array(holm(p[compared]).min() < 0.05, np.float64)
    into.setdefault(f"{title}a worst one is called", []).append(worst)
    lows = np.array(bounds[0][compared].max() > 0, np.float64)
    into.setdefault(f"{title}the highest lower end is above 0", []).append(lows)


def print_table(title: str, by_size: dict[int, Cells]) -> None:
    """Shares in per cent, a row a figure and a column a number of people."""
    print(f"\n{head([title, *(f'{size} people' for size in by_size)])}")
    for name in dict.fromkeys(name for cells in by_size.values() for name in cells):
        shares: Iterable[str] = (
            f"{100 * np.nanmean(found):.1f}"
            if (found := cells.get(name)) and not np.isnan(found).all()
            else ""
            for cells in by_size.values()
        )
        print(line([name, *shares]), flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--times",
        type=int,
        default=400,
        help="splits of 14 people; half as many of 50, a quarter of 200",
    )
    times = parser.parse_args().times
    known, _ = truth(1)
    for title, groups in (("the truth lies in the interval, %", ()), ("no difference, %", (2, 4))):
        by_size: dict[int, Cells] = {}
        for size, part in SIZES.items():
            rng, cells = np.random.default_rng(size), by_size.setdefault(size, {})
            for _ in range(round(part * times)):
                if not groups:
                    measure(rng, size, known, cells)
                for number in groups:
                    compare(rng, size, number, cells)
        print_table(title, by_size)


if __name__ == "__main__":
    main()
