import resource
import sys

import numpy as np
import pytest

from celeba_fl.common.memory import keep_freed_memory


def pages(arrays: int, rounds: int) -> int:
    """How many pages the system clears for so many arrays of 200 KB, time and again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        _ = [np.ones(51_200, np.float32) for _ in range(arrays)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux", reason="another library gives memory to arrays")
def test_the_memory_of_arrays_that_are_freed_serves_the_next_ones() -> None:
    keep_freed_memory()
    assert pages(arrays=12, rounds=20) < 3 * 12 * 50
