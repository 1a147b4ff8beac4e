"""Faces as files, by a generator; see `tests/tasks/test_dcgan.py` for those of a whole run."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.inference import sample
from celeba_fl.inference.sample import load_generator, write_faces
from celeba_fl.models.dcgan import initial_arrays
from celeba_fl.runs.reading import read_run


@pytest.fixture(scope="module")
def generator() -> Arrays:
    return initial_arrays(2, seed=1)


def test_each_face_is_a_file_and_the_first_ones_are_in_the_grid(
    generator: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "IN_GRID", 4)
    *faces, grid = write_faces(generator, 6, 0, tmp_path / "faces")
    assert [path.name for path in faces] == [f"face-{number:04d}.png" for number in range(1, 7)]
    pictures = [np.asarray(Image.open(path)) for path in faces]
    assert {picture.shape for picture in pictures} == {(64, 64, 3)}
    tiles = np.asarray(Image.open(grid))
    assert tiles.shape == (128, 128, 3)
    for number, corner in enumerate([(0, 0), (0, 64), (64, 0), (64, 64)]):
        y, x = corner
        np.testing.assert_array_equal(tiles[y : y + 64, x : x + 64], pictures[number])


def test_faces_that_are_there_are_not_written_over(generator: Arrays, tmp_path: Path) -> None:
    files = write_faces(generator, 1, 0, tmp_path)
    before = [file.read_bytes() for file in files]
    with pytest.raises(InputError, match=tmp_path.name):
        write_faces(generator, 1, 1, tmp_path)
    assert [file.read_bytes() for file in files] == before


def test_a_folder_that_cannot_be_written_to_is_named(generator: Arrays, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="file/faces"):
        write_faces(generator, 1, 0, tmp_path / "file" / "faces")


def test_the_model_of_another_task_generates_nothing(toy_run: Path) -> None:
    with pytest.raises(InputError, match=f"{toy_run.name}.*dcgan"):
        load_generator(read_run(toy_run))
