"""Labels of an attacker that flips them, and the sites that take no part in that."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig

FLIP = "flip-labels"  # an instruction to attackers alone


def flipped(
    labels: np.ndarray, config: RunConfig, instructions: Mapping[str, Any], classes: int = 2
) -> np.ndarray:
    """The last label for the first and so on, on an attacker; on anyone else the labels.

    Where the run config says nothing of it, nobody obeys: sites that refuse attacks have read that.
    """
    if config.attack != "label-flip" or not instructions.get(FLIP):
        return labels
    return ~labels if labels.dtype == bool else (classes - 1 - labels).astype(labels.dtype)


def check_site(config: RunConfig, node: Mapping[str, Any]) -> None:
    """Raise InputError if a node that has images of its own is to take part in an attack."""
    if config.attack != "none" and "data-path" in node:
        raise InputError(
            f"attack = {config.attack!r}: is for simulations alone, and this site has data of its "
            f"own; set it to none",
            open_to_all=True,
        )
