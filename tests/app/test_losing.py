"""Runs that lose the power or are killed at any moment, and go on to the same model."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adding import run
from disk import Disk
from killed import NODES, submit
from kinds import KINDS, keys_of_kinds, left

from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.rounds.checkpoints import Checkpoints
from celeba_fl.runs.reading import read_runs
from celeba_fl.server_app import app as server_app

# With 4 kills of each kind and cuts after every round, all were equal on 2026-11-25.
KILLS, CUTS = 2, (0, 3, 6)


@pytest.fixture(scope="module")
def kinds(
    toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    return keys_of_kinds(toy, tmp_path_factory.mktemp("kinds"))


@pytest.fixture
def cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """A folder ``disk``, and of each checkpoint what a cut of the power after it leaves there."""
    (tmp_path / "disk").mkdir()
    disk, save = Disk(monkeypatch, tmp_path / "disk"), Checkpoints.save
    images: list[Path] = []

    def cut(self: Checkpoints, *args: Any) -> None:
        save(self, *args)
        images.append(disk.after_a_cut(tmp_path / f"cut-{len(images)}"))

    monkeypatch.setattr(Checkpoints, "save", cut)
    yield images
    disk.close()


def test_a_run_whose_power_is_cut_resumes(
    tmp_path: Path, cuts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"num_server_rounds": 6, "strategy": "fedadam"}
    expected = left(run(tmp_path / "disk", **keys))
    monkeypatch.undo()
    for number, image in enumerate(cuts):
        restored(image, tmp_path / "disk")
        (said,) = read_runs(tmp_path / "disk")
        assert said.rounds == max(number - 1, 0)  # the newest is not recorded yet
        path = run(tmp_path / "disk", resume="latest", **keys)
        assert left(path) == expected, f"cut after round {number}"
    assert len(cuts) == 7


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_each_kind_whose_power_is_cut_resumes(
    tmp_path: Path,
    cuts: list[Path],
    kinds: dict[str, dict[str, Any]],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "disk"
    keys = {**kinds[kind], "home": str(folder / "home"), "results-dir": str(folder / "runs")}
    run_inline(RunConfig.load(keys), NODES, server_app, client_app)
    (whole,) = read_runs(folder / "runs")
    expected = left(whole.path)
    monkeypatch.undo()
    for number in CUTS:
        restored(cuts[number], folder)
        run_inline(RunConfig.load({**keys, "resume": "latest"}), NODES, server_app, client_app)
        assert left(whole.path) == expected, f"cut after round {number}"
    assert len(cuts) == 7


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_each_kind_that_is_killed_at_any_moment_resumes(
    tmp_path: Path, kinds: dict[str, dict[str, Any]], kind: str
) -> None:
    chance = random.Random(kind)
    submit({**kinds[kind], "results-dir": str(tmp_path / "cold")})
    seconds = submit({**kinds[kind], "results-dir": str(tmp_path / "warm")})
    expected = left(read_runs(tmp_path / "warm")[0].path)
    for number in range(KILLS):
        folder = tmp_path / str(number)
        keys = {**kinds[kind], "results-dir": str(folder)}
        after = chance.uniform(0.1, 0.9) * seconds
        submit(keys, kill_after=after)
        runs = read_runs(folder)
        if not runs or runs[0].status != "completed":  # else it ended just before
            submit({**keys, "resume": "latest" if runs else ""})
        (done,) = read_runs(folder)
        assert left(done.path) == expected, f"killed after {after:.2f} s of {seconds:.2f} s"
        assert done.status == "completed"


def restored(image: Path, disk: Path) -> None:
    """Put the disk back as the cut left it."""
    shutil.rmtree(disk)
    image.rename(disk)
