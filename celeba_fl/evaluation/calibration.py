"""Probabilities: how far they are from what comes true, and how to bring them nearer.

A head's score is the log odds that it gives to an attribute, and its probability the sigmoid of it.
Of images that get a probability of 0.8, 80 % should have the attribute. `Reliability` compares the
two in bands of probability (DeGroot and Fienberg 1983, The Statistician 32, 12-22), and `fit` finds
for each attribute the slope and the offset that mend most (Platt 1999; Guo et al., "On Calibration
of Modern Neural Networks", ICML 2017), from histograms of scores alone.
"""

from dataclasses import dataclass

import numpy as np

from celeba_fl.common.arrays import Arrays, Floats
from celeba_fl.evaluation.bins import CENTRES

BANDS = 10
# How far the log slope and the offset of an attribute are taken to be from those of all attributes
# together, as standard deviations of a normal prior; and those of all from 0. With few examples of
# a kind the prior decides. Images of one person are alike, so there are fewer than it seems.
SPREAD, SPREAD_OF_ALL = np.array([0.1, 0.25]), np.array([1.0, 2.5])
STEPS = 100


@dataclass(frozen=True)
class Reliability:
    """Examples by the band of their probability, (..., attributes, BANDS) each.

    Their number, how many of them have the attribute, and the sum of their probabilities.
    """

    n: Floats
    positives: Floats
    predicted: Floats

    @classmethod
    def of(cls, scores: Floats, positives: np.ndarray, negatives: np.ndarray) -> "Reliability":
        """Of k scores of each attribute, and how many examples with and without it have each.

        All (k, attributes): the scores of examples with their labels, or the middles of bins.
        """
        chance = sigmoid(scores)
        attributes = chance.shape[1]
        cells = np.minimum((BANDS * chance).astype(np.int64), BANDS - 1)
        cells += np.arange(attributes) * BANDS

        def summed(values: np.ndarray) -> Floats:
            found = np.bincount(cells.ravel(), values.ravel(), attributes * BANDS)
            return found.astype(np.float64).reshape(attributes, BANDS)

        n = np.add(positives, negatives, dtype=np.float64)
        return cls(summed(n), summed(np.asarray(positives, np.float64)), summed(n * chance))

    def error(self) -> Floats:
        """The expected calibration error, (..., attributes); NaN without examples.

        The difference between the mean probability and the share of positives of each band,
        weighted by its examples (Naeini, Cooper and Hauskrecht, AAAI 2015). Chance alone makes it
        larger than 0, the more so the fewer the examples.
        """
        n, apart = self.n.sum(axis=-1), np.abs(self.predicted - self.positives).sum(axis=-1)
        return np.divide(apart, n, out=np.full(n.shape, np.nan), where=n > 0)


@dataclass(frozen=True)
class Calibration:
    """A slope above 0 and an offset for the scores of each attribute, (attributes,) each."""

    slope: Floats
    offset: Floats

    @classmethod
    def none(cls, attributes: int) -> "Calibration":
        """Scores stay as they are."""
        return cls(np.ones(attributes), np.zeros(attributes))

    def head(self, arrays: Arrays) -> Arrays:
        """A linear head whose scores are these scores of `arrays`."""
        weight, bias = arrays["weight"], arrays["bias"]
        return {
            **arrays,
            "weight": (weight * self.slope[:, None]).astype(weight.dtype),
            "bias": (bias * self.slope + self.offset).astype(bias.dtype),
        }


def fit(positives: np.ndarray, negatives: np.ndarray) -> Calibration:
    """The likeliest slope and offset of each attribute, from (attributes, NUM_BINS) histograms.

    Logistic regression of the label on the score, with a prior: first for all attributes together,
    around scores that are right as they are; then for each, around what all have in common. So an
    attribute of which too few examples are there gets the common slope, not one of its own.
    """
    pooled = positives.sum(axis=0)[None], negatives.sum(axis=0)[None]
    (common,) = _likeliest(*pooled, np.zeros(2), SPREAD_OF_ALL)
    slope, offset = _likeliest(positives, negatives, common, SPREAD).T
    return Calibration(np.exp(slope), offset)


def _likeliest(
    positives: np.ndarray, negatives: np.ndarray, prior: Floats, spread: Floats
) -> Floats:
    """Log slope and offset of the highest posterior, (attributes, 2), by Fisher's scoring.

    A step that makes it worse is halved, each attribute for itself.
    """
    n = positives + negatives

    def loss(at: Floats) -> Floats:
        scores = np.exp(at[:, :1]) * CENTRES + at[:, 1:]
        nats = positives * np.logaddexp(0, -scores) + negatives * np.logaddexp(0, scores)
        return nats.sum(axis=1) + (((at - prior) / spread) ** 2).sum(axis=1) / 2

    at = np.tile(prior, (len(n), 1))
    step_size = np.ones(len(n))
    for _ in range(STEPS):
        scaled = np.exp(at[:, :1]) * CENTRES
        chance = sigmoid(scaled + at[:, 1:])
        effect = np.stack([scaled, np.ones_like(scaled)])  # of log slope and offset on the score
        gradient = (effect * (n * chance - positives)).sum(axis=-1).T + (at - prior) / spread**2
        curvature = np.einsum("iab,jab,ab->aij", effect, effect, n * chance * (1 - chance))
        curvature += np.diag(1 / spread**2)
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        tried = at - step_size[:, None] * step
        better = loss(tried) <= loss(at)
        at = np.where(better[:, None], tried, at)
        step_size = np.where(better, np.minimum(1, 2 * step_size), step_size / 2)
    return at


def sigmoid(scores: Floats) -> Floats:
    """The probability of each score; it cannot overflow."""
    chance: Floats = (1 + np.tanh(np.asarray(scores) / 2)) / 2
    return chance
