import csv
from pathlib import Path

import numpy as np
import pytest
from toys import write_sites

from celeba_fl.common.errors import InputError
from celeba_fl.data.imagefolder import annotations
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.data.sources import load


@pytest.fixture
def site(celeba_folder, tmp_path):
    """Train images 1, 2, 5 and 6 of the folder: those of two of its people."""
    return write_sites(tmp_path / "sites", celeba_folder(), sites=2)[1]


def rewrite(site, change):
    """Change the rows of `metadata.csv`, dicts of text."""
    path = site / "metadata.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows = change(rows)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def each(**columns):
    return lambda rows: [{**row, **columns} for row in rows]


def test_a_site_has_the_images_and_labels_of_its_part(celeba_folder, site, tmp_path):
    whole = load(str(tmp_path / "celeba"), tmp_path / "home")
    table = load(str(site), tmp_path / "home")
    rows = [0, 1, 4, 5]
    assert table.image.tolist() == [f"faces/{name}" for name in whole.image[rows]]
    np.testing.assert_array_equal(table.labels, whole.labels[rows])
    np.testing.assert_array_equal(table.content, whole.content[rows])
    assert table.read(2) == whole.read(4)
    assert table.rows("train").tolist() == [0, 1, 2, 3]
    # Nobody says who they are: four people, not one.
    assert table.celeb_id.tolist() == [0, 1, 2, 3]


def test_identities_and_splits_may_be_there(site):
    splits = ["train", "valid", "test", "train"]

    def change(rows):
        return [{**row, "celeb_id": "7", "split": s} for row, s in zip(rows, splits, strict=True)]

    rewrite(site, change)
    found = annotations(site)
    assert found.celeb_id.tolist() == [7] * 4
    assert found.split.tolist() == [0, 1, 2, 0]


def test_minus_one_is_no(site):
    before = annotations(site).labels
    rewrite(site, lambda rows: [{k: "-1" if v == "0" else v for k, v in r.items()} for r in rows])
    np.testing.assert_array_equal(annotations(site).labels, before)


def test_columns_may_have_any_order_and_strangers_among_them(site):
    before = annotations(site)
    rewrite(site, lambda rows: [{"note": "x", **dict(reversed(row.items()))} for row in rows])
    np.testing.assert_array_equal(annotations(site).labels, before.labels)


def test_missing_attributes_are_named(site, tmp_path):
    lacking = {"Male", "Smiling"}
    rewrite(site, lambda rows: [{k: v for k, v in r.items() if k not in lacking} for r in rows])
    with pytest.raises(InputError, match=r"metadata.csv lacks the columns Male, Smiling; there"):
        load(str(site), tmp_path / "home")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (each(Bald="yes"), r"Bald of faces/000001.jpg is 'yes', and should be one of 1, 0, -1"),
        (each(split="training"), "split of faces/000001.jpg is 'training', .* one of train, valid"),
        (each(celeb_id="Ann"), "celeb_id should be whole numbers.*'Ann'"),
        (each(file_name="faces/000001.jpg"), "faces/000001.jpg has 4 rows"),
        (
            lambda rows: [{**rows[0], "file_name": "lost.jpg"}],
            r"names 1 images .* such as lost.jpg",
        ),
    ],
)
def test_what_is_wrong_is_named(site, change, words):
    rewrite(site, change)
    with pytest.raises(InputError, match=words):
        annotations(site)


def test_a_folder_without_a_row(site):
    (site / "metadata.csv").write_text(f"file_name,{','.join(ATTRIBUTES)}\n")
    with pytest.raises(InputError, match="names no image"):
        annotations(site)


def test_an_image_that_the_disk_does_not_give_is_named(site, tmp_path, monkeypatch):
    def broken(path):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.raises(InputError, match=r"Input/output error: .*hospital-b/faces/000001.jpg"):
        load(str(site), tmp_path / "home")


def test_the_table_follows_the_file(site, tmp_path):
    before = load(str(site), tmp_path / "home")
    rewrite(site, lambda rows: rows[:3])
    assert (len(before), len(load(str(site), tmp_path / "home"))) == (4, 3)


def test_a_server_without_data_has_an_empty_table(tmp_path):
    table = load("none", tmp_path / "home")
    assert len(table) == 0
    assert [table.rows(split).tolist() for split in ("train", "valid", "test")] == [[], [], []]
    assert not (tmp_path / "home").exists()
