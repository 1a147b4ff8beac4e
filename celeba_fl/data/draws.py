"""Choices by chance that follow from an image or a person alone, whoever holds it."""

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.data.table import LabelledImages, Table

# Apart from the keys of `valid_mask`, which are seeds.
PUBLIC = 2**63


def valid_mask(
    table: LabelledImages, rows: np.ndarray, fraction: float, seed: int, by: str = "image"
) -> np.ndarray:
    """Choose the validation part of `rows`; (k,) bool.

    Each image has a chance of `fraction`, or `by` ``identity`` each person: then all of a person's
    images are on one side, whichever clients hold them.

    Raises
    ------
    InputError
        If people are to be chosen and nobody knows who is who.
    """
    if by == "image":
        return uniform(table.content[rows], seed) < fraction
    if not isinstance(table, Table) or not table.identified:
        raise InputError(
            f"valid-by = {by!r}: keeps whole people for validation, and these images do not say "
            f"who is who; set valid-by = 'image', or add their identities",
            open_to_all=True,
        )
    return uniform(table.celeb_id[rows].astype(np.uint64), seed) < fraction


def public_rows(table: LabelledImages, fraction: float, seed: int) -> np.ndarray:
    """Rows of the train images that are public, ascending: no partition holds them.

    Each is public with a chance of `fraction`, independent of the choice of `valid_mask`.
    """
    rows = table.rows("train")
    return rows[uniform(table.content[rows], seed + PUBLIC) < fraction]


def uniform(content: np.ndarray, key: int) -> np.ndarray:
    """A number from [0, 1) for each image, (n,) float64, that follows from `key` and 64 bits of it.

    So a choice does not depend on who holds an image, and copies of one are on the same side.
    """
    start = _mix(np.array([key % 2**64], np.uint64))
    return (_mix(content ^ start) >> np.uint64(11)) * 2.0**-53


def _mix(bits: np.ndarray) -> np.ndarray:
    """Spread 64 bits evenly: one step of SplitMix64, (n,) uint64 -> (n,) uint64.

    Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014,
    with the constants of https://prng.di.unimi.it/splitmix64.c.
    """
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
