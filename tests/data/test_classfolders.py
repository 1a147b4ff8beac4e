"""Folders of images, one for each class."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from celeba_fl.common.errors import InputError
from celeba_fl.data.cifar10 import load


def make(folder: Path, *names: str) -> str:
    """A folder with images of one colour each, by number; a name that ends in / is a folder."""
    for number, name in enumerate(names):
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        Image.new("L", (9, 9), 10 * number).save(file, "PNG")
        path.write_bytes(file.getvalue())
    return str(folder)


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    names = ["dog/b.PNG", "cat/deep/1.jpg", "dog/a.jpeg", "dog/Thumbs.db", "dog/._a.jpg", "eel/"]
    found = load(make(tmp_path / "pets", *names, ".git/x.png", "notes.txt"), tmp_path / "home")
    assert found.classes.tolist() == ["cat", "dog", "eel"]
    assert found.image.tolist() == ["cat/deep/1.jpg", "dog/a.jpeg", "dog/b.PNG"]
    assert found.labels.tolist() == [0, 1, 1]
    assert found.pixels[:, 0, 0, 0].tolist() == [10, 20, 0]
    assert found.split.tolist() == [0, 0, 0]


def test_folders_of_splits(tmp_path: Path) -> None:
    names = ["Train/cat/1.png", "val/dog/2.png", "test/cat/1.png", "train_notes.txt"]
    found = load(make(tmp_path / "pets", *names), tmp_path / "home")
    assert found.classes.tolist() == ["cat", "dog"]
    splits = dict(zip(found.image.tolist(), found.split.tolist(), strict=True))
    assert splits == {"Train/cat/1.png": 0, "val/dog/2.png": 0, "test/cat/1.png": 2}


def test_new_images_are_seen(tmp_path: Path) -> None:
    folder = make(tmp_path / "pets", "train/cat/1.png", "train/dog/1.png")
    assert len(load(folder, tmp_path / "home")) == 2
    make(tmp_path / "pets", "train/dog/2.png")
    assert len(load(folder, tmp_path / "home")) == 3


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["train/cat/1.png", "cat/2.png"], "cat lies beside folders called as splits are"),
        (["val/cat/1.png", "valid/dog/2.png"], "two of its folders are for the same split"),
        (["cat/1.png", "dog/2.png", "3.png"], r"3\.png: an image should lie in the folder of"),
        (["train/cat/1.png", "train/dog/2.png", "train/3.png"], r"3\.png: an image should lie in"),
        (["cat/1.png"], "names 1 classes"),
        (["cat/1.png", "dog\n/1.png"], r"'dog\\n/1\.png' has control characters in it"),
        (["cat/1.png", "dog\n/"], r"the class 'dog\\n' should have a name of 1 to 200 printable"),
        (["cat/", "dog/"], "holds no image that can be read"),
    ],
)
def test_what_is_no_such_folder(tmp_path: Path, names: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load(make(tmp_path / "pets", *names), tmp_path / "home")


def test_links_that_lead_outside_are_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "pets", "cat/1.png", "dog/2.png")
    (tmp_path / "secret.png").write_bytes(b"")
    (tmp_path / "pets" / "cat" / "3.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(InputError, match=r"'cat/3\.png' lies outside of"):
        load(folder, tmp_path / "home")


def test_what_is_no_file_is_no_image(tmp_path: Path) -> None:
    folder = make(tmp_path / "pets", "cat/1.png", "dog/2.png")
    os.mkfifo(tmp_path / "pets" / "dog" / "3.png")
    found = load(folder, tmp_path / "home")
    assert found.unreadable.tolist() == ["dog/3.png"]
