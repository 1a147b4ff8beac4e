"""What attackers make of updates, which are what training adds to a model, in one row of numbers.

The attackers are one: those that need to know what honest clients send know it, all of it.
"""

from collections.abc import Callable, Mapping

import numpy as np

from celeba_fl.common.arrays import Floats


def sign_flip(own: Floats, honest: Floats, strength: float, seed: int) -> Floats:
    """Away from where the own data lead."""
    return -strength * own


def scale(own: Floats, honest: Floats, strength: float, seed: int) -> Floats:
    """Too far, by just less than what `max-update-norm` leaves out."""
    return strength * own


def gaussian(own: Floats, honest: Floats, strength: float, seed: int) -> Floats:
    """Noise so many times as large as the own update."""
    size = np.sqrt(np.square(own).mean())
    return np.random.default_rng(seed).normal(0.0, strength * size, own.shape)


def alie(own: Floats, honest: Floats, strength: float, seed: int) -> Floats:
    """The honest mean and so many deviations: in each number where honest ones might be.

    Baruch et al., "A Little Is Enough: Circumventing Defenses For Distributed Learning", NeurIPS
    2019.
    """
    spread = honest.std(axis=0, ddof=1) if len(honest) > 1 else np.zeros_like(own)
    return np.asarray(honest.mean(axis=0) + strength * spread)


def ipm(own: Floats, honest: Floats, strength: float, seed: int) -> Floats:
    """Against the honest mean.

    Inner-product manipulation, Xie et al., "Fall of Empires: Breaking Byzantine-tolerant SGD by
    Inner Product Manipulation", UAI 2019.
    """
    return np.asarray(-strength * honest.mean(axis=0))


def mimic(own: Floats, honest: Floats, strength: float, seed: int) -> Floats:
    """The honest update that is least like the others, so that it counts many times.

    Karimireddy et al., "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing", ICLR
    2022.
    """
    apart = np.square(honest - honest.mean(axis=0)).sum(axis=1)
    return np.asarray(honest[apart.argmax()])


# The update to send, from the own one, (d,), all honest ones, (n, d), a strength and a seed; and
# the strength that is usual.
ATTACKS: Mapping[str, tuple[Callable[[Floats, Floats, float, int], Floats], float]] = {
    "sign-flip": (sign_flip, 10.0),
    "scale": (scale, 50.0),
    "gaussian": (gaussian, 10.0),
    "alie": (alie, 1.5),
    "ipm": (ipm, 2.0),
    "mimic": (mimic, 1.0),
}
