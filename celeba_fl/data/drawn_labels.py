"""Labels of the drawn faces: who is on each image, and what it shows.

How often an attribute occurs given `Male` and `Young` is CelebA's (``drawn.json``), and a label
says what the picture shows: a hat hides the hair, so that no hair attribute is labelled under it.
Rates under 1 % or over 99 % are label noise in CelebA (women with beards, 0.3 %) and are taken as
never and always.

The `pretrain` split is balanced instead, each drawn attribute near half of the faces on which it is
possible: a backbone that is trained on it must learn the rare ones too.
"""

import json
from pathlib import Path

import numpy as np

from celeba_fl.data.schema import ATTRIBUTES, SPLITS

IMAGES_EACH = 20

# Labels without a drawing: all that can be predicted of them is what follows from Male and Young.
SAMPLED = (
    "Attractive", "Big_Lips", "Big_Nose", "Chubby", "Double_Chin",
    "High_Cheekbones", "Oval_Face", "Pointy_Nose", "Receding_Hairline",
)  # fmt: skip


def _columns(*names: str) -> list[int]:
    return [ATTRIBUTES.index(name) for name in names]


MALE, YOUNG, BLURRY = _columns("Male", "Young", "Blurry")
HAT, BALD, NO_BEARD = _columns("Wearing_Hat", "Bald", "No_Beard")
HAIR = _columns("Bald", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")  # at most one
TEXTURE = _columns("Straight_Hair", "Wavy_Hair")  # at most one
CUT = _columns("Straight_Hair", "Wavy_Hair", "Bangs")
BEARDS = _columns("5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns")
# The same in every image of an identity; the rest changes from image to image.
FIXED = HAIR + CUT + _columns(
    "Arched_Eyebrows", "Bushy_Eyebrows", "Pale_Skin", "Big_Lips", "Big_Nose", "Chubby",
    "Double_Chin", "High_Cheekbones", "Oval_Face", "Pointy_Nose", "Receding_Hairline",
)  # fmt: skip


def sample(split: str, identities: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose who is on the images of a split, and how each image looks.

    The draws are a Latin hypercube within each group of Male and Young, so that rates come close to
    CelebA's even with few identities. The same seed gives the same split, whatever the others are.

    Returns the identity of each image, (n,) int64 from 0, shuffled; and the labels, (n, 40) bool.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    joint, chances = _chances(balanced=split == "pretrain")
    ranks = (rng.permutation(identities) + 0.5) / max(identities, 1)
    group = np.searchsorted(np.cumsum(joint)[:-1], ranks)
    who = rng.permutation(np.repeat(np.arange(identities), IMAGES_EACH))
    draws = _spread(rng, group[who])
    draws[:, FIXED] = _spread(rng, group)[who][:, FIXED]
    p = chances[group[who]]

    labels = draws < p
    labels[:, MALE], labels[:, YOUNG] = np.divmod(group[who], 2)
    for exclusive in (HAIR, TEXTURE):
        bounds = np.cumsum(p[:, exclusive], axis=1)
        choice = (draws[:, exclusive[:1]] >= bounds).sum(axis=1)
        labels[:, exclusive] = choice[:, None] == np.arange(len(exclusive))
    labels[:, CUT] &= ~labels[:, [BALD]]
    labels[:, HAIR + CUT] &= ~labels[:, [HAT]]
    labels[:, BEARDS] &= ~labels[:, [NO_BEARD]]
    return who, labels


def _chances(balanced: bool) -> tuple[np.ndarray, np.ndarray]:
    """Shares (4,) of the groups (2 Male + Young), and each attribute's chance (4, 40) in a group.

    A chance is conditional on the attribute being possible at all: hair without a hat, a haircut
    with hair, a kind of beard with a beard.
    """
    table = json.loads(Path(__file__).with_name("drawn.json").read_text())
    joint = np.array(table["joint"])
    p = np.array([table["rates"].get(name, [0.0] * 4) for name in ATTRIBUTES]).T
    p[p < 0.01], p[p > 0.99] = 0, 1
    if balanced:
        sharp = np.delete(np.arange(len(ATTRIBUTES)), BLURRY)  # blur would hide the others
        p[:, sharp] = np.where((p > 0) & (p < 1), 0.5, p)[:, sharp]
        p[:, HAIR] /= 3  # five of them or another colour: 1/6 each
        p[:, TEXTURE] /= 1.5  # straight, wavy or neither: 1/3 each
        return np.full(4, 0.25), p
    bare = 1 - p[:, [HAT]]
    p[:, CUT] /= bare - p[:, [BALD]]
    p[:, HAIR] /= bare
    p[:, BEARDS] /= np.maximum(1 - p[:, [NO_BEARD]], 1e-9)  # 0 / 0 for women
    return joint, p


def _spread(rng: np.random.Generator, group: np.ndarray) -> np.ndarray:
    """Uniform numbers (n, 40), in each group and column one from each of its equal slices of 0..1.

    Source: McKay et al., "A Comparison of Three Methods for Selecting Values of Input Variables",
    Technometrics 1979 (Latin hypercube sampling).
    """
    draws = np.empty((len(group), len(ATTRIBUTES)))
    for value in np.unique(group):
        rows = np.flatnonzero(group == value)
        slices = np.tile(np.arange(len(rows))[:, None], len(ATTRIBUTES))
        draws[rows] = (rng.permuted(slices, axis=0) + rng.random(slices.shape)) / len(rows)
    return draws
