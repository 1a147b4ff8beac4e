import hashlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from toys import png, write_cifar10

from celeba_fl.common.errors import InputError
from celeba_fl.data import cifar10, hub, partitions
from celeba_fl.data.cifar10 import CLASSES, load


def image(colour):
    return png(np.full((32, 32, 3), colour, np.uint8))


@pytest.fixture
def write(tmp_path):
    """Write one file of rows (encoded image, label)."""

    def to(rows, name="train-00000-of-00001.parquet", **changed):
        columns = {
            "img": [{"bytes": data, "path": "0001.png"} for data, _ in rows],
            "label": [label for _, label in rows],
        } | changed
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        present = {key: column for key, column in columns.items() if column is not None}
        parquet.write_table(pa.table(present), path)
        return str(tmp_path / "data")

    return to


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def test_values_by_hand(write, home):
    write([(image((1, 2, 3)), 9), (image((4, 5, 6)), 0)])
    folder = write([(image((7, 8, 9)), 3)], "plain_text/test-00000-of-00001.parquet")
    found = load(folder, home)
    # Of files in the order of their paths.
    assert found.image.tolist() == ["test-000000", "train-000000", "train-000001"]
    assert found.labels.tolist() == [3, 9, 0]
    assert found.split.tolist() == [2, 0, 0]
    assert (found.rows("train").tolist(), found.rows("test").tolist()) == ([1, 2], [0])
    assert found.pixels.shape == (3, 3, 32, 32)
    assert found.pixels[:, :, 5, 7].tolist() == [[7, 8, 9], [1, 2, 3], [4, 5, 6]]
    digest = hashlib.blake2b(image((7, 8, 9)), digest_size=8).digest()
    assert found.content[0] == int.from_bytes(digest, "little")
    assert [a.dtype for a in (found.labels, found.pixels)] == [np.int64, np.uint8]
    assert found.unreadable.tolist() == []
    assert found.name == folder


def test_images_are_decoded_once(tmp_path, home, monkeypatch):
    folder = str(write_cifar10(tmp_path / "data"))
    first = load(folder, home)

    def parse(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(cifar10, "_parse", parse)
    again = load(folder, home)
    assert isinstance(again.pixels, np.memmap)
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(again.pixels, first.pixels)


def test_a_hub_id_is_downloaded_once(home, monkeypatch):
    asked = []

    def download(dataset, folder):
        asked.append(dataset)
        write_cifar10(folder / "plain_text")

    monkeypatch.setattr(hub, "download", download)
    first, again = (load("uoft-cs/cifar10", home) for _ in range(2))
    assert asked == ["uoft-cs/cifar10"]
    assert (first.name, len(first)) == ("uoft-cs/cifar10", 60)
    assert again.fingerprint == first.fingerprint
    assert (home / "hub" / "uoft-cs--cifar10" / "plain_text").is_dir()


def test_the_fingerprint_is_of_the_content(tmp_path):
    one, same, other = (
        load(str(write_cifar10(tmp_path / name, seed=seed)), tmp_path / "home").fingerprint
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )
    assert one == same != other


def test_another_size_is_scaled(write, home):
    folder = write([(png(np.full((64, 48, 3), 9, np.uint8)), 1)])
    assert (load(folder, home).pixels == 9).all()


def test_an_unreadable_image_is_left_out_or_an_error(write, home, caplog):
    folder = write([(image(1), 1), (b"no image", 2), (image(3)[:-40], 3), (None, 4), (image(5), 5)])
    found = load(folder, home)
    assert found.image.tolist() == ["train-000000", "train-000004"]
    assert found.labels.tolist() == [1, 5]
    assert found.pixels[:, 0, 0, 0].tolist() == [1, 5]
    with caplog.at_level(logging.WARNING):
        found.report_unreadable("skip")
    assert "Left out 3 unreadable images of" in caplog.text
    assert "train-000001, train-000002, train-000003" in caplog.text
    with pytest.raises(InputError, match=r"3 of the images of .* cannot be read: train-000001"):
        found.report_unreadable("fail")


def test_nothing_to_report(write, home, caplog):
    load(write([(image(1), 1)]), home).report_unreadable("fail")
    assert "Left out" not in caplog.text


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"img": None}, r"lacks the columns img; there should be img and label"),
        ({"img": None, "label": None, "x": [1]}, r"lacks the columns img, label; .*there are x"),
        ({"img": [b"bytes"]}, r"column img is binary; it should be encoded images"),
        ({"label": [10]}, r"label 10 of an image should be a whole number from 0 to 9"),
        ({"label": [-1]}, r"label -1 of an image"),
        ({"label": pa.array([None], pa.int64())}, r"label None of an image"),
        ({"label": ["cat"]}, r"names 1 classes; there should be 2 to 1000"),
    ],
)
def test_wrong_columns_are_refused(write, home, changed, wrong):
    folder = write([(image(1), 1)], **changed)
    with pytest.raises(InputError, match=wrong) as error:
        load(folder, home)
    assert "train-00000-of-00001.parquet" in str(error.value)


def test_a_file_of_no_known_split_is_refused(write, home):
    write([(image(1), 1)])
    folder = write([(image(1), 1)], "extra.parquet")
    with pytest.raises(InputError, match=r"extra\.parquet: .* begin with train, valid or test"):
        load(folder, home)


def test_a_file_that_is_no_parquet_is_refused(tmp_path, home):
    (tmp_path / "train.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"train\.parquet: cannot be read: it is no whole"):
        load(str(tmp_path), home)


def test_a_bomb_is_seen_before_it_is_read(write, home):
    folder = write([(b"\0" * 10**6, 1)] * 200)
    with pytest.raises(InputError, match=r"train-00000-of-00001\.parquet: its \d+ bytes grow to 2"):
        load(folder, home)


def test_images_that_are_all_unreadable(write, home):
    with pytest.raises(InputError, match="holds no image that can be read"):
        load(write([(b"", 1)]), home)


@pytest.mark.parametrize("name", ["nothing/here/at/all", "empty"])
def test_a_folder_without_data_is_refused(tmp_path, home, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no images: .* uoft-cs/cifar10"):
        load(str(tmp_path / name), home)


# ---- other data sets of small pictures ----------------------------------------------------


def grey(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (28, 28), value).save(file, "PNG")
    return file.getvalue()


def write_grey(path: Path, labels: list[Any], names: list[str] | None = None) -> str:
    """A parquet file as the hub has Fashion-MNIST."""
    images = [{"bytes": grey(10 * row), "path": None} for row in range(len(labels))]
    table = pa.table({"image": images, "label": labels})
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
    path.mkdir(exist_ok=True)
    parquet.write_table(table, path / "train-00000-of-00001.parquet")
    return str(path)


@pytest.mark.parametrize(
    ("labels", "names", "classes", "codes"),
    [
        ([2, 0, 1], ["Shirt", "Coat", "Bag"], ["Shirt", "Coat", "Bag"], [2, 0, 1]),
        ([2, 0, 2], None, ["0", "1", "2"], [2, 0, 2]),
        (["dog", "cat", "dog"], None, ["cat", "dog"], [1, 0, 1]),
    ],
)
def test_classes_are_those_of_the_data(
    tmp_path: Path, home: Path, labels: list[Any], names: list[str] | None,
    classes: list[str], codes: list[int],
) -> None:  # fmt: skip
    found = load(write_grey(tmp_path / "fashion", labels, names), home)
    assert found.classes.tolist() == classes
    assert found.labels.tolist() == codes
    assert found.pixels.shape == (3, 3, 32, 32)
    assert (found.pixels[2] == 20).all()


@pytest.mark.parametrize("labels", [[-1, 0], [1000, 1], [None, 1], ["", "a"], [0.5, 1.0], [0, 0]])
def test_classes_that_are_none(tmp_path: Path, home: Path, labels: list[Any]) -> None:
    with pytest.raises(InputError, match=r"parquet: (the classes should be|names 1 classes)"):
        load(write_grey(tmp_path / "fashion", labels), home)


def test_a_folder_of_images_with_a_class_column(tmp_path: Path, home: Path) -> None:
    for row in range(3):
        (tmp_path / f"{row}.png").write_bytes(grey(10 * row))
    rows = ["file_name;label;split", "2.png;dog;train", "0.png;cat;test", "1.png;dog;train"]
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    found = load(str(tmp_path), home)
    assert found.classes.tolist() == ["cat", "dog"]
    assert (found.labels.tolist(), found.split.tolist()) == ([1, 0, 1], [0, 2, 0])
    assert found.image.tolist() == ["2.png", "0.png", "1.png"]
    assert (found.pixels[0] == 20).all()
    for old, new in (("label", "lable"), ("split", "partition"), ("2.png", "../2.png")):
        (tmp_path / "metadata.csv").write_text("\n".join(rows).replace(old, new))
        with pytest.raises(InputError, match=r"metadata\.csv, line [12]"):
            load(str(tmp_path), home)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": [[1], [2]]}, r"column label is list<.*>; it should hold one class a row"),
        ({"label": ["a\nb", "c"]}, r"the class 'a\\nb' should have a name of 1 to 200 printable"),
        ({"label": ["a" * 201, "c"]}, "should have a name of 1 to 200 printable"),
    ],
)
def test_columns_that_hold_no_classes(
    write: Any, home: Path, columns: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=rf"train-00000-of-00001\.parquet: .*{words}"):
        load(write([(image(1), 1), (image(2), 2)], **columns), home)


def test_classes_in_words_are_not_those_of_cifar10(write: Any, home: Path) -> None:
    found = load(write([(image(1), 1), (image(2), 2)], label=["dog", "cat"]), home)
    assert found.classes.tolist() == ["cat", "dog"]


def test_a_column_that_is_there_twice(tmp_path: Path, home: Path) -> None:
    pictures = pa.array([{"bytes": image(1)}])
    table = pa.Table.from_arrays([pictures, pictures, pa.array([1])], ["img", "img", "label"])
    parquet.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"names a column twice, of img, img, label"):
        load(str(tmp_path), home)


def test_splits_may_be_folders_of_parquet(tmp_path: Path, home: Path) -> None:
    """As the hub's own conversion has them, and Spark."""
    whole = write_cifar10(tmp_path / "whole")
    for split in ("train", "test"):
        (tmp_path / "parts" / f"{split}.parquet").mkdir(parents=True)
        file = next(whole.glob(f"{split}*"))
        file.rename(tmp_path / "parts" / f"{split}.parquet" / "0000.parquet")
    found = load(str(tmp_path / "parts"), home)
    assert (len(found.rows("train")), len(found.rows("test"))) == (40, 20)


def test_a_name_that_no_file_can_have(home: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read or kept: .*too long"):
        load("x" * 300, home)


# ---- partitions ---------------------------------------------------------------------------


@pytest.fixture
def deal(tmp_path):
    images = load(str(write_cifar10(tmp_path / "data", train=200)), tmp_path / "home")

    def run(partitioner, **settings):
        given = {"num_partitions": 4, "seed": 1, "home": tmp_path / "home", **settings}
        return images, partitions.assign(images, partitioner=partitioner, **given)

    return run


def test_iid_parts_are_equal_and_of_train_only(deal):
    images, dealt = deal("iid")
    assert np.bincount(dealt[images.rows("train")]).tolist() == [50] * 4
    assert (dealt[images.rows("test")] == -1).all()


def test_dirichlet_skews_the_class(deal):
    def apart(alpha):
        images, dealt = deal("dirichlet", alpha=alpha)
        held = np.zeros((4, len(CLASSES)))
        train = images.rows("train")
        np.add.at(held, (dealt[train], images.labels[train]), 1)
        assert held.sum(axis=0).tolist() == [20] * 10
        return (held.max(axis=0) / 20).mean()

    assert apart(0.05) > 0.75
    assert apart(1000.0) < 0.4


def test_there_are_no_identities_to_deal_by(deal):
    with pytest.raises(InputError, match=r"partitioner = 'natural' .* take 'iid' or 'dirichlet'"):
        deal("natural")
