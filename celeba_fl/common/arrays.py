"""Arrays by name, rows that are read as they are needed, and sums that stay exact."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from celeba_fl.common.errors import InputError

Arrays = dict[str, np.ndarray]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Half of the range of int64, so that two numbers below it can be added.
FULL = 2.0**62


class Rows(Protocol):
    """An array (n, dim) of float32, or anything that can be indexed like one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> np.ndarray: ...


def sum_counts(counts: Iterable[Arrays]) -> Arrays:
    """Add counts of the same shapes: integers exactly, and sums of floats are rounded once.

    So their order changes no bit.
    """
    total: Arrays = {}
    floats: dict[str, list[np.ndarray]] = {}
    for arrays in counts:
        for key, array in arrays.items():
            if array.dtype.kind in "bui":
                total[key] = total.get(key, 0) + array.astype(np.int64)
            else:
                floats.setdefault(key, []).append(array)
    for key, of in floats.items():
        columns = np.stack(of).reshape(len(of), -1).T.tolist()
        total[key] = np.array([math.fsum(one) for one in columns]).reshape(of[0].shape)
    return total


def add_exactly(total: Arrays, more: Mapping[str, np.ndarray]) -> None:
    """Add sums to `total`, in place and exactly; InputError if int64 cannot hold the result.

    Then `total` is as it was.
    """
    for key, array in total.items():
        if sum(max(float(a.max()), -float(a.min())) for a in (array, more[key])) >= FULL:
            raise overflow()
    for key, array in total.items():
        array += more[key]


def overflow() -> InputError:
    """The error for a sum that int64 cannot hold."""
    return InputError(
        "the exact sums do not fit into 64 bits: there are too many examples, too large features, "
        "or too unlike groups in group-weighting"
    )
