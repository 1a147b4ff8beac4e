"""An attack on private sums: how much they tell of who is in them, measured in one run.

Steinke, Nasr and Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023: of many
canaries each is in the data or not by a coin of its own, and whoever sees the release guesses of
some of them which it was. Under (epsilon, delta) so many right guesses have a chance that is at
most that of a binomial, so a number of them is a lower bound on epsilon. Guesses of several runs
count as those of one.
"""

import os
from dataclasses import dataclass

import numpy as np
from scipy import stats

from celeba_fl.common.arrays import Arrays, Floats
from celeba_fl.models import private_rows
from celeba_fl.models.private_rows import Public
from celeba_fl.privacy.noise import noisy

DIM, K, OUTPUTS, SURE = 80, 64, 40, 0.95


def lower_bound(canaries: int, guesses: int, right: int, delta: float) -> float:
    """The largest epsilon that so many right guesses speak against, as sure as `SURE`; 0: none."""
    low, high = 0.0, 50.0
    if _chance(canaries, guesses, right, low, delta) > 1 - SURE:
        return 0.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        if _chance(canaries, guesses, right, middle, delta) > 1 - SURE:
            high = middle
        else:
            low = middle
    return low


def _chance(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """The most that the chance of so many right guesses can be (their Theorem 5.2)."""
    share = 1 / (1 + np.exp(-epsilon))
    fewer = stats.binom.pmf(np.arange(right - 1, -1, -1), guesses, share)
    alpha = max(np.cumsum(fewer) / np.arange(1, right + 1), default=0.0)
    return float(stats.binom.sf(right - 1, guesses, share) + 2 * canaries * delta * alpha)


@dataclass(frozen=True)
class Canaries:
    """Images that each move a release as far as they may, and as differently as they can."""

    public: Public
    features: np.ndarray  # (n, DIM)
    labels: np.ndarray  # (n, OUTPUTS)
    vectors: Floats  # (n, d) what each adds to a release, in units of the clip

    @classmethod
    def made(cls, number: int, seed: int) -> "Canaries":
        """So many canaries, each far from the mean in a direction of its own."""
        rng = np.random.default_rng(seed)
        directions, _ = np.linalg.qr(rng.normal(size=(DIM, K)))
        rates = np.full(OUTPUTS, 0.5)
        public = Public.of(np.zeros(DIM), directions, rates, spread=3.0, times=1.5, clip=1.0)
        features = (rng.normal(size=(number, K)) @ directions.T).astype(np.float32)
        labels = rng.random((number, OUTPUTS)) < 0.5
        each = [
            private_rows.sums_of(features, labels, public, [np.array([[i]])]) for i in range(number)
        ]
        return cls(public, features, labels, np.stack([released(sums, public) for sums in each]))

    def guess(self, multiplier: float, guesses: int, seed: int) -> int:
        """The right ones of so many guesses, half of them "in" and half "out", after one release.

        Its noise is `multiplier` times the clip. Whoever guesses knows all canaries and the noise's
        deviation, but not the coins.
        """
        coins = np.random.default_rng(seed).random(len(self.labels)) < 0.5
        units = [np.flatnonzero(coins)[:, None]]
        sums = private_rows.sums_of(self.features, self.labels, self.public, units)
        if multiplier:
            scales = private_rows.noise_scales(self.public, multiplier * self.public.clip)
            sums = noisy(sums, scales, 1, os.urandom)
        seen = released(sums, self.public) - self.vectors.sum(axis=0) / 2
        order, half = np.argsort(self.vectors @ seen), guesses // 2
        return int(coins[order[-half:]].sum() + (~coins[order[:half]]).sum())


def released(sums: Arrays, public: Public) -> Floats:
    """Sums as the vector that is released, in units of the clip."""
    diagonal = np.equal(*np.triu_indices(public.k))
    xx = np.where(diagonal, 1, np.sqrt(2)) * sums["xx"]
    whole = np.concatenate([xx, public.times * sums["xy"].ravel()])
    vector: Floats = whole * private_rows.STEP / public.clip
    return vector
