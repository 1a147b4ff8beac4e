import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from celeba_fl.data import drawn
from celeba_fl.data.drawn_labels import IMAGES_EACH
from celeba_fl.data.drawn_pictures import Face
from celeba_fl.data.schema import ATTRIBUTES, SPLITS

SMALL = {"train": 2, "valid": 1, "test": 1, "pretrain": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw a small data set in one process."""
    path = tmp_path_factory.mktemp("drawn") / "deep" / "faces"
    drawn.draw(path, seed=7, identities=SMALL, processes=1)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_official_layout(folder: Path) -> None:
    names = [f"{number:06d}.jpg" for number in range(1, 101)]
    assert sorted(path.name for path in folder.iterdir()) == [
        "identity_CelebA.txt",
        "img_align_celeba",
        "list_attr_celeba.txt",
        "list_eval_partition.txt",
    ]
    assert sorted(path.name for path in (folder / "img_align_celeba").iterdir()) == names

    count, header, *rows, end = (folder / "list_attr_celeba.txt").read_bytes().split(b"\r\n")
    assert (count, end) == (b"100", b"")
    assert header.decode().split(" ") == list(ATTRIBUTES)
    assert [row[:10].decode() for row in rows] == names
    # As in the official file, values are two wide: "000001.jpg -1  1 ...".
    assert all(
        len(row) == 10 + 40 * 3 and set(row.decode().split()[1:]) == {"-1", "1"} for row in rows
    )

    splits = (folder / "list_eval_partition.txt").read_bytes().decode().split("\r\n")
    codes = [0] * 40 + [1] * 20 + [2] * 20 + [3] * 20
    assert splits == [f"{name} {code}" for name, code in zip(names, codes, strict=True)] + [""]


def test_images_are_like_celebas(folder: Path) -> None:
    for path in (folder / "img_align_celeba").iterdir():
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (178, 218))


def test_written_labels_are_the_planned(folder: Path) -> None:
    rows = (folder / "list_attr_celeba.txt").read_text().splitlines()[2:]
    written = np.array([row.split()[1:] for row in rows]) == "1"
    planned = np.array([face.labels for face in drawn.plan(7, SMALL)])
    np.testing.assert_array_equal(written, planned)


def test_identities_are_in_one_split_each(folder: Path) -> None:
    people = np.loadtxt(folder / "identity_CelebA.txt", dtype=int, usecols=1)
    codes = np.loadtxt(folder / "list_eval_partition.txt", dtype=int, usecols=1)
    pairs = set(zip(people.tolist(), codes.tolist(), strict=True))
    assert pairs == {(1, 0), (2, 0), (3, 1), (4, 2), (5, 3)}
    assert np.bincount(people)[1:].tolist() == [IMAGES_EACH] * 5


def test_default_is_large_enough() -> None:
    images = {split: IMAGES_EACH * n for split, n in drawn.IDENTITIES.items()}
    assert images == {"train": 4000, "valid": 500, "test": 1000, "pretrain": 2000}


def test_bytes_depend_on_the_seed_only(folder: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    # From a thread, as Flower's apps do.
    thread = threading.Thread(target=drawn.draw, args=(again, 7, SMALL, 2))
    thread.start()
    drawn.draw(other, seed=8, identities={"valid": 1})
    thread.join()
    assert contents(again) == contents(folder)
    assert contents(other).keys() < contents(folder).keys()
    assert not contents(other).items() & contents(folder).items()


def test_split_depends_on_no_other_split() -> None:
    alone = [f.labels for f in drawn.plan(7, {"test": 1})]
    among = [f.labels for f in drawn.plan(7, SMALL) if SPLITS[f.code] == "test"]
    np.testing.assert_array_equal(alone, among)


def test_two_at_once(tmp_path: Path) -> None:
    path = tmp_path / "faces"
    threads = [threading.Thread(target=drawn.draw, args=(path, 7, {"test": 1})) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(tmp_path.iterdir()) == [path]
    assert len(contents(path)) == 20 + 3


def test_existing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match=str(tmp_path)):
        drawn.draw(tmp_path)


def test_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(face: Face, seed: int) -> bytes:
        raise OSError("No space left on device")

    monkeypatch.setattr(drawn, "render", full)
    with pytest.raises(OSError, match="No space left"):
        drawn.draw(tmp_path / "faces", identities={"test": 1})
    assert not list(tmp_path.iterdir())


def test_killed_draw_leaves_no_folder_and_no_process(tmp_path: Path) -> None:
    root = Path(drawn.__file__).parents[2]
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r}); from pathlib import Path; "
        f"from celeba_fl.data.drawn import draw; draw(Path('faces'), processes=2)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        deadline = time.monotonic() + 240
        while not list(tmp_path.glob(".faces.*/img_align_celeba/*.jpg")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=240)  # returns once no worker holds the pipe any more
    assert not (tmp_path / "faces").exists()
