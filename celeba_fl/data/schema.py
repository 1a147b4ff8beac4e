"""CelebA's columns: the 40 binary attributes in official order, their groups, and the splits.

Source: Liu et al., "Deep Learning Face Attributes in the Wild", ICCV 2015, and the header of its
``list_attr_celeba.txt``, whose spellings these are.
"""

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

ATTRIBUTES = (
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
)

# Position = code in `list_eval_partition.txt`. Code 3 is ours, for drawn faces only: images for
# training the `drawn` backbone, which no client and no evaluation ever sees.
SPLITS = ("train", "valid", "test", "pretrain")


def group_name(grouping: Sequence[str], values: Iterable[int]) -> str:
    """Name of one combination of attributes' values, e.g. ``"Male=1,Young=0"``."""
    return ",".join(f"{name}={value:d}" for name, value in zip(grouping, values, strict=True))


def group_names(grouping: Sequence[str]) -> list[str]:
    """Names of all combinations of the attributes' values, from all 0 to all 1."""
    return [group_name(grouping, values) for values in product((0, 1), repeat=len(grouping))]


def membership(
    labels: NDArray[np.bool_], attributes: Sequence[str], grouping: Sequence[str]
) -> NDArray[np.bool_]:
    """Membership of each example in each group, (n, groups), in the order of `group_names`.

    `attributes` are the columns of `labels`, and those of `grouping` make the groups.
    """
    columns = [list(attributes).index(name) for name in grouping]
    codes = labels[:, columns] @ (1 << np.arange(len(columns))[::-1])
    return codes[:, None] == np.arange(1 << len(columns))
