"""Noise that clients add under their masks: always enough of it, whoever drops out."""

import math
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
from adding import Adding, info, settings
from watched import Lose, Watched, watch

from celeba_fl.common.arrays import Arrays
from celeba_fl.privacy.noise import NOISE_PARTS, noisy
from celeba_fl.task import Instructions, NodeConfig

SIGMA, NUMBER = 2.0**40, 4000


class Noisy(Adding):
    """Sums are noise alone."""

    totals: list[np.ndarray] = []  # noqa: RUF012
    parts: list[object] = []  # noqa: RUF012

    def zero_sums(self) -> Arrays:
        return {"s": np.zeros(NUMBER, np.int64)}

    def instruct_from_sums(self, sums: Arrays) -> Instructions:
        return {NOISE_PARTS: 1000}  # a server that would like to see more

    def summarise(self, node: NodeConfig, instructions: Instructions) -> tuple[Arrays, int]:
        parts = instructions[NOISE_PARTS]
        self.parts.append(parts)
        scales = {"s": np.full(NUMBER, SIGMA)}
        return noisy(self.zero_sums(), scales, parts, os.urandom), 1

    def solve(self, sums: Arrays, instructions: Instructions) -> Arrays:
        self.totals.append(sums["s"])
        return self.initial_arrays()


def missing(clients: Collection[int]) -> Lose:
    return lambda client, step, serial: step == "mask" and serial > 1 and client in clients


def noisy_run(
    folder: Path, nodes: int | list[dict[str, object]], gone: Collection[int] = ()
) -> tuple[Watched, Path]:
    Noisy.totals.clear()
    Noisy.parts.clear()
    keys = settings(
        folder, task=f"{__name__}:Noisy", strategy="closed-form", min_replies=0.0, round_retries=0
    )
    return watch(keys, nodes, missing(gone))


@pytest.mark.parametrize("gone", [(), (1,), (1, 4)])
def test_those_who_stay_add_all_the_noise(tmp_path: Path, gone: tuple[int, ...]) -> None:
    _, path = noisy_run(tmp_path, 5, gone)
    assert info(path)["status"] == "completed"
    assert Noisy.parts == [3] * (5 - len(gone))  # half of five, rounded up
    (total,) = Noisy.totals
    expected = (5 - len(gone)) / 3
    assert expected >= 1
    variance = np.square(total / SIGMA).mean()
    assert abs(variance / expected - 1) < 6 * math.sqrt(2 / NUMBER)


def test_with_fewer_parts_than_it_takes_there_is_no_total(tmp_path: Path) -> None:
    grid, path = noisy_run(tmp_path, 5, (0, 1, 4))
    assert info(path)["status"] == "failed"
    assert Noisy.parts
    assert not Noisy.totals
    # Not even the server could put one together: nobody gave a share that takes masks off.
    assert [step for _, step, _ in grid.seen].count("unmask") == 5  # of the roll call


def test_a_site_that_wants_more_in_a_total_adds_no_less(tmp_path: Path) -> None:
    nodes: list[dict[str, object]] = [{"partition-id": i, "num-partitions": 5} for i in range(5)]
    nodes[2]["min-cohort"] = 4
    noisy_run(tmp_path / "four", nodes, (1,))
    assert sorted(map(str, Noisy.parts)) == ["3", "3", "3", "3"]
    assert len(Noisy.totals) == 1
    _, path = noisy_run(tmp_path / "three", nodes, (1, 3))
    assert info(path)["status"] == "failed"
    assert not Noisy.totals
