import hashlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import keep
from celeba_fl.data import drawn, folder, sources
from celeba_fl.data.sources import load
from celeba_fl.data.table import Source, repeats


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def test_table_of_a_folder(celeba_folder, home):
    path = celeba_folder()
    table = load(str(path), home)
    assert len(table) == 12
    assert table.name == str(path)
    assert [table.rows(split).tolist() for split in ("train", "valid", "test", "pretrain")] == [
        [*range(8)], [8, 9], [10, 11], [],
    ]  # fmt: skip
    data = (path / "img_align_celeba" / "000003.jpg").read_bytes()
    assert table.read(2) == data
    digest = hashlib.blake2b(data, digest_size=8).digest()
    assert int(table.content[2]) == int.from_bytes(digest, "little")
    for array in (table.image, table.celeb_id, table.labels, table.split, table.content):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable


def test_a_source_is_one_entry_of_the_table(
    celeba_folder: Callable[..., Path], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = folder.source(celeba_folder(), home)
    own = tmp_path / "own"
    own.mkdir()
    (own / "faces.mine").touch()
    with pytest.raises(InputError, match=r"does not hold a data set.*metadata\.csv"):
        load(str(own), home)

    def source(path: Path, home: Path) -> Source | None:
        return faces if (path / "faces.mine").exists() else None

    monkeypatch.setitem(cast(dict[str, object], sources.SOURCES), "of files of my own", source)
    assert len(load(str(own), home)) == 12
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="of files of my own"):
        load(str(tmp_path / "empty"), home)


def test_folder_below_the_users_home(celeba_folder, home, monkeypatch):
    path = celeba_folder()
    monkeypatch.setenv("HOME", str(path.parent))
    assert load(f"~/{path.name}", home).fingerprint == load(str(path), home).fingerprint


def test_a_warm_process_imports_and_parses_nothing(celeba_folder, home):
    path = celeba_folder()
    fingerprint = load(str(path), home).fingerprint
    code = (
        "import sys; from pathlib import Path; from celeba_fl.data import folder, sources\n"
        "folder._labels = None\n"
        f"table = sources.load({str(path)!r}, Path({str(home)!r}))\n"
        f"assert table.fingerprint == {fingerprint!r} and table.read(0)\n"
        "print([m for m in sys.modules if m.partition('.')[0] in "
        "('datasets', 'flwr_datasets', 'pandas', 'pyarrow', 'torch', 'PIL', 'dicebear')])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=Path(sources.__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_fingerprint_tells_every_column(celeba_folder, home):
    fingerprints = {load(str(celeba_folder()), home).fingerprint}
    same = celeba_folder("elsewhere", newline="\n")
    assert load(str(same), home).fingerprint in fingerprints

    others = {"splits": "0" * 9 + "1" + "2" * 2, "images_each": 3, "seed": 1, "suffix": ".png"}
    for key, value in others.items():
        fingerprints.add(load(str(celeba_folder(key, **{key: value})), home).fingerprint)
    assert len(fingerprints) == 5


@pytest.mark.parametrize("file", ["list_attr_celeba.txt", "identity_CelebA.txt"])
def test_a_changed_file_is_read_again(celeba_folder, home, file):
    path = celeba_folder()
    before = load(str(path), home).fingerprint
    text = (path / file).read_bytes()
    changed = text.replace(b"-1", b" 1", 1) if b"-1" in text else text.replace(b" 1\r", b" 9\r", 1)
    (path / file).write_bytes(changed)
    os.utime(path / file, ns=(1, 1))
    assert load(str(path), home).fingerprint != before


def test_a_removed_image_is_noticed(celeba_folder, home):
    path = celeba_folder()
    assert len(load(str(path), home)) == 12
    (path / "img_align_celeba" / "000001.jpg").unlink()
    os.utime(path / "img_align_celeba", ns=(1, 1))
    assert len(load(str(path), home)) == 11


def test_drawn_faces_are_drawn_once(home, monkeypatch):
    drawings = []

    def draw(path):
        drawings.append(path)
        counts = {"train": 1, "valid": 1, "test": 1, "pretrain": 1}
        drawn_for_real(path, identities=counts, processes=1)

    drawn_for_real = drawn.draw
    monkeypatch.setattr(drawn, "draw", draw)
    table = load("drawn", home)
    again = load("drawn", home)
    assert len(drawings) == 1
    assert table.name == again.name == "drawn"
    assert table.fingerprint == again.fingerprint
    assert [len(table.rows(split)) for split in ("train", "valid", "test", "pretrain")] == [20] * 4
    assert (home / "drawn" / "img_align_celeba" / str(table.image[0])).exists()


@pytest.mark.parametrize("dataset", ["/no/such/folder", "celeba", "~/celeba-is-not-here", "a/b/c"])
def test_what_does_not_exist_is_named_with_the_choices(dataset, home):
    with pytest.raises(InputError) as error:
        load(dataset, home)
    message = str(error.value)
    assert message.startswith(f"dataset = {dataset!r}: ")
    for choice in ("'drawn'", "hub id", "folder", "parquet"):
        assert choice in message


@pytest.mark.parametrize("dataset", ["", "{folder}"])
def test_folder_without_data(dataset, home, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(InputError, match="empty does not hold a data set"):
        load(dataset.format(folder=tmp_path / "empty"), home)


def test_nothing_is_kept_of_a_data_set_that_is_refused(celeba_folder, home):
    path = celeba_folder(splits="01239")
    for _ in range(2):
        with pytest.raises(InputError, match="split code 9"):
            load(str(path), home)
    assert [file.suffix for file in (home / "tables").iterdir()] == [".lock"]


def test_same_image_in_two_splits_is_warned_about_once(celeba_folder, home, caplog):
    path = celeba_folder()
    images = path / "img_align_celeba"
    for copy in ("000002.jpg", "000009.jpg", "000011.jpg"):  # train, valid, test
        shutil.copy(images / "000001.jpg", images / copy)
    with caplog.at_level(logging.WARNING, "flwr.celeba_fl"):
        load(str(path), home)
        load(str(path), home)
    (message,) = caplog.messages
    assert message.startswith("1 images are, byte for byte, in more than one split, such as 00000")
    assert "(train) and 000009.jpg (valid)" in message


def test_no_warning_without_reason(celeba_folder, home, caplog):
    with caplog.at_level(logging.WARNING, "flwr.celeba_fl"):
        load(str(celeba_folder()), home)
    assert caplog.messages == []


def test_repeats_by_hand():
    content = np.array([5, 7, 5, 5, 7, 9, 5], np.uint64)
    place = np.array([0, 1, 1, 0, 1, 0, 2])
    # 5 is in places 0 (rows 0, 3), 1 (row 2) and 2 (row 6); 7 only in 1; 9 is once.
    assert repeats(content, place).tolist() == [[3, 2], [2, 6]]
    assert repeats(content[:0], place[:0]).shape == (0, 2)


def append_line(log, path):
    with log.open("a") as file:
        file.write("created\n")
    path.write_text("whole")


def test_concurrent_processes_create_once(tmp_path):
    log, path = tmp_path / "log", tmp_path / "new" / "file"
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:
        jobs = [pool.submit(keep, path, partial(append_line, log)) for _ in range(12)]
        assert {job.result() for job in jobs} == {path}
    assert log.read_text() == "created\n"
    assert path.read_text() == "whole"


def test_what_a_killed_process_left_is_dropped_or_resumed(tmp_path):
    def create(path):
        path.mkdir(exist_ok=True)
        seen.append(sorted(file.name for file in path.iterdir()))

    seen: list[str] = []
    for name, resume in (("dropped", False), ("resumed", True)):
        (tmp_path / f".{name}.unfinished").mkdir()
        (tmp_path / f".{name}.unfinished" / "half").touch()
        keep(tmp_path / name, create, resume=resume)
    assert seen == [[], ["half"]]


def test_real_celeba(shared_data, home):
    table = load(str(shared_data("celeba")), home)
    assert len(table) == 4680
    assert len(np.unique(table.content)) == 4680
    assert table.read(4679) == folder.source(shared_data("celeba"), home).read(
        4679, table.image[4679]
    )
    assert sources.load(str(shared_data("celeba")), home).fingerprint == table.fingerprint


def test_a_pipe_is_neither_waited_for_nor_an_image(celeba_folder, home):
    folder = celeba_folder()
    image = next(iter(sorted((folder / "img_align_celeba").iterdir())))
    image.unlink()
    os.mkfifo(image)
    assert sources.load(str(folder), home).read(0) == b""
    (folder / "list_attr_celeba.txt").unlink()
    os.mkfifo(folder / "list_attr_celeba.txt")
    with pytest.raises(InputError, match=r"list_attr_celeba\.txt: should be a file, and is"):
        sources.load(str(folder), home)
