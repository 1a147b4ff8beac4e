"""The head that follows from noisy sums and from public images.

The sums of clients and those of public images are two answers to one question, and each is best
where the other is weak: public images are few, and what noise leaves of the clients' images is the
directions in which they vary most. So they are added by generalised least squares. With X'Y = A W
of the clients, whose rows scatter by tau^2 A about it and whose noise by s^2, a direction with the
eigenvalue a of A is right to (tau^2 a + s^2) / a^2, where without noise it were tau^2 / a. It
counts so much less, a / (a + rho) with rho = s^2 / tau^2::

    M = A (A + rho)^-1    head: (M A + A_p + lambda) W = M X'Y + X'Y_p

with A_p and X'Y_p of the public images, on which tau^2 is the mean square of labels about their
rates, since features explain a small part of it. At no noise that is least squares over all images,
at much noise that of the public ones, and nothing has to be chosen but lambda: it is the one of
least squared error on public people who are left out of A_p in turn.

A itself is noisy. With A_v as released and A_p brought to its size, it is the mixture of least
expected error, as in Ledoit and Wolf (Journal of Multivariate Analysis, 2004)::

    A = (1 - alpha) A_v + alpha A_p    alpha = min(1, E|noise|^2 / |A_v - A_p|^2)

without its negative eigenvalues. All of this is after the release, so it costs no privacy.

How rows are made was chosen on the 20 people of CelebA's official validation split alone, who were
dealt into public, private and test people 12 times, with as much noise for the private images as
there is for so many as in the train split. There low limits were better than high ones, since noise
goes down with the limit and large rows lose no more than a part of their say; and principal
directions were better as they are than stretched to one length.
"""

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from celeba_fl.common.arrays import Arrays, Floats, Ints, Rows
from celeba_fl.common.threads import one_thread
from celeba_fl.models import private_rows
from celeba_fl.models.private_rows import MOST_ADDED, ROW_STEP, Public, Release
from celeba_fl.models.ridge import RATIOS, calibrate

# X'Y counts so much against X'X, and the limit of a unit is the size of the smallest public ones.
TIMES, LIMIT = sqrt(2), 0.05
FOLDS = 5
# A direction in which public images vary less than so many parts of the most is rounding.
TINY = 1e-5
# And so is a feature against the one that varies most.
DEAD = 1e-3
# Images that are all alike give no size to anything.
LEAST, SMALL = 0.1, 1e-12


@one_thread()
def learn(features: Rows, labels: np.ndarray, units: list[Ints], dim: int) -> Public:
    """Statistics of public images, (n, features) and (n, outputs), for rows of `dim` numbers.

    There are fewer where the images do not span so many. `units` are those of these images, as
    `private_rows.units_of` gives them.
    """
    wide, rates = features[:].astype(np.float64), labels.mean(axis=0)
    mean, deviation = wide.mean(axis=0), wide.std(axis=0)
    alive = deviation > DEAD * deviation.max()
    factor = np.divide(1, deviation, out=np.zeros_like(deviation), where=alive)
    scaled, centred = (wide - mean) * factor, labels - rates
    _, values, vectors = np.linalg.svd(scaled, full_matrices=False)
    span = max(1, int((values > TINY * values[0]).sum()))
    directions = vectors[: min(dim, span)].T
    length, spread = (
        max(float(np.median(np.linalg.norm(of, axis=1))), LEAST)
        for of in (scaled @ directions, centred)
    )
    public = Public.of(
        mean,
        directions * (factor / length)[:, None],
        rates,
        spread=spread,
        times=TIMES,
        clip=MOST_ADDED,
    )
    z, t = _rows(features, labels, public)
    sizes = np.concatenate([private_rows.sizes_of(z[of], t[of], TIMES) for of in units])
    return replace(public, clip=float(np.clip(np.quantile(sizes, LIMIT), LEAST, MOST_ADDED)))


def solve(
    release: Release, features: Rows, labels: np.ndarray, who: np.ndarray, units: list[Ints]
) -> Arrays:
    """The head of logits, on features as they are, of a release and of public images.

    `who` is on each of these, (n,), and `units` are as for `learn`.
    """
    with one_thread():
        images = _Images.of(features, labels, who, release.public)
        share = images.mean_weight(units)
        xx, sigma = release.xx / share, release.sigma / share
        public_xx, _ = images.sums()
        guess = public_xx * max(float(xx.trace() / max(public_xx.trace(), SMALL)), 0.0)
        scatter = float((images.weight * images.t**2).mean())
        rho = (sigma / release.public.times) ** 2 / max(scatter, SMALL)
        return images.head(*weighed(xx, release.xy / share, guess, sigma, rho))


def public_alone(features: Rows, labels: np.ndarray, who: np.ndarray, public: Public) -> Arrays:
    """The head that `solve` gives where a release says nothing."""
    with one_thread():
        images = _Images.of(features, labels, who, public)
        return images.head(np.zeros((public.k, public.k)), np.zeros((public.k, public.outputs)))


def weighed(
    xx: Floats, xy: Floats, guess: Floats, sigma: float, rho: float
) -> tuple[Floats, Floats]:
    """M A and M X'Y, as above, of noisy sums; `guess` is A_p brought to the size of X'X.

    The noise in X'X has the deviation sigma on its diagonal, and sigma / sqrt(2) beside it.
    """
    noise, far = sigma**2 * len(xx) * (len(xx) + 1) / 2, float(((xx - guess) ** 2).sum())
    alpha = min(1.0, noise / max(far, SMALL))
    values, vectors = np.linalg.eigh((1 - alpha) * xx + alpha * guess)
    values = np.maximum(values, 0.0)
    m = values / np.maximum(values + rho, SMALL)
    return (vectors * (m * values)) @ vectors.T, (vectors * m) @ (vectors.T @ xy)


def steadied(slope: Floats, offset: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Slopes and offsets, (outputs,), with slopes where public images do not tell classes apart.

    Hardly any of them may have an attribute that clients know well, so calibration gives it the
    slope 0. Its logit of scores (n, outputs) gets the median deviation of the others instead, about
    the same mean.
    """
    deviation = scores.std(axis=0)
    known, varied = slope > 0, deviation > SMALL
    if not known.any():
        return slope, offset
    usual = np.median((slope * deviation)[known]) / np.where(varied, deviation, 1.0)
    added = np.where(~known & varied, usual, 0.0)
    return slope + added, offset - added * scores.mean(axis=0)


@dataclass(frozen=True)
class _Images:
    """Public images as rows, each of them weighed as if it were a unit, but by 1 in the mean."""

    public: Public
    z: Floats  # (n, k) not weighed
    t: Floats  # (n, outputs)
    weight: Floats  # (n, 1)
    labels: np.ndarray  # (n, outputs) bool
    fold: Ints  # (n,) all images of a person are in one

    @classmethod
    def of(cls, features: Rows, labels: np.ndarray, who: np.ndarray, public: Public) -> "_Images":
        z, t = _rows(features, labels, public)
        sizes = private_rows.sizes_of(z[:, None], t[:, None], public.times)
        weight = 1 / np.maximum(sizes, max(np.quantile(sizes, LIMIT), SMALL))
        people, person = np.unique(who, return_inverse=True)
        fold = np.random.default_rng(0).permutation(len(people)) % FOLDS
        return cls(public, z, t, (weight / weight.mean())[:, None], labels, fold[person])

    def mean_weight(self, units: list[Ints]) -> float:
        """By how much an image counts in a release, in the mean."""
        total, number = 0.0, 0
        for of in units:
            sizes = private_rows.sizes_of(self.z[of], self.t[of], self.public.times)
            weights = np.minimum(1.0, self.public.clip / np.maximum(sizes, SMALL))
            total, number = total + float(weights.sum()) * of.shape[1], number + of.size
        return total / number

    def sums(self, chosen: np.ndarray | slice = slice(None)) -> tuple[Floats, Floats]:
        """X'X and X'Y of the chosen ones."""
        z = self.z[chosen]
        weighed = (z * self.weight[chosen]).T
        return weighed @ z, weighed @ self.t[chosen]

    def regression(self, xx: Floats, xy: Floats) -> tuple[Floats, Floats]:
        """The weights (k, outputs) of rows, by these sums and those of public images.

        And the scores (n, outputs) of each image by weights that leave its fold out; lambda is
        that of least squared error of these.
        """
        scores = np.zeros((len(RATIOS), *self.t.shape))
        for fold in np.unique(self.fold):
            out = self.fold == fold
            own_xx, own_xy = self.sums(~out)
            for i, w in enumerate(_regressions(xx + own_xx, xy + own_xy)):
                scores[i, out] = self.z[out] @ w
        best = int(np.argmin((self.weight * (scores - self.t) ** 2).sum(axis=(1, 2))))
        own_xx, own_xy = self.sums()
        return _regressions(xx + own_xx, xy + own_xy)[best], scores[best]

    def head(self, xx: Floats, xy: Floats) -> Arrays:
        """The head of logits of a regression, calibrated by the scores of people left out."""
        w, left_out = self.regression(xx, xy)
        own, held_out = (_products(scores, self.labels) for scores in (self.z @ w, left_out))
        logits = calibrate(np.eye(w.shape[1] + 1, w.shape[1]), own, held_out)
        slope, offset = steadied(logits.diagonal(), logits[-1], left_out)
        weight = self.public.directions @ (self.public.unit * w * slope)
        bias = offset - self.public.mean @ weight
        return {"weight": weight.T.astype(np.float32), "bias": bias.astype(np.float32)}


def _rows(features: Rows, labels: np.ndarray, public: Public) -> tuple[Floats, Floats]:
    z, t = private_rows.rows_of(features[:], labels, public)
    return z * ROW_STEP, t * ROW_STEP


def _regressions(xx: Floats, xy: Floats) -> list[Floats]:
    """Weights (k, outputs) of least squares for each lambda of `RATIOS`."""
    values, vectors = np.linalg.eigh(xx)
    rotated, scale = vectors.T @ xy, max(float(xx.trace()) / len(xx), SMALL)
    return [vectors @ (rotated / (values + ratio * scale)[:, None]) for ratio in RATIOS]


def _products(scores: Floats, labels: np.ndarray) -> tuple[Floats, Floats]:
    """X'X and X'Y of scores with a constant 1 and of labels."""
    x = np.c_[scores, np.ones(len(scores))]
    return x.T @ x, x.T @ labels.astype(np.float64)
