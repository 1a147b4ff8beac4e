"""A folder of plain pictures, without labels."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.data.partitions import assign
from celeba_fl.data.sources import load


@pytest.fixture
def plain(celeba_folder: Callable[..., Path], tmp_path: Path) -> Path:
    folder = tmp_path / "plain"
    shutil.copytree(celeba_folder() / "img_align_celeba", folder / "more")
    (folder / "more" / "000001.jpg").rename(folder / "first.jpg")
    (folder / ".hidden").mkdir()
    shutil.copy(folder / "first.jpg", folder / ".hidden")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_pictures_however_deep_are_train_images_without_labels(plain: Path, tmp_path: Path) -> None:
    table = load(str(plain), tmp_path / "home", plain=True)
    assert table.image.tolist() == ["first.jpg", *(f"more/{n:06d}.jpg" for n in range(2, 13))]
    assert len(table.rows("train")) == 12
    assert not table.labelled
    assert not table.identified
    assert table.read(0) == (plain / "first.jpg").read_bytes()
    (plain / "more" / "000002.jpg").unlink()
    assert len(load(str(plain), tmp_path / "home", plain=True)) == 11


def test_who_needs_labels_is_told(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"without labels, of use to the task dcgan alone"):
        load(str(plain), tmp_path / "home")
    table = load(str(plain), tmp_path / "home", plain=True)
    with pytest.raises(InputError, match="'dirichlet' deals by labels"):
        assign(table, partitioner="dirichlet", num_partitions=2, seed=1, home=tmp_path)
    with pytest.raises(InputError, match="'natural' deals by identity"):
        assign(table, partitioner="natural", num_partitions=2, seed=1, home=tmp_path)


def test_a_labelled_folder_stays_so(celeba_folder: Callable[..., Path], tmp_path: Path) -> None:
    assert load(str(celeba_folder()), tmp_path / "home", plain=True).labelled
