"""The test split without one person at a time: how far a run's figures would move with others.

A person's counts are taken off those of all, and the task's own metrics are computed from the
rest; the intervals are those of `celeba_fl.evaluation.intervals`. Two models that were judged on
the same images miss the same people in turn, so their differences are paired.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from celeba_fl.common.arrays import Floats
from celeba_fl.evaluation.bins import CENTRES, NUM_BINS
from celeba_fl.evaluation.intervals import Ends, Estimate
from celeba_fl.evaluation.metrics import RANKED, Counts, Metric, mean

# Identities below which no claim about demographic groups rests on a split.
FEW_IDENTITIES = 100
# People who are left out one at a time; more are left out in so many sets of people.
MOST_REPLICATES = 1000
# Metrics on which everybody bears, and not only as many as are with and without an attribute.
OF_ALL = ("accuracy", "loss")
BY_NAME = {metric.name: metric for metric in RANKED}


@dataclass(frozen=True)
class Scores:
    """A model's scores on n test images; `read_scores` puts them in the order of their names.

    `labels` are (n, attributes) bool, `scores` as many float64 logits, and `thresholds`,
    (attributes,), those above which an attribute is predicted; 0 without any.
    """

    image: np.ndarray
    celeb_id: np.ndarray
    attributes: tuple[str, ...]
    labels: np.ndarray
    scores: np.ndarray
    thresholds: np.ndarray | None = None

    @property
    def num_identities(self) -> int:
        """Number of people."""
        return len(np.unique(self.celeb_id))

    def pairs_with(self, other: "Scores") -> bool:
        """True if both are of the same images with the same labels."""
        return (
            self.attributes == other.attributes
            and np.array_equal(self.image, other.image)
            and np.array_equal(self.celeb_id, other.celeb_id)
            and np.array_equal(self.labels, other.labels)
        )

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of `test_scores.parquet`, which `read_scores` reads."""
        truth = {name: self.labels[:, i] for i, name in enumerate(self.attributes)}
        scores = {f"{name}_score": self.scores[:, i] for i, name in enumerate(self.attributes)}
        return {"image": self.image, "celeb_id": self.celeb_id, **truth, **scores}

    @cached_property
    def values(self) -> dict[str, float]:
        """Metrics of the images as they are, means over the attributes."""
        return {name: mean(values) for name, values in self.attribute_values.items()}

    @cached_property
    def attribute_values(self) -> dict[str, Floats]:
        """Metrics of the images as they are, (attributes,) each."""
        return _judge(*self._everyone)

    @cached_property
    def _everyone(self) -> tuple[Counts, Counts]:
        return self._counts(np.arange(len(self.labels)))

    @cached_property
    def replicates(self) -> dict[str, Floats]:
        """Metrics without each person, means over the attributes, each of shape ``(people,)``."""
        return {
            name: np.array([mean(replicate) for replicate in values])
            for name, values in self.attribute_replicates.items()
        }

    @cached_property
    def attribute_replicates(self) -> dict[str, Floats]:
        """Metrics without each person, each of shape ``(people, attributes)``."""
        judged = [
            _judge(*map(_without, self._everyone, self._counts(rows))) for rows in self._people
        ]
        return {name: np.array([one[name] for one in judged]) for name in judged[0]}

    @cached_property
    def _people(self) -> list[np.ndarray]:
        """The rows of each person, or of each of `MOST_REPLICATES` sets of people."""
        people, which = np.unique(self.celeb_id, return_inverse=True)
        # Numbers that follow each other may be alike, so neighbours go to different sets.
        which = which % MOST_REPLICATES
        return [np.flatnonzero(which == i) for i in range(min(len(people), MOST_REPLICATES))]

    def people_of(self, metric: str) -> np.ndarray:
        """How many people the metric of each attribute rests on, (attributes,).

        The fewer of those with and those without it: of an attribute that three people have, a
        true positive rate is known no better than from three people.
        """
        if metric in OF_ALL:
            return np.full(len(self.attributes), len(self._people))
        seen = [(self.labels[i].any(axis=0), ~self.labels[i].all(axis=0)) for i in self._people]
        return np.sum(seen, axis=0).min(axis=0)

    @cached_property
    def _ranks(self) -> np.ndarray:
        """Scores spread evenly over the bins of `Counts`, for curves, which need only the order."""
        ordered = np.sort(self.scores, axis=0)
        columns = zip(ordered.T, self.scores.T, strict=True)
        ranks = np.column_stack([np.searchsorted(row, column) for row, column in columns])
        return CENTRES[ranks * NUM_BINS // len(ranks)]

    def _counts(self, rows: np.ndarray) -> tuple[Counts, Counts]:
        """Counts of some images at the thresholds, and of their ranks."""
        above = 0.0 if self.thresholds is None else self.thresholds
        labels = self.labels[rows]
        return Counts.of(self.scores[rows], labels, above), Counts.of(self._ranks[rows], labels)


def read_scores(path: Path) -> Scores:
    """Read `test_scores.parquet`, or a file of the same columns.

    Raises
    ------
    ValueError
        If it is not a parquet file, or has other columns.
    """
    from pyarrow import ArrowException, parquet

    try:
        # `read_table` and `to_numpy` of pyarrow would import pandas, which takes longer.
        table = parquet.ParquetFile(path).read()

        def column(name: str, kind: str) -> np.ndarray:
            return np.from_dlpack(table[name].combine_chunks().cast(kind))

        names = tuple(name for name in table.column_names if f"{name}_score" in table.column_names)
        image = np.array(table["image"].to_pylist()).astype(str)
        order = np.argsort(image, kind="stable")
        return Scores(
            image[order],
            column("celeb_id", "int64")[order],
            names,
            np.column_stack([column(name, "int8") for name in names]).astype(bool)[order],
            np.column_stack([column(f"{name}_score", "float64") for name in names])[order],
        )
    except (ArrowException, KeyError) as error:
        raise ValueError(f"{error!r}") from error


def intervals(scores: Scores) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each metric, a mean over the attributes."""
    return {
        name: _pair(_ends(metric, np.array(scores.values[name]), scores.replicates[name]))
        for name, metric in BY_NAME.items()
    }


def attribute_intervals(scores: Scores, values: Mapping[str, Floats]) -> dict[str, Ends]:
    """The 95 % intervals of metrics of each attribute, whose `values` are (attributes,)."""
    found = {}
    for name, value in values.items():
        replicates, people = scores.attribute_replicates[name], scores.people_of(name)
        found[name] = _ends(BY_NAME[name], value, replicates, people)
    return found


def difference_intervals(one: Scores, other: Scores) -> dict[str, tuple[float, float]]:
    """The 95 % interval of the difference `other` - `one` of each metric, paired by person."""
    found = {}
    for name in BY_NAME:
        value = np.array(other.values[name] - one.values[name])
        replicates = other.replicates[name] - one.replicates[name]
        people = np.array(len(replicates))
        found[name] = _pair(Estimate.of_replicates(value, replicates, people).interval())
    return found


def _judge(counts: Counts, by_rank: Counts) -> dict[str, np.ndarray]:
    """Metrics per attribute; AUROC and average precision from 128 bins of equal size."""
    return {metric.name: metric.values(counts, by_rank) for metric in RANKED}


def attribute_difference_intervals(one: Scores, other: Scores, metric: str) -> Ends:
    """The same of a metric of each attribute, (attributes,) each."""
    replicates = other.attribute_replicates[metric] - one.attribute_replicates[metric]
    value = other.attribute_values[metric] - one.attribute_values[metric]
    return Estimate.of_replicates(value, replicates, one.people_of(metric)).interval()


def _ends(
    metric: Metric, value: Floats, replicates: Floats, people: np.ndarray | None = None
) -> Ends:
    number = np.array(len(replicates)) if people is None else people
    estimate = Estimate.of_replicates(value, replicates, number)
    return estimate.interval() if metric.lower_is_better else estimate.share_interval()


def _pair(ends: Ends) -> tuple[float, float]:
    low, high = ends
    return float(low), float(high)


def _without(counts: Counts, own: Counts) -> Counts:
    """The counts of all, without those of someone."""
    positives, negatives = counts.positives - own.positives, counts.negatives - own.negatives
    return replace(counts, positives=positives, negatives=negatives, loss=counts.loss - own.loss)
