"""The head that follows from noisy sums and from public images."""

import numpy as np

from celeba_fl.common.arrays import Arrays, Rows
from celeba_fl.models.private_rows import STEP, Public, Release, sums_of
from celeba_fl.models.ridge import calibrate

# Lambda in deviations of the noise.
SHARE = 0.5


def learn(features: Rows, labels: np.ndarray, dim: int) -> Public:
    """Statistics of public images, with so many directions, or as many as these images span."""
    wide = features[:].astype(np.float64)
    mean, rates = wide.mean(axis=0), labels.mean(axis=0)
    _, values, directions = np.linalg.svd(wide - mean, full_matrices=False)
    chosen = directions[: min(dim, int((values > 1e-6 * values[0]).sum()))].T
    chosen /= np.median(np.linalg.norm((wide - mean) @ chosen, axis=1))
    reach = float(np.median(np.linalg.norm(labels - rates, axis=1)))
    return Public.of(mean, chosen, rates, reach=reach, constant=0.5, times=1.0)


def solve(release: Release, features: Rows, labels: np.ndarray) -> Arrays:
    """The head of logits, on features as they are, of a release and of public images."""
    public = release.public
    own = Release.of(sums_of(features, labels, public), public, 0.0)
    values, vectors = np.linalg.eigh(release.xx)
    ridge = release.sigma * np.sqrt(public.k) * SHARE + STEP
    inverse = (vectors / (np.maximum(values, 0) + ridge)) @ vectors.T
    return _head(inverse @ release.xy, own, public, len(labels))


def public_alone(features: Rows, labels: np.ndarray, public: Public) -> Arrays:
    """The same of public images alone."""
    own = Release.of(sums_of(features, labels, public), public, 0.0)
    ridge = 0.01 * len(labels) / public.k
    w = np.linalg.solve(own.xx + ridge * np.eye(len(own.xx)), own.xy)
    return _head(w, own, public, len(labels))


def _head(w: np.ndarray, own: Release, public: Public, n: int) -> Arrays:
    """A head of logits, calibrated on public images, of a regression on rows."""
    rates = public.rates.astype(np.float64)
    # Rows with 1 for the constant and labels with 0 and 1, as `calibrate` knows them.
    scale = np.append(np.ones(public.k), 1 / public.constant)
    xx = own.xx * scale * scale[:, None]
    xy = own.xy * scale[:, None] + np.outer(xx[-1], rates)
    whole = w / scale[:, None]
    whole[-1] += rates
    logits = calibrate(whole, (xx, xy), (xx, xy))
    directions = public.directions * public.unit
    weight = directions @ logits[:-1]
    bias = logits[-1] - public.mean @ weight
    return {"weight": weight.T.astype(np.float32), "bias": bias.astype(np.float32)}
