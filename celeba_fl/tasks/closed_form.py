"""Heads that are computed instead of trained: ridge regression from sums over all clients.

The backbone is frozen and the head is linear, so sums of products of features and labels determine
the best head; see `celeba_fl.models.ridge`. ``train`` and ``valid`` in front of a sum's name tell
the examples that fit the head from those that choose lambda and calibrate scores.
"""

from collections.abc import Collection, Mapping
from itertools import product

import numpy as np

from celeba_fl.common.arrays import Arrays, Floats, Ints
from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES, membership
from celeba_fl.models import ridge
from celeba_fl.models.fair_ridge import Marks, check_cells, with_groups
from celeba_fl.models.scaling import Scaling
from celeba_fl.task import Instructions
from celeba_fl.tasks import start, weighting
from celeba_fl.tasks.examples import Examples
from celeba_fl.tasks.weighting import Weigh

Grouping = tuple[str, ...]


def zero_sums(dim: int, parts: Collection[str], fair: Grouping = ()) -> Arrays:
    """Sums of nothing, for features of `dim` numbers and each of the parts.

    With groups that the head is to be fair to, those of train are `with_groups`.
    """
    sums: Arrays = {}
    for part in parts:
        groups = 2 ** len(fair) if part == "train" else 1
        zeros = ridge.zero_sums(dim, len(ATTRIBUTES) * groups)
        sums |= {f"{part}_{key}": array for key, array in zeros.items()}
    return sums


def sums_of(
    parts: Mapping[str, Examples], names: Collection[str], weigh: Weigh, fair: Grouping = ()
) -> Arrays:
    """Sums over a client's examples, those that are named."""
    sums: Arrays = {}
    for part, examples in parts.items():
        if f"{part}_xx" in names:
            of_part = _sums(examples, weigh, fair if part == "train" else ())
            sums |= {f"{part}_{key}": array for key, array in of_part.items()}
    return sums


def check_sums(
    sums: Arrays,
    sizes: Ints,
    num_valid: int,
    positives: Ints,
    group_weights: Floats,
    fair: Grouping = (),
    at_most: bool = False,
) -> None:
    """Raise InputError unless sums can be those of a client.

    It has so many train examples of each group, whose examples weigh as told, and so many of each
    attribute, or with `at_most` no more; of its validation examples only the number is known.
    """
    weights = ridge.in_weight_steps(group_weights) * ridge.WEIGHT_STEP
    low, high = weights.min(), weights.max()
    total = float(sizes @ weights)
    groups = 2 ** len(fair)
    least = np.append(positives * low, np.zeros((groups - 1) * len(positives)))
    train = part_of(sums, "train")
    share = 0.0 if at_most else 1.0
    limits = (total * share, total), (least * share, np.tile(positives * high, groups))
    ridge.check_sums(train, *limits)
    if fair:
        check_cells(train, marks_of(fair))
    if "valid_xx" in sums:
        most = num_valid * high
        ridge.check_sums(part_of(sums, "valid"), (num_valid * low * share, most), (0.0, most))


def complete(
    config: RunConfig, sums: Arrays, valid: Examples, instructions: Instructions
) -> Arrays:
    """All that a head follows from: the sums, and the scale as ``factor``, if there is one.

    Validation examples are the server's, by their weights; where it has none, they are in the sums.

    Raises
    ------
    InputError
        If there are no validation examples anywhere.
    """
    scaling, weigh = start.told(instructions), weighting.weigh(config, instructions)
    judged = _sums(valid, weigh) if len(valid) else part_of(sums, "valid")
    if not judged["xx"][-1]:
        raise InputError(
            f"the closed form chooses lambda on validation examples, and neither the server nor "
            f"the clients have any (valid-fraction = {config.valid_fraction}; set it above 0)"
        )
    factor = {} if scaling is None else {"factor": scaling.factor.astype(np.float64)}
    of_valid = {f"valid_{key}": array for key, array in judged.items()}
    return {**sums, **of_valid, **factor}


def solve(sums: Arrays) -> Arrays:
    """The head of `complete` sums, its lambda chosen and its scores calibrated on validation.

    Lambda is that of features on their scale, if there is one; sums and head are of raw features.
    """
    parts = part_of(sums, "train"), part_of(sums, "valid")
    head, chosen = ridge.solve(*parts, sums.get("factor"))
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


def _sums(examples: Examples, weigh: Weigh, fair: Grouping = ()) -> Arrays:
    labels = examples.labels
    grouped = with_groups(labels, membership(labels, ATTRIBUTES, fair)) if fair else labels
    return ridge.sums_of(examples.features, grouped, weigh(labels))


def marks_of(fair: Grouping) -> Marks:
    """The attribute that marks each group but the first: of those that are 1 in it, the first."""
    values = list(product((0, 1), repeat=len(fair)))[1:]
    return [ATTRIBUTES.index(fair[one.index(1)]) for one in values]


def part_of(sums: Arrays, part: str) -> Arrays:
    """The sums of a part."""
    return {key: sums[f"{part}_{key}"] for key in ("xx", "xy")}
