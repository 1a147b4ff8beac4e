"""Heads that are computed instead of trained: ridge regression from sums over all clients.

The backbone is frozen and the head is linear, so sums of products of features and labels determine
the best head; see `celeba_fl.models.ridge`. ``train`` and ``valid`` in front of a sum's name tell
the examples that fit the head from those that choose lambda and calibrate scores.
"""

from collections.abc import Collection, Mapping

import numpy as np

from celeba_fl.common.arrays import Arrays, Floats, Ints
from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.models import ridge
from celeba_fl.models.scaling import Scaling
from celeba_fl.tasks.examples import Examples
from celeba_fl.tasks.weighting import Weigh


def zero_sums(dim: int, parts: Collection[str]) -> Arrays:
    """Sums of nothing, for features of `dim` numbers and each of the parts."""
    zeros = ridge.zero_sums(dim, len(ATTRIBUTES))
    return {f"{part}_{key}": array for part in parts for key, array in zeros.items()}


def sums_of(parts: Mapping[str, Examples], names: Collection[str], weigh: Weigh) -> Arrays:
    """Sums over a client's examples, those that are named."""
    sums: Arrays = {}
    for part, examples in parts.items():
        if f"{part}_xx" in names:
            sums |= {f"{part}_{key}": array for key, array in _sums(examples, weigh).items()}
    return sums


def check_sums(
    sums: Arrays, sizes: Ints, num_valid: int, positives: Ints, group_weights: Floats
) -> None:
    """Raise InputError unless sums can be those of a client.

    It has so many train examples of each group, whose examples weigh as told, and so many of each
    attribute; of its validation examples only the number is known.
    """
    weights = ridge.in_weight_steps(group_weights) * ridge.WEIGHT_STEP
    low, high = weights.min(), weights.max()
    total = float(sizes @ weights)
    ridge.check_sums(_part(sums, "train"), (total, total), (positives * low, positives * high))
    if "valid_xx" in sums:
        most = num_valid * high
        ridge.check_sums(_part(sums, "valid"), (num_valid * low, most), (0.0, most))


def solve(
    sums: Arrays, valid: Examples, weigh: Weigh, valid_fraction: float, scaling: Scaling | None
) -> Arrays:
    """The head, its lambda chosen and its scores calibrated on validation examples.

    Those are the server's, by their weights; where it has none, they are in the sums. Lambda is
    that of features on their scale, if there is one; sums and head are of raw features.

    Raises
    ------
    InputError
        If there are no validation examples anywhere.
    """
    judged = _sums(valid, weigh) if len(valid) else _part(sums, "valid")
    if not judged["xx"][-1]:
        raise InputError(
            f"the closed form chooses lambda on validation examples, and neither the server nor "
            f"the clients have any (valid-fraction = {valid_fraction}; set it above 0)"
        )
    head, chosen = ridge.solve(_part(sums, "train"), judged, _factor(scaling))
    LOG.info("Solved with lambda = %.3g of the mean diagonal", chosen)
    return head


def solve_public(public: Examples, valid: Examples, scaling: Scaling | None) -> Arrays:
    """The head of public train examples alone, by the server's validation examples.

    Lambda is that of features on their scale, as for `solve`.

    Raises
    ------
    InputError
        If there are none of the one or the other.
    """
    if not len(valid) or not len(public):
        raise InputError(
            f"init = 'public': {public.table.name} has {len(public)} public train images (those "
            f"of public-fraction) and {len(valid)} of the official validation split; both are "
            f"needed: raise public-fraction, or take another init"
        )
    own, judged = (_sums(part, lambda labels: np.ones(len(labels))) for part in (public, valid))
    head, chosen = ridge.solve(own, judged, _factor(scaling))
    LOG.info("Learned from %d public images, lambda = %.3g", len(public), chosen)
    return head


def _factor(scaling: Scaling | None) -> Floats | None:
    return None if scaling is None else scaling.factor.astype(np.float64)


def _sums(examples: Examples, weigh: Weigh) -> Arrays:
    return ridge.sums_of(examples.features, examples.labels, weigh(examples.labels))


def _part(sums: Arrays, part: str) -> Arrays:
    return {key: sums[f"{part}_{key}"] for key in ("xx", "xy")}
