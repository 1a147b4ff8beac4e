"""The harmonic numbers, 1 + 1/2 + ... + 1/n."""

from collections.abc import Callable

import numpy as np

from celeba_fl.common.arrays import Floats, Ints

# A client may claim any number of examples, and a table takes 8 bytes each.
LARGEST_TABLE = 10**7


def harmonic_numbers(most: int) -> Callable[[Ints], Floats]:
    """The harmonic numbers from 0 to `most`, by index; beyond a table by Euler's expansion."""
    table = np.append(0, np.cumsum(1 / np.arange(1, min(most, LARGEST_TABLE) + 1)))

    def numbers(index: Ints) -> Floats:
        n = np.maximum(index, LARGEST_TABLE).astype(np.float64)
        beyond = np.log(n) + np.euler_gamma + 1 / (2 * n)
        return np.where(index < len(table), table[np.minimum(index, len(table) - 1)], beyond)

    return numbers
