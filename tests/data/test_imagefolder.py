import csv
from collections.abc import Callable
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
        (each(celeb_id="Ann"), "line 2: celeb_id should be whole numbers.*'Ann'"),
        (
            each(file_name="faces/000001.jpg"),
            "line 3: names an image that line 2 names too, faces/000001",
        ),
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


# ---- foreign names, columns and encodings -------------------------------------------------


def first_named(name: str) -> Callable[[list[dict[str, str]]], list[dict[str, str]]]:
    return lambda rows: [{**rows[0], "file_name": name}, *rows[1:]]


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../secret.jpg", "faces/../../secret.jpg", "faces/link.jpg", "out/a"]
)
def test_what_lies_outside_of_the_folder_is_refused(site: Path, name: str) -> None:
    secret = site.parent / "secret.jpg"
    secret.write_bytes((site / "faces" / "000001.jpg").read_bytes())
    (site / "faces" / "link.jpg").symlink_to(secret)
    (site / "out").symlink_to(site.parent)
    rewrite(site, first_named(name))
    with pytest.raises(InputError, match=r"metadata\.csv, line 2: .* lies outside of"):
        annotations(site)


def test_a_link_that_leads_outside_later_is_not_read_either(site: Path, tmp_path: Path) -> None:
    table = load(str(site), tmp_path / "home")
    (site.parent / "secret.jpg").write_bytes(table.read(0))
    (site / "faces" / "000001.jpg").unlink()
    (site / "faces" / "000001.jpg").symlink_to(site.parent / "secret.jpg")
    with pytest.raises(InputError, match=r"'faces/000001\.jpg' lies outside of"):
        table.read(0)


def test_the_folder_itself_may_be_a_link(site: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(site)
    (site / "faces" / "again.jpg").symlink_to(site / "faces" / "000001.jpg")
    rewrite(site, first_named("faces/again.jpg"))
    assert len(annotations(link).image) == 4


@pytest.mark.parametrize("name", ["faces/./000002.jpg", "faces//000002.jpg"])
def test_an_image_by_another_name_is_the_same_image(site: Path, name: str) -> None:
    rewrite(site, first_named(name))
    with pytest.raises(InputError, match="line 3: names an image that line 2 names too"):
        annotations(site)


def test_control_characters_reach_no_log(site: Path) -> None:
    rewrite(site, first_named("faces/\x1b[2J.jpg"))
    with pytest.raises(InputError, match=r"line 2: 'faces/\\x1b\[2J.jpg' has control characters"):
        annotations(site)


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("partition", "split"),
        ("Split", "split"),
        ("splits", "split"),
        ("spilt", "split"),
        ("subset", "split"),
        ("identity", "celeb_id"),
        ("celebid", "celeb_id"),
        ("male", "Male"),
    ],
)
def test_a_column_that_seems_to_be_meant_is_not_passed_over(
    site: Path, column: str, meant: str
) -> None:
    """Else people of the test split would train."""
    rewrite(site, each(**{column: "test"}))
    with pytest.raises(InputError, match=f"column '{column}' seems to mean '{meant}'"):
        annotations(site)


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_as_spreadsheets_write_them(site: Path, delimiter: str, encoding: str) -> None:
    before, path = annotations(site), site / "metadata.csv"
    text = path.read_text().replace(",", delimiter).replace("\n", "\r\n")
    path.write_bytes(text.encode(encoding))
    np.testing.assert_array_equal(annotations(site).labels, before.labels)


@pytest.mark.parametrize(
    ("encoding", "seems"), [("cp1252", "cp1252"), ("utf-16-le", "UTF-16 without its mark")]
)
def test_another_encoding_is_named(site: Path, encoding: str, seems: str) -> None:
    rewrite(site, lambda rows: [rows[0], {**rows[1], "Male": "J\u00f6rg"}, *rows[2:]])
    path = site / "metadata.csv"
    path.write_bytes(path.read_text().encode(encoding))
    with pytest.raises(InputError, match=rf"metadata\.csv, line 3: .*{seems}.*as UTF-8"):
        annotations(site)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda text: text.replace("\n", ",1\n", 2).replace(",1\n", "\n", 1), "line 2: has 42 cel"),
        (lambda text: text.replace(",1", "", 1).replace(",0", "", 1), "line 2: has 39 cells"),
        (lambda text: text.replace("Male", "Bald", 1), "names the column 'Bald' 2 times"),
        (lambda text: text + "x" * 200_000, r"line \d+: is no row of a table: field larger"),
        (lambda text: "", "lacks the columns file_name, 5_o_Clock_Shadow"),
    ],
)
def test_damaged_tables_are_named(site: Path, spoil: Callable[[str], str], words: str) -> None:
    path = site / "metadata.csv"
    path.write_text(spoil(path.read_text()))
    with pytest.raises(InputError, match=words):
        annotations(site)


@pytest.mark.parametrize(
    "number", ["1234567890123", "2147483648", "1_0", "\u0661", "7.0", "", "1e3"]
)
def test_identities_are_whole_numbers_of_32_bits(site: Path, number: str) -> None:
    rewrite(site, each(celeb_id=number))
    with pytest.raises(InputError, match="line 2: celeb_id should be whole numbers of 32 bits"):
        annotations(site)


def test_a_huge_file_is_no_image_and_does_not_fill_the_memory(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celeba_fl.data.table.MAX_BYTES", 1000)
    with (site / "faces" / "000001.jpg").open("ab") as file:
        file.truncate(10**12)
    assert len(load(str(site), tmp_path / "home").read(0)) == 0
