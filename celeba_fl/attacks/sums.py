"""Sums for the closed form that are false, and that no check of a single client can refuse."""

import numpy as np

from celeba_fl.common.arrays import Arrays, Floats

STRENGTH = 30.0
# Of the room that honest sums have; the rest is for rounding.
ROOM = 0.999


def falsify(sums: Arrays, strength: float) -> Arrays:
    """X'Y of the train images, times minus `strength`, as far as examples could have such sums.

    Numbers of examples and of positives stay as they were told in the roll call. By Cauchy and
    Schwarz no product is larger than the lengths of its columns allow, neither with Y nor with
    1 - Y; `celeba_fl.models.ridge` checks that. The layout is its own: of X'X the upper triangle,
    and the last column of X is 1.
    """
    packed, xy = sums["train_xx"].astype(np.float64), sums["train_xy"].astype(np.float64)
    starts = np.concatenate([[0], np.cumsum(np.arange(len(xy), 1, -1))])
    square = packed[starts][:, None]
    column = packed[np.append(starts[1:], len(packed)) - 1][:, None]
    total, true = square[-1], xy[-1]
    high = ROOM * np.sqrt(square * true)
    rest: Floats = ROOM * np.sqrt(square * np.maximum(total - true, 0))
    low, high = np.maximum(-high, column - rest), np.minimum(high, column + rest)
    wanted = np.clip(-strength * xy, np.minimum(low, xy), np.maximum(high, xy))
    wanted[-1] = xy[-1]
    return {**sums, "train_xy": np.rint(wanted).astype(sums["train_xy"].dtype)}
