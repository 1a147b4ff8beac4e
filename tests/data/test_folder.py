import csv
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from celeba_fl.common.errors import InputError
from celeba_fl.data import folder, sources
from celeba_fl.data.schema import ATTRIBUTES

LABELS = "list_attr_celeba.txt"
SPLIT = "list_eval_partition.txt"
IDENTITY = "identity_CelebA.txt"


def edit(path, old, new):
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode())


def test_values_by_hand(celeba_folder):
    path = celeba_folder(splits="012")
    present = {
        "000002.jpg": {"Male"},
        "000001.jpg": set(),
        "000003.jpg": {"Young", "5_o_Clock_Shadow"},
    }
    rows = [
        " ".join([name, *("1" if a in true else "-1" for a in ATTRIBUTES)])
        for name, true in present.items()
    ]
    (path / LABELS).write_text("\n".join(["3", " ".join(ATTRIBUTES), *rows]))
    (path / IDENTITY).write_text("000001.jpg 7\n000002.jpg 10177\n000003.jpg 7\n")

    table = folder.annotations(path)

    assert table.image.tolist() == ["000002.jpg", "000001.jpg", "000003.jpg"]
    assert table.celeb_id.tolist() == [10177, 7, 7]
    assert table.split.tolist() == [1, 0, 2]
    true = [{ATTRIBUTES[i] for i in np.flatnonzero(row)} for row in table.labels]
    assert true == [*present.values()]
    assert [array.dtype for array in table[1:]] == [np.int32, bool, np.uint8]


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
@pytest.mark.parametrize("attributes", [ATTRIBUTES, ATTRIBUTES[::-1]])
def test_line_ends_and_order_of_columns_make_no_difference(celeba_folder, newline, attributes):
    official = folder.annotations(celeba_folder("official"))
    other = folder.annotations(celeba_folder("other", newline=newline, attributes=attributes))
    for one, two in zip(official, other, strict=True):
        np.testing.assert_array_equal(one, two)


def test_subset_of_the_images(celeba_folder, caplog):
    path = celeba_folder()
    whole = folder.annotations(path)
    (path / "img_align_celeba" / "000003.jpg").unlink()
    (path / "img_align_celeba" / "000012.jpg").unlink()
    for stray in (".DS_Store", "._000001.jpg", "Thumbs.db"):
        (path / "img_align_celeba" / stray).touch()

    with caplog.at_level(logging.INFO, "flwr.celeba_fl"):
        part = folder.annotations(path)

    kept = [0, 1, 3, 4, 5, 6, 7, 8, 9, 10]
    for one, two in zip(whole, part, strict=True):
        np.testing.assert_array_equal(one[kept], two)
    assert "10 images that are there, of 12" in caplog.text


def test_read_gives_the_file_as_it_is(celeba_folder):
    path = celeba_folder(suffix=".png")
    source = folder.source(path, path)
    assert source.read(0, "000002.png") == (path / "img_align_celeba/000002.png").read_bytes()


def test_folder_of_something_else_is_no_source(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    assert folder.source(tmp_path, tmp_path) is None


@pytest.mark.parametrize("part", [LABELS, SPLIT])
def test_missing_file_is_named(celeba_folder, part):
    path = celeba_folder()
    (path / part).unlink()
    with pytest.raises(InputError, match=f"{re.escape(str(path))} lacks {part}"):
        folder.source(path, path)


def test_folder_without_images(celeba_folder):
    path = celeba_folder()
    for image in (path / "img_align_celeba").iterdir():
        image.unlink()
    with pytest.raises(InputError, match=r"img_align_celeba holds no image \(\.jpg"):
        folder.annotations(path)


def test_count_that_does_not_match(celeba_folder):
    path = celeba_folder()
    edit(path / LABELS, "12\r\n", "202599\r\n")
    with pytest.raises(InputError, match=r"'202599' on line 1 .* but 12 rows follow"):
        folder.annotations(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Smiling", "Smirking", r"missing: \['Smiling'\], unknown: \['Smirking'\]"),
        (" Smiling", "", r"names 39; missing: \['Smiling'\], unknown: none"),
        ("Smiling", "Smiling Smiling", "each once; it names 41"),
    ],
)
def test_names_of_attributes(celeba_folder, old, new, message):
    path = celeba_folder()
    edit(path / LABELS, old, new)
    with pytest.raises(InputError, match=message):
        folder.annotations(path)


@pytest.mark.parametrize("content", ["", "12\n", "no CelebA\n"])
def test_file_that_is_none(celeba_folder, content):
    path = celeba_folder()
    (path / LABELS).write_text(content)
    with pytest.raises(InputError, match=LABELS):
        folder.annotations(path)


@pytest.mark.parametrize("value", ["0", "2", "x", ""])
def test_value_other_than_one_and_minus_one(celeba_folder, value):
    path = celeba_folder()
    lines = (path / LABELS).read_text().splitlines()
    lines[4] = " ".join([*lines[4].split()[:-1], value])
    (path / LABELS).write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"line 5: '000003.jpg .* should be a name and 40 of"):
        folder.annotations(path)


def test_image_with_two_rows(celeba_folder):
    path = celeba_folder()
    edit(path / LABELS, "000002.jpg", "000001.jpg")
    with pytest.raises(InputError, match=r"000001.jpg has 2 rows"):
        folder.annotations(path)


@pytest.mark.parametrize("file", [LABELS, SPLIT, IDENTITY])
def test_images_that_a_file_does_not_know(celeba_folder, file):
    path = celeba_folder()
    for name in ("900001.jpg", "900002.jpg", "900003.jpg", "900004.jpg"):
        Image.new("RGB", (8, 8)).save(path / "img_align_celeba" / name)
        for other in {LABELS, SPLIT, IDENTITY} - {file}:
            row = f"{name} {' '.join(['1'] * 40)}\r\n" if other == LABELS else f"{name} 1\r\n"
            with (path / other).open("a", newline="") as lines:
                lines.write(row)
    if file != LABELS:
        edit(path / LABELS, "12\r\n", "16\r\n")
    message = f"{file} has no row for 4 of 16 images, such as 900001.jpg, 900002.jpg, 900003.jpg;"
    with pytest.raises(InputError, match=re.escape(message)):
        folder.annotations(path)


def test_unknown_split_code(celeba_folder):
    path = celeba_folder(splits="0124")
    with pytest.raises(InputError, match=r"split code 4 of 000004.jpg \(and 0 more"):
        folder.annotations(path)


@pytest.mark.parametrize("line", ["000003.jpg", "000003.jpg one", "000003.jpg 1 2"])
def test_broken_line(celeba_folder, line):
    path = celeba_folder()
    edit(path / IDENTITY, "000003.jpg 2", line)
    with pytest.raises(InputError, match=f"{IDENTITY}, line 3: '{line}'"):
        folder.annotations(path)


def test_real_celeba(shared_data):
    table = folder.annotations(shared_data("celeba"))
    # The counts of ../shared/data/README.md.
    assert np.bincount(table.split).tolist() == [3660, 600, 420]
    assert np.unique(table.celeb_id, return_counts=True)[1].tolist() == [30] * 156

    truth = parquet.read_table(shared_data("celeba_labels.parquet"))
    # The whole of CelebA has its images in order, 000001.jpg on.
    truth = truth.take(np.char.partition(table.image, ".")[:, 0].astype(int) - 1)
    assert truth["image_id"].to_pylist() == table.image.tolist()
    assert truth["celeb_id"].to_pylist() == table.celeb_id.tolist()
    for position, name in enumerate(ATTRIBUTES):
        np.testing.assert_array_equal(truth[name].to_numpy(), table.labels[:, position])


# ---- copies as they are out there ---------------------------------------------------------

IMAGES = "img_align_celeba"


def as_csv(path: Path, header: list[str]) -> None:
    """Write a table as Kaggle has it, in place of the official one."""
    lines = [line.split() for line in path.read_text().splitlines()]
    with path.with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *(line for line in lines if len(line) > 1)])
    path.unlink()


def kaggle(path: Path) -> Path:
    labels = path / LABELS
    labels.write_text(labels.read_text().partition("\n")[2])
    as_csv(labels, ["image_id", *ATTRIBUTES])
    rows = labels.with_suffix(".csv").read_text().splitlines()
    labels.with_suffix(".csv").write_text("\n".join([rows[0], *rows[2:]]))
    as_csv(path / SPLIT, ["image_id", "partition"])
    (path / IDENTITY).unlink()
    (path / IMAGES).rename(path / "images")
    (path / IMAGES).mkdir()
    (path / "images").rename(path / IMAGES / IMAGES)
    return path


def authors_drive(path: Path) -> Path:
    for place, name in (("Anno", LABELS), ("Anno", IDENTITY), ("Eval", SPLIT), ("Img", IMAGES)):
        (path / place).mkdir(exist_ok=True)
        (path / name).rename(path / place / name)
    return path


def png_copy(path: Path) -> Path:
    (path / IMAGES).rename(path / "img_align_celeba_png")
    for image in (path / "img_align_celeba_png").iterdir():
        Image.open(image).save(image.with_suffix(".png"))
        image.unlink()
    return path


def in_capitals(path: Path) -> Path:
    for image in (path / IMAGES).iterdir():
        image.rename(image.with_suffix(".JPG"))
    return path


@pytest.mark.parametrize("copy", [kaggle, authors_drive, Path.resolve, png_copy, in_capitals])
@pytest.mark.parametrize("above", [False, True])
def test_copies_of_celeba(
    celeba_folder: Callable[..., Path], tmp_path: Path, copy: Callable[[Path], Path], above: bool
) -> None:
    official = folder.annotations(celeba_folder("official"))
    path = copy(celeba_folder("root/celeba"))
    table = sources.load(str(path.parent if above else path), tmp_path / "home")
    np.testing.assert_array_equal(table.labels, official.labels)
    np.testing.assert_array_equal(table.split, official.split)
    assert [name[:6] for name in table.image] == [name[:6] for name in official.image]
    people = range(12) if copy is kaggle else official.celeb_id
    assert table.celeb_id.tolist() == [*people]
    assert table.identified == (copy is not kaggle)
    assert table.read(3)


def test_what_is_packed_is_to_be_unpacked(celeba_folder: Callable[..., Path]) -> None:
    path = celeba_folder()
    shutil.rmtree(path / IMAGES)
    (path / f"{IMAGES}.zip").touch()
    with pytest.raises(InputError, match=rf"lacks {IMAGES}/;.*unpack {IMAGES}\.zip"):
        folder.source(path, path)


def test_two_files_of_one_image(celeba_folder: Callable[..., Path]) -> None:
    path = celeba_folder()
    Image.new("RGB", (8, 8)).save(path / IMAGES / "000001.png")
    with pytest.raises(InputError, match=r"holds 000001\.jpg and 000001\.png; take one"):
        folder.annotations(path)


@pytest.mark.parametrize("file", [SPLIT, IDENTITY])
@pytest.mark.parametrize("second", ["000003.jpg 0", "000003.jpg 2", "000003.png 2"])
def test_two_rows_of_one_image(celeba_folder: Callable[..., Path], file: str, second: str) -> None:
    """Which of them holds? A person of the test split would train."""
    path = celeba_folder()
    with (path / file).open("a", newline="") as lines:
        lines.write(f"{second}\r\n")
    with pytest.raises(InputError, match=rf"{file}, line 13: a second row for 000003"):
        folder.annotations(path)


@pytest.mark.parametrize("file", [SPLIT, IDENTITY])
@pytest.mark.parametrize("number", ["1234567890123", "2147483648", "1_0", "\u0661", "1.0"])
def test_numbers_out_of_range(celeba_folder: Callable[..., Path], file: str, number: str) -> None:
    path = celeba_folder()
    lines = (path / file).read_text().splitlines()
    lines[2] = f"000003.jpg {number}"
    (path / file).write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError, match=rf"{file}, line 3: .* a number of 32 bits"):
        folder.annotations(path)


@pytest.mark.parametrize("file", [LABELS, SPLIT, IDENTITY])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(celeba_folder: Callable[..., Path], file: str, encoding: str) -> None:
    path = celeba_folder()
    before = folder.annotations(path)
    (path / file).write_bytes((path / file).read_text().encode(encoding))
    for one, other in zip(before, folder.annotations(path), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("file", [LABELS, SPLIT, IDENTITY])
def test_another_encoding_is_named(celeba_folder: Callable[..., Path], file: str) -> None:
    path = celeba_folder()
    with (path / file).open("ab") as lines:
        lines.write("J\u00f6rg.jpg 1\r\n".encode("cp1252"))
    with pytest.raises(InputError, match=rf"{file}, line 1\d: .*UTF-8 \(it seems to be cp1252"):
        folder.annotations(path)


def test_an_image_that_leads_outside_of_the_folder(
    celeba_folder: Callable[..., Path], tmp_path: Path
) -> None:
    path = celeba_folder()
    (path / IMAGES / "000003.jpg").rename(tmp_path / "secret.jpg")
    (path / IMAGES / "000003.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(InputError, match=r"'000003\.jpg' lies outside of"):
        sources.load(str(path), tmp_path / "home")


def test_a_name_that_is_no_utf_8_can_be_told(celeba_folder: Callable[..., Path]) -> None:
    path = celeba_folder()
    (path / IMAGES / "J\udcf6rg.jpg").touch()
    with pytest.raises(InputError, match=r"no row for 1 of 13 images, such as J\\xf6rg\.jpg"):
        folder.annotations(path)
