import csv
import json
from pathlib import Path

import pytest
from disk import Disk

from celeba_fl.common.errors import InputError
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.teach.labels import LabelFile
from celeba_fl.teach.questions import UNSURE, Answer

TEACHER = {"model": "seer", "base_url": "http://here/v1/"}
SOME = tuple(Answer("01"[i % 2], i / 40) for i in range(40))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.csv"


def write(path, *images, answers=SOME, teacher=TEACHER):
    with LabelFile(path, teacher) as file:
        for image in images:
            file.append(image, answers)
    return file.done


def test_rows(path):
    write(path, "a,b.jpg")
    write(path, "c.jpg", answers=UNSURE)
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["image", "attribute", "value", "confidence"]
    assert rows[:2] == [
        ["a,b.jpg", ATTRIBUTES[0], "0", "0"],
        ["a,b.jpg", ATTRIBUTES[1], "1", "0.025"],
    ]
    assert [row[1] for row in rows] == [*ATTRIBUTES] * 2
    assert rows[40:] == [["c.jpg", name, "", ""] for name in ATTRIBUTES]
    assert json.loads(path.with_name("labels.csv.json").read_text()) == TEACHER


def test_goes_on_from_any_byte_a_kill_may_have_left(path):
    write(path, "a.jpg", "b,c.jpg", "d.jpg")
    whole = path.read_bytes()
    ends = [whole.index(name) for name in (b"a.jpg", b'"b,c.jpg"', b"d.jpg")] + [len(whole)]
    images = ["a.jpg", "b,c.jpg", "d.jpg"]
    for size in range(0, len(whole) + 1, 31):
        path.write_bytes(whole[:size])
        kept = sum(size >= end for end in ends[1:])
        assert write(path) == set(images[:kept]), size
        write(path, *images[kept:])
        assert path.read_bytes() == whole, size


def test_another_teacher_is_refused(path):
    write(path, "a.jpg")
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"by another teacher: .*'seer'.* now .*'oracle'.*--out"):
        write(path, teacher={**TEACHER, "model": "oracle"})
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image;label\na.jpg;1\n", "its first line must be image,attribute,value,confidence"),
        ("image,attribute,value,confidence\na.jpg,Male,1,\n", "from line 2: must be the 40"),
        ("image,attribute,value,confidence\n\n", "from line 2: must be the 40"),
        ("image,attribute,value,confidence\n\0\n", "from line 2: must be the 40"),
    ],
)
def test_a_file_of_another_form_is_refused_and_left_alone(path, content, message):
    write(path)
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        write(path)
    assert path.read_text() == content


def test_a_file_of_somebody_else(path):
    path.write_text("precious\n")
    with pytest.raises(InputError, match="does not say who labelled it; give another file"):
        write(path)
    assert path.read_text() == "precious\n"
    path.with_name("labels.csv.json").write_text("{")
    with pytest.raises(InputError, match=r"labels\.csv\.json is not JSON"):
        write(path)


def test_one_process_at_a_time(path):
    second = pytest.raises(InputError, match=r"labels\.csv: another process is labelling into it")
    with LabelFile(path, TEACHER), second:
        LabelFile(path, TEACHER)
    with LabelFile(path, TEACHER):
        pass


def test_no_place_for_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"labels\.csv cannot be written: "):
        LabelFile(tmp_path / "file" / "labels.csv", TEACHER)
    (tmp_path / "labels.csv").mkdir()
    with pytest.raises(InputError, match=r"labels\.csv cannot be read or written: "):
        LabelFile(tmp_path / "labels.csv", TEACHER)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is full")
def test_on_a_full_disk(path, monkeypatch):
    with LabelFile(path, TEACHER) as file:
        with monkeypatch.context() as patch:
            patch.setattr(file, "path", Path("/dev/full"))
            with pytest.raises(InputError, match=r"/dev/full cannot be written: .*No space"):
                file.append("a.jpg", SOME)
        assert file.done == set()


def test_labels_that_are_paid_for_outlast_a_power_cut(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    disk = Disk(monkeypatch, tmp_path / "disk")
    with LabelFile(tmp_path / "disk" / "new" / "labels.csv", TEACHER) as file:
        file.append("a.jpg", SOME)
        image = disk.after_a_cut(tmp_path / "cut")
    disk.close()
    with LabelFile(image / "new" / "labels.csv", TEACHER) as file:
        assert file.done == {"a.jpg"}
