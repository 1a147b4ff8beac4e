"""Counts of examples that add up across clients, and the metrics computed from them.

A metric of attributes is one entry of `METRICS`: rounds, tables, intervals and reports follow it.

A metric of several clients is computed from their summed counts, never averaged from their
metrics: that would be wrong for balanced accuracy, F1, AUROC and every group rate.

Every metric has one value an attribute; undefined (no positives, no negatives, no examples)
is NaN in memory and empty in every file.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.arrays import Arrays, Floats, Ints
from celeba_fl.evaluation.bins import CENTRES, EDGES, NUM_BINS, ZERO_BIN, bins_of
from celeba_fl.evaluation.calibration import Calibration, Reliability
from celeba_fl.evaluation.curves import ExactCurves
from celeba_fl.evaluation.harmonic import harmonic_numbers

Rows = list[dict[str, Any]]

# The least and the most loss of an example with, and of one without an attribute, by bin.
INNER, OUTER = np.append(EDGES, np.inf), np.insert(EDGES, 0, -np.inf)
YES_LOSS = np.logaddexp(0, -INNER), np.logaddexp(0, -OUTER)
NO_LOSS = np.logaddexp(0, OUTER), np.logaddexp(0, INNER)


@dataclass(frozen=True)
class Counts:
    """Counts of a set of examples, per attribute; those of two sets add up, array by array.

    Parameters
    ----------
    positives, negatives : np.ndarray
        (attributes, NUM_BINS) int64, the scores of the examples with and without the attribute; or
        several such histograms, (..., attributes, NUM_BINS).
    loss : np.ndarray
        (attributes,) float64, the summed binary cross-entropy in nats.
    first : np.ndarray | int
        (attributes,) the lowest bin that predicts the attribute; `at` sets it.
    slope, offset : np.ndarray | float
        (attributes,) what is in the bins is a score less its offset, divided by its slope.
    base_rates : np.ndarray | float
        (attributes,) shares of positives that were known beforehand: those of the train examples.
    """

    positives: Ints
    negatives: Ints
    loss: Floats
    first: Ints | int = ZERO_BIN
    slope: Floats | float = 1.0
    offset: Floats | float = 0.0
    base_rates: Floats | float = np.nan

    @classmethod
    def of(
        cls, scores: Floats, labels: NDArray[np.bool_], thresholds: Floats | float = 0.0
    ) -> "Counts":
        """Count examples, by their logits and labels, (n, attributes) each.

        The bins begin at the thresholds, (attributes,), so that what is above them is exact.
        """
        attributes = labels.shape[1]
        cells = bins_of(scores - thresholds) + np.arange(attributes) * NUM_BINS
        shape = (attributes, NUM_BINS)
        positives = np.bincount(cells[labels], minlength=attributes * NUM_BINS).reshape(shape)
        negatives = np.bincount(cells[~labels], minlength=attributes * NUM_BINS).reshape(shape)
        loss = bce_with_logits(scores, labels).sum(axis=0)
        return cls(positives, negatives, loss, offset=thresholds)

    @classmethod
    def stack(cls, counts: Sequence["Counts"]) -> "Counts":
        """Several counts in one, on a new first axis."""
        of = [(one.positives, one.negatives, one.loss) for one in counts]
        return cls(*(np.stack(arrays) for arrays in zip(*of, strict=True)))

    def at(self, thresholds: Floats) -> "Counts":
        """These counts judged at the edges that are nearest to other thresholds, (attributes,)."""
        edges = (thresholds - self.offset) / self.slope
        return replace(self, first=np.abs(EDGES - edges[:, None]).argmin(axis=1) + 1)

    def calibrated(self, by: Calibration) -> "Counts":
        """Counts of the calibrated scores of the same examples, at the same threshold in numbers.

        The change of the loss is that of the middles of the bins.
        """
        slope, offset = self.slope * by.slope, self.offset * by.slope + by.offset
        moved = replace(self, slope=slope, offset=offset)
        change = moved._binned_loss() - self._binned_loss()
        return replace(moved, loss=self.loss + change).at(self.thresholds)

    @property
    def centres(self) -> Floats:
        """Scores that stand for those of each bin, (attributes, NUM_BINS)."""
        slope, offset = (np.asarray(value)[..., None] for value in (self.slope, self.offset))
        return np.broadcast_to(slope * CENTRES + offset, self.positives.shape)

    def _binned_loss(self) -> Floats:
        with_it, without = (np.logaddexp(0, sign * self.centres) for sign in (-1, 1))
        return (self.positives * with_it + self.negatives * without).sum(axis=-1)

    def to_arrays(self) -> Arrays:
        """For a message: integers in the smallest type that holds them."""
        smallest = np.min_scalar_type(max(self.positives.max(), self.negatives.max()))
        return {
            "positives": self.positives.astype(smallest),
            "negatives": self.negatives.astype(smallest),
            "loss": self.loss,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays, base_rates: Floats | float = np.nan) -> "Counts":
        """Undo `to_arrays`."""
        return cls(
            arrays["positives"].astype(np.int64),
            arrays["negatives"].astype(np.int64),
            arrays["loss"].astype(np.float64),
            base_rates=base_rates,
        )

    @property
    def thresholds(self) -> Floats:
        """Scores above which an attribute is predicted, (attributes,)."""
        edges = EDGES[np.asarray(self.first) - 1]
        return np.broadcast_to(self.slope * edges + self.offset, self.n.shape[-1:])

    @cached_property
    def tp(self) -> Ints:
        """True positives, (attributes,)."""
        return self._predicted(self.positives)

    @cached_property
    def fp(self) -> Ints:
        """False positives, (attributes,)."""
        return self._predicted(self.negatives)

    def _predicted(self, histogram: Ints) -> Ints:
        yes = np.arange(NUM_BINS) >= np.asarray(self.first)[..., None]
        return np.where(yes, histogram, 0).sum(axis=-1)

    @cached_property
    def p(self) -> Ints:
        """Examples with the attribute, (attributes,)."""
        return self.positives.sum(axis=-1)

    @cached_property
    def n(self) -> Ints:
        """Examples, with and without the attribute, (attributes,)."""
        return self.p + self.negatives.sum(axis=-1)

    def loss_range(self) -> tuple[Floats, Floats]:
        """The lowest and the highest loss, (attributes,), of examples whose scores fill these bins.

        A score beyond the last edges may be wrong by any amount. Rounding is allowed for.
        """
        low = high = np.zeros(self.n.shape)
        for histogram, (best, worst) in ((self.positives, YES_LOSS), (self.negatives, NO_LOSS)):
            low = low + histogram @ best
            # No example in a bin of unlimited loss is no loss.
            high = high + (histogram * np.where(histogram > 0, worst, 0.0)).sum(axis=-1)
        return low - 1e-3 * (self.n + low), high + 1e-3 * (self.n + high)

    def mean_loss(self) -> Floats:
        """Binary cross-entropy of an example, in nats."""
        return ratio(self.loss, self.n)

    def base_rates_loss(self) -> Floats:
        """The mean loss of always giving the base rates for the probabilities, in nats."""
        with_it, without = np.log(self.base_rates), np.log1p(-np.asarray(self.base_rates))
        return -ratio(self.p * with_it + (self.n - self.p) * without, self.n)

    def calibration_error(self) -> Floats:
        """How far probabilities are from shares, from the middles of the bins."""
        return self.reliability.error()

    @cached_property
    def reliability(self) -> Reliability:
        """Probabilities beside shares, of the bins' middles."""
        return Reliability.of(self.centres.T, self.positives.T, self.negatives.T)

    def accuracy(self) -> Floats:
        """(TP + TN) / n."""
        return ratio(self.tp + (self.n - self.p - self.fp), self.n)

    def majority_accuracy(self) -> Floats:
        """max(p, 1 - p): the accuracy of always answering what is more frequent here."""
        return ratio(np.maximum(self.p, self.n - self.p), self.n)

    def balanced_accuracy(self) -> Floats:
        """(TPR + TNR) / 2."""
        tpr = ratio(self.tp, self.p)
        tnr = ratio(self.n - self.p - self.fp, self.n - self.p)
        return (tpr + tnr) / 2

    def f1(self) -> Floats:
        """2 TP / (2 TP + FP + FN); undefined without positives."""
        f1 = ratio(2 * self.tp, self.tp + self.fp + self.p)
        return np.where(self.p > 0, f1, np.nan)

    def auroc(self) -> Floats:
        """Area under the ROC curve from the bins, a pair within one bin counting one half.

        The Mann-Whitney U statistic over P N pairs (Hanley and McNeil 1982). It differs from the
        exact value by at most `auroc_error`.
        """
        below = np.cumsum(self.negatives, axis=1) - self.negatives
        wins = (self.positives * (below + self.negatives / 2)).sum(axis=1)
        return ratio(wins, self.p * (self.n - self.p))

    def auroc_error(self) -> Floats:
        """Half of the share of pairs that fall into one bin: the most that `auroc` can be off."""
        shared = (self.positives * self.negatives).sum(axis=1)
        return ratio(shared, 2 * self.p * (self.n - self.p))

    def average_precision(self) -> Floats:
        """Area under the precision-recall curve from the bins, scores of one bin being ties.

        Sum of precision x gain in recall from the highest bin down, as scikit-learn defines it.
        """
        gained = self.positives[:, ::-1]
        tp = np.cumsum(gained, axis=1)
        predicted = tp + np.cumsum(self.negatives[:, ::-1], axis=1)
        precision = np.divide(tp, predicted, out=np.zeros(tp.shape), where=predicted > 0)
        return ratio((gained * precision).sum(axis=1), self.p)

    def average_precision_error(self) -> Floats:
        """The most that `average_precision` can be off, whatever the order within the bins.

        Of m positives and k negatives in a bin, with t and f above it, the j-th positive (from
        above) has a precision of at least (t + j) / (t + j + f + k), where all negatives of the
        bin come first, and of at most (t + m) / (t + m + f), where all come last. The sum of the
        former over j is m - (f + k) (H(t + f + k + m) - H(t + f + k)), H the harmonic numbers.
        """
        harmonic = harmonic_numbers(int(self.n.max(initial=0)))
        m, k = self.positives[:, ::-1], self.negatives[:, ::-1]
        t, f = np.cumsum(m, axis=1) - m, np.cumsum(k, axis=1) - k
        most = m * np.nan_to_num(ratio(t + m, t + m + f))
        least = m - (f + k) * (harmonic(t + f + k + m) - harmonic(t + f + k))
        area = self.average_precision()
        high, low = (ratio(bound.sum(axis=1), self.p) for bound in (most, least))
        return np.maximum(high - area, area - low)


# Both areas of every attribute with the most that each can be off: from scores, or from bins.
Curves = Counts | ExactCurves


def bce_with_logits(scores: Floats, labels: NDArray[np.bool_]) -> Floats:
    """Binary cross-entropy of every score, in nats: max(s, 0) - s y + log(1 + exp(-|s|))."""
    return np.maximum(scores, 0) - scores * labels + np.log1p(np.exp(-np.abs(scores)))


def ratio(numerator: NDArray[np.generic], denominator: NDArray[np.generic]) -> Floats:
    """Quotient, NaN where the denominator is 0."""
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.divide(top, bottom, out=np.full(bottom.shape, np.nan), where=bottom != 0)


def mean(values: Floats) -> float:
    """Mean over the attributes for which the metric is defined; NaN if there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def rows_of(columns: Mapping[str, np.ndarray], attributes: Sequence[str], **where: str) -> Rows:
    """A CSV file's rows of one place, such as a split: a value of each column an attribute."""
    return [
        {**where, "attribute": name, **{key: values[i] for key, values in columns.items()}}
        for i, name in enumerate(attributes)
    ]


@dataclass(frozen=True)
class Metric:
    """A metric of attributes.

    Parameters
    ----------
    name : str
        Of its mean over the attributes, as in `rounds.csv` and `summary.json`.
    title : str
        The same for people.
    values : Callable[[Counts, Curves], np.ndarray]
        Its value for each attribute, from counts at some thresholds and from curves: exact ones,
        or the counts themselves, which have them from bins.
    rank : int | None
        Its place among the figures that a report shows; None for a reference, with which others
        are compared.
    error : Callable[[Curves], np.ndarray] | None (default: None)
        The most that each value can be off: a column of its own in `attributes.csv`.
    lower_is_better : bool (default: False)
        Whether less is better.
    each_round : bool (default: True)
        Whether `rounds.csv` has its mean.
    """

    name: str
    title: str
    values: Callable[[Counts, Curves], Floats]
    rank: int | None
    error: Callable[[Curves], Floats] | None = None
    lower_is_better: bool = False
    each_round: bool = True

    @property
    def column(self) -> str:
        """Its column in `attributes.csv`: "macro" says of an F1 that it is a mean."""
        return self.name.removeprefix("macro_")


# In the order of the columns of `rounds.csv`.
METRICS = (
    Metric(*("loss", "loss (nats)", lambda counts, _: counts.mean_loss(), 6), lower_is_better=True),
    Metric(
        *("base_rates_loss", "loss of the base rates", lambda c, _: c.base_rates_loss(), None),
        lower_is_better=True,
    ),
    Metric("accuracy", "accuracy", lambda counts, _: counts.accuracy(), 5),
    Metric("majority_accuracy", "majority accuracy", lambda c, _: c.majority_accuracy(), None),
    Metric("balanced_accuracy", "balanced accuracy", lambda c, _: c.balanced_accuracy(), 1),
    Metric("macro_f1", "macro F1", lambda counts, _: counts.f1(), 4),
    Metric("auroc", "AUROC", lambda _, c: c.auroc(), 2, lambda c: c.auroc_error()),
    Metric(
        *("average_precision", "average precision", lambda _, c: c.average_precision(), 3),
        error=lambda c: c.average_precision_error(),
        each_round=False,
    ),
    Metric(
        *("calibration_error", "calibration error", lambda _, c: c.calibration_error(), None),
        lower_is_better=True,
        each_round=False,
    ),
)
EACH_ROUND = tuple(metric for metric in METRICS if metric.each_round)
# What a report shows, in its order.
RANKED = sorted((metric for metric in METRICS if metric.rank), key=lambda metric: metric.rank or 0)


def means(counts: Counts, curves: Curves, metrics: Iterable[Metric]) -> dict[str, float]:
    """The means of metrics over the attributes for which each is defined, by name."""
    return {metric.name: mean(metric.values(counts, curves)) for metric in metrics}
