"""Tests of `celeba_fl.data.drawn`."""

import io
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
from PIL import Image

from celeba_fl.data import drawn
from celeba_fl.data.schema import ATTRIBUTES, SPLITS

SHARED = Path("/work/shared/data/celeba_labels.parquet")
SMALL = {"train": 2, "valid": 1, "test": 1, "pretrain": 1}
TABLE = json.loads(Path(drawn.__file__).with_suffix(".json").read_text())
COLUMN = {name: position for position, name in enumerate(ATTRIBUTES)}
WOMAN = {"No_Beard", "Young"}
MAN = WOMAN | {"Male"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw a small data set in one process."""
    path = tmp_path_factory.mktemp("drawn") / "deep" / "faces"
    drawn.draw(path, seed=7, identities=SMALL, processes=1)
    return path


@pytest.fixture(scope="module", params=SPLITS)
def many(request: pytest.FixtureRequest) -> tuple[str, np.ndarray, np.ndarray]:
    """Sample so many persons of a split that its rates are steady."""
    return request.param, *drawn.sample(request.param, 2000, seed=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def column(labels: np.ndarray, name: str) -> np.ndarray:
    return labels[:, COLUMN[name]]


def render(names: set[str]) -> bytes:
    labels = np.array([name in names for name in ATTRIBUTES])
    return drawn.render(drawn.Face("000001.jpg", 0, 1, labels), seed=3)


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
    assert np.bincount(people)[1:].tolist() == [drawn.IMAGES_EACH] * 5


def test_default_is_large_enough() -> None:
    images = {split: drawn.IMAGES_EACH * n for split, n in drawn.IDENTITIES.items()}
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
    def full(face: drawn.Face, seed: int) -> bytes:
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
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".faces.*/img_align_celeba/*.jpg")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)  # returns once no worker holds the pipe any more
    assert not (tmp_path / "faces").exists()


def test_table_is_celebas() -> None:
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not here")
    frame = pd.read_parquet(SHARED)
    groups = frame.groupby(["Male", "Young"])
    assert TABLE["joint"] == (groups.size() / len(frame)).round(4).tolist()
    others = [name for name in ATTRIBUTES if name not in ("Male", "Young")]
    assert list(TABLE["rates"]) == others
    for name in others:
        assert TABLE["rates"][name] == groups[name].mean().round(3).tolist(), name


def test_rates_are_the_tables(many: tuple[str, np.ndarray, np.ndarray]) -> None:
    split, _, labels = many
    if split == "pretrain":
        pytest.skip("balanced instead")
    group = 2 * column(labels, "Male") + column(labels, "Young")
    np.testing.assert_allclose(np.bincount(group) / len(group), TABLE["joint"], atol=1e-3)
    for name, rates in TABLE["rates"].items():
        for value, rate in enumerate(rates):
            # 0.01: rates below are taken as 0, those over 0.99 as 1.
            assert column(labels, name)[group == value].mean() == pytest.approx(rate, abs=0.0125)


def test_pretrain_is_balanced() -> None:
    _, labels = drawn.sample("pretrain", 2000, seed=1)
    bare = ~column(labels, "Wearing_Hat")
    haired = bare & ~column(labels, "Bald")
    bearded = ~column(labels, "No_Beard")
    men = column(labels, "Male")
    for name in ("Male", "Young", "Wearing_Hat", "Eyeglasses", "Smiling", "Pale_Skin"):
        assert column(labels, name).mean() == pytest.approx(0.5, abs=0.01)
    assert bearded[men].mean() == pytest.approx(0.5, abs=0.01)
    assert column(labels, "Bald")[men & bare].mean() == pytest.approx(1 / 6, abs=0.01)
    assert column(labels, "Wavy_Hair")[haired].mean() == pytest.approx(1 / 3, abs=0.02)
    assert column(labels, "Goatee")[bearded].mean() == pytest.approx(0.5, abs=0.01)


def test_labels_fit_together(many: tuple[str, np.ndarray, np.ndarray]) -> None:
    _, _, labels = many
    hair = labels[:, [COLUMN[f"{colour}_Hair"] for colour in ("Black", "Blond", "Brown", "Gray")]]
    cut = labels[:, [COLUMN[name] for name in ("Straight_Hair", "Wavy_Hair", "Bangs")]]
    beards = labels[:, drawn.BEARDS].any(axis=1)
    bald, hat = column(labels, "Bald"), column(labels, "Wearing_Hat")
    assert hair.sum(axis=1).max() == 1
    assert not (hair.any(axis=1) & (bald | hat)).any()
    assert not (cut.any(axis=1) & (bald | hat)).any()
    assert not (cut[:, 0] & cut[:, 1]).any()
    assert not (bald & hat).any()
    assert not (beards & column(labels, "No_Beard")).any()
    assert column(labels, "No_Beard")[~column(labels, "Male")].all()
    assert (beards & column(labels, "Male")).any()


def test_people_keep_their_traits(many: tuple[str, np.ndarray, np.ndarray]) -> None:
    _, people, labels = many
    hat = column(labels, "Wearing_Hat")
    assert np.bincount(people).tolist() == [drawn.IMAGES_EACH] * 2000
    hidden = [position for position in drawn.FIXED if position in drawn.HAIR + drawn.CUT]
    shown = [position for position in drawn.FIXED if position not in hidden]
    kept = [COLUMN["Male"], COLUMN["Young"], *shown]
    assert not pd.DataFrame(labels[:, kept]).groupby(people).nunique().gt(1).any(axis=None)
    bare = pd.DataFrame(labels[~hat][:, hidden]).groupby(people[~hat]).nunique()
    assert not bare.gt(1).any(axis=None)


def test_no_faces_of_a_split() -> None:
    people, labels = drawn.sample("train", 0, seed=1)
    assert people.shape == (0,)
    assert labels.shape == (0, 40)


@pytest.mark.parametrize("name", [a for a in ATTRIBUTES if a not in drawn.SAMPLED])
def test_drawn_attribute_is_visible(name: str) -> None:
    base = MAN - {"No_Beard"} if COLUMN[name] in drawn.BEARDS else MAN
    without, with_ = (
        np.asarray(Image.open(io.BytesIO(render(names))).resize((96, 96)), dtype=int)
        for names in (base - {name}, base | {name})
    )
    # At the size that models see, the smallest thing drawn still covers some pixels.
    assert (np.abs(with_ - without).max(axis=2) > 16).sum() >= 25, name


@pytest.mark.parametrize("name", drawn.SAMPLED)
def test_sampled_attribute_is_not_drawn(name: str) -> None:
    assert render(WOMAN | {name}) == render(WOMAN)


def test_person_is_recognisable_across_images() -> None:
    """Skin and hair, unlike the background, are those of the person."""
    labels = np.array([name in WOMAN for name in ATTRIBUTES])
    pixels = [
        np.asarray(Image.open(io.BytesIO(drawn.render(drawn.Face(name, 0, 1, labels), 3))))
        for name in ("000001.jpg", "000002.jpg", "000003.jpg")
    ]
    nose_bridge = np.array([image[85:95, 85:93].mean(axis=(0, 1)) for image in pixels])
    assert np.ptp(nose_bridge, axis=0).max() < 5
