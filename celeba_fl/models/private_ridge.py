"""The head that follows from noisy sums and from public images."""

import numpy as np

from celeba_fl.common.arrays import Arrays, Floats, Ints, Rows
from celeba_fl.models.private_rows import ROW_STEP, Public, Release, rows_of, sizes_of
from celeba_fl.models.ridge import calibrate

# How much Z'T counts next to Z'Z, and the part of public units that count in full.
TIMES, IN_FULL = 2.0, 0.25
# Parts of rows that are at most as long as 1.
USUAL = 0.9
# Lambda in deviations of the noise, and of public images.
SHARE, OF_PUBLIC = 0.5, 0.01


def learn(features: Rows, labels: np.ndarray, units: list[Ints], dim: int) -> Public:
    """Statistics of public images, with so many directions, or as many as these images span."""
    wide = features[:].astype(np.float64)
    mean, rates = wide.mean(axis=0), labels.mean(axis=0)
    deviation = wide.std(axis=0)
    factor = np.divide(
        1,
        deviation,
        out=np.zeros_like(deviation),
        where=deviation > 1e-3 * max(float(deviation.max()), 1e-30),
    )
    _, values, vectors = np.linalg.svd((wide - mean) * factor, full_matrices=False)
    span = max(1, int((values > 1e-6 * values[0]).sum()))
    directions = vectors[: min(dim, span)].T * factor[:, None]
    z, t = (wide - mean) @ directions, labels - rates
    across, spread = (max(_quantile(np.linalg.norm(of, axis=1), USUAL), 1e-6) for of in (z, t))
    sizes = [sizes_of(z[at] / across, t[at] / spread, TIMES) for at in units]
    clip = min(max(_quantile(np.concatenate(sizes), IN_FULL), 0.1), 16.0)
    return Public.of(mean, directions / across, rates, spread=spread, times=TIMES, clip=clip)


def solve(
    release: Release, features: Rows, labels: np.ndarray, celeb_id: np.ndarray, units: list[Ints]
) -> Arrays:
    """The head of logits, on features as they are, of a release and of public images."""
    public = release.public
    values, vectors = np.linalg.eigh(release.xx)
    ridge = release.sigma * np.sqrt(public.k) * SHARE + 1e-9
    inverse = (vectors / (np.maximum(values, 0) + ridge)) @ vectors.T
    return _head(inverse @ release.xy, public, features, labels)


def public_alone(
    features: Rows, labels: np.ndarray, celeb_id: np.ndarray, public: Public
) -> Arrays:
    """The same of public images alone."""
    z, t = _rows(features, labels, public)
    ridge = OF_PUBLIC * len(labels) / public.k
    w = np.linalg.solve(z.T @ z + ridge * np.eye(public.k), z.T @ t)
    return _head(w, public, features, labels)


def _quantile(values: Floats, share: float) -> float:
    return float(np.quantile(values, share))


def _rows(features: Rows, labels: np.ndarray, public: Public) -> tuple[Floats, Floats]:
    z, t = rows_of(features[:], labels, public)
    return z * ROW_STEP, t * ROW_STEP


def _head(w: np.ndarray, public: Public, features: Rows, labels: np.ndarray) -> Arrays:
    """A head of logits, calibrated on public images, of a regression (k, outputs) on rows."""
    x = np.c_[_rows(features, labels, public)[0], np.ones(len(labels))]
    sums = x.T @ x, x.T @ labels.astype(np.float64)
    logits = calibrate(np.vstack([w * public.spread, public.rates]), sums, sums)
    weight = public.directions @ logits[:-1] * public.unit
    bias = logits[-1] - public.mean @ weight
    return {"weight": weight.T.astype(np.float32), "bias": bias.astype(np.float32)}
