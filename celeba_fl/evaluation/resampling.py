"""Resampling the people of the test split: how far the figures of a run would move with others.

Identities are drawn with replacement (`celeba_fl.evaluation.intervals`), their counts are added
up, and the task's own metrics are computed from the sums. The same identities give the same draws,
so the draws of two models that were judged on the same images are paired.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from celeba_fl.evaluation.bins import CENTRES, NUM_BINS
from celeba_fl.evaluation.intervals import draw_identities, interval
from celeba_fl.evaluation.metrics import RANKED, Counts, mean

# Identities below which no claim about demographic groups rests on a split.
FEW_IDENTITIES = 100


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
        counts = self._counts(np.arange(len(self.labels)))
        return {name: mean(values) for name, values in _judge(*counts).items()}

    @cached_property
    def draws(self) -> dict[str, np.ndarray]:
        """Metrics of each draw, means over the attributes, each of shape ``(draws,)``."""
        return {
            name: np.array([mean(draw) for draw in values])
            for name, values in self.attribute_draws.items()
        }

    @cached_property
    def attribute_draws(self) -> dict[str, np.ndarray]:
        """Metrics of each draw and attribute, each of shape ``(draws, attributes)``."""
        people = [np.flatnonzero(self.celeb_id == person) for person in np.unique(self.celeb_id)]
        drawn = draw_identities(len(people))
        at_scores, by_rank = zip(*(self._counts(rows) for rows in people), strict=True)
        both = zip(_drawn_counts(drawn, at_scores), _drawn_counts(drawn, by_rank), strict=True)
        judged = [_judge(*counts) for counts in both]
        return {name: np.array([draw[name] for draw in judged]) for name in judged[0]}

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


def intervals(draws: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each metric."""
    ends = {name: interval(values) for name, values in draws.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def difference_intervals(one: Scores, other: Scores) -> dict[str, tuple[float, float]]:
    """The 95 % interval of the difference `other` - `one` of each metric, by paired draws."""
    return intervals({name: other.draws[name] - values for name, values in one.draws.items()})


def _judge(counts: Counts, by_rank: Counts) -> dict[str, np.ndarray]:
    """Metrics per attribute; AUROC and average precision from 128 bins of equal size."""
    return {metric.name: metric.values(counts, by_rank) for metric in RANKED}


def _drawn_counts(drawn: np.ndarray, people: Sequence[Counts]) -> Iterator[Counts]:
    """The summed counts of each draw of people."""
    # Sums of images are whole numbers, which float32 knows up to 16 million, in half the time.
    kinds = {"positives": np.float32, "negatives": np.float32, "loss": np.float64}
    sums = [
        np.tensordot(
            drawn.astype(kind), np.stack([getattr(one, name) for one in people]).astype(kind), 1
        )
        for name, kind in kinds.items()
    ]
    for positives, negatives, loss in zip(*sums, strict=True):
        yield Counts(positives.astype(np.int64), negatives.astype(np.int64), loss)
