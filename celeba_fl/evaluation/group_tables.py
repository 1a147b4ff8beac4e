"""Rows of `groups.csv` and `fairness.csv`: rates, differences, and how sure they are."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.arrays import Arrays, Floats, Ints
from celeba_fl.data.schema import group_names, membership
from celeba_fl.evaluation.corrections import holm
from celeba_fl.evaluation.fairness import (
    Grouping,
    differences,
    fractions,
    grouped_counts,
    outcomes,
)
from celeba_fl.evaluation.gaps import (
    COMPARED,
    GAPS,
    Estimates,
    by_chance,
    estimates,
    gap_bounds,
    rate_moments,
    signed,
    standing,
)
from celeba_fl.evaluation.intervals import Ends, identity_sums
from celeba_fl.evaluation.metrics import Counts, Rows, ratio, rows_of

# Clients that must have examples for a rate of them to have an interval.
FEWEST_CLIENTS = 10


def client_moments(
    clients: Iterable[Mapping[str, Arrays]], judge: Callable[[Counts], Counts]
) -> dict[str, dict[str, Floats]]:
    """The summed moments of the rates by part, of clients that are the draws.

    `clients` are the counts of each by part, with those of `count_groups`; `judge` says which of
    their scores are a yes.
    """
    total: dict[str, dict[str, Floats]] = {}
    for client in clients:
        for part, sent in client.items():
            counts = _four(judge(grouped_counts(sent)))
            for name, more in rate_moments(counts[None].astype(np.float64)).items():
                rates = total.setdefault(part, {})
                rates[name] = rates.get(name, 0) + more[0]
    return total


def compare_test(
    predicted: NDArray[np.bool_],
    labels: NDArray[np.bool_],
    celeb_id: np.ndarray,
    attributes: Sequence[str],
    groupings: Sequence[Grouping],
) -> tuple[Rows, Rows]:
    """Rows of `groups.csv` and `fairness.csv` for the test images, whose identities are known."""
    groups, fairness = [], []
    for grouping in groupings:
        member = membership(labels, attributes, grouping)
        sums = identity_sums(outcomes(predicted, labels, member), celeb_id)
        moments = {name: one.sum(axis=0) for name, one in rate_moments(sums).items()}
        table = _Table("test", attributes, grouping, sums.sum(axis=0), estimates(moments))
        people = (sums[:, :, 0] > 0).sum(axis=0)
        groups += table.groups(people, table.rates["tpr"].people, table.rates["fpr"].people)
        fairness += table.fairness(sums)
    return groups, fairness


def compare_clients(
    split: str,
    counts: Counts,
    attributes: Sequence[str],
    groupings: Sequence[Grouping],
    moments: Mapping[str, Floats] | None = None,
) -> tuple[Rows, Rows]:
    """Rows of `groups.csv` and `fairness.csv` from the summed histograms of clients.

    Histograms of shape (groups, attributes, bins), the groups of all groupings in order. There are
    intervals where nobody is with two clients: then there are `client_moments`, and of at least
    `FEWEST_CLIENTS` clients, these are the draws.
    """
    groups, fairness = [], []
    four = _four(counts)
    if moments is None:
        nothing = rate_moments(np.zeros((1, *four.shape)))
        moments = {name: one[0] for name, one in nothing.items()}
    ends = np.cumsum([1 << len(grouping) for grouping in groupings])[:-1]
    for i, grouping in enumerate(groupings):
        part = np.split(four, ends)[i]
        own = {name: np.split(one, ends, axis=1)[i] for name, one in moments.items()}
        rates = estimates(own, FEWEST_CLIENTS)
        values = {name: ratio(*fraction) for name, fraction in fractions(part).items()}
        rates = {name: replace(rate, value=values[name]) for name, rate in rates.items()}
        table = _Table(split, attributes, grouping, part, rates)
        unknown = np.full(part[:, 0].shape, np.nan)
        groups += table.groups(unknown, unknown, unknown)
        fairness += table.fairness(None)
    return groups, fairness


@dataclass(frozen=True)
class _Table:
    """The rows of one grouping, from counts (groups, 4, attributes) and rates."""

    split: str
    attributes: Sequence[str]
    grouping: Grouping
    counts: np.ndarray
    rates: Estimates

    @property
    def _where(self) -> dict[str, str]:
        return {"split": self.split, "grouping": ",".join(self.grouping)}

    def groups(self, people: np.ndarray, having: np.ndarray, lacking: np.ndarray) -> Rows:
        """Rows of `groups.csv`; numbers of people in all, and with and without the attribute."""
        counts = self.counts.astype(np.int64)
        columns: dict[str, np.ndarray] = {"n": counts[:, 0], "positives": counts[:, 1]}
        columns |= {"identities": people}
        for name, rate in self.rates.items():
            columns |= _with_bounds(name, rate.value, rate.share_interval())
        columns |= {"identities_with": having, "identities_without": lacking}
        rows: Rows = []
        for g, group in enumerate(group_names(self.grouping)):
            own = {name: column[g] for name, column in columns.items()}
            rows += rows_of(own, self.attributes, **self._where, group=group)
        return rows

    def fairness(self, sums: Floats | None) -> Rows:
        """Rows of `fairness.csv`; the counts of each person tell what chance would give."""
        rates = {name: rate.value for name, rate in self.rates.items()}
        values, bounds = differences(rates), gap_bounds(self.rates)
        columns: dict[str, np.ndarray] = {}
        for name, value in values.items():
            defined = np.where(np.isnan(value), np.nan, bounds[name])
            columns |= _with_bounds(name, value, (defined[0], defined[1]))
        accuracy = np.where(np.isnan(rates["accuracy"]), np.inf, rates["accuracy"])
        names = np.array(group_names(self.grouping))[accuracy.argmin(axis=0)]
        columns["worst_group"] = np.where(self.counts[:, 0].any(axis=0), names, "")
        words = standing(self.rates, self.counts, self.attributes, self.grouping)
        columns["compared"] = words
        for name, (value, ends) in signed(self.rates).items():
            columns |= _with_bounds(name, value, ends)
        compared = words == COMPARED
        unknown = np.full(len(words), np.nan)
        chances = dict.fromkeys(GAPS, (unknown, unknown))
        if sums is not None:
            chances = by_chance(sums, compared)
        for name, (chance, p) in chances.items():
            adjusted = np.full(len(p), np.nan)
            adjusted[compared] = holm(p[compared])
            columns |= {f"{name}_chance": chance, f"{name}_p": p, f"{name}_p_holm": adjusted}
        return rows_of(columns, self.attributes, **self._where)


def _four(counts: Counts) -> Ints:
    """Examples, positives, true and false positives, (groups, 4, attributes)."""
    return np.stack([counts.n, counts.p, counts.tp, counts.fp], axis=-2)


def _with_bounds(name: str, value: Floats, ends: Ends) -> dict[str, np.ndarray]:
    """The columns of a value and its interval."""
    return {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}
