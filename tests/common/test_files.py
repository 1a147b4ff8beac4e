import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from disk import Disk
from safetensors.numpy import load, save

from celeba_fl.common import files
from celeba_fl.common.files import (
    RoundFiles,
    append_bytes,
    clean_up,
    hash_key,
    keep,
    pack_arrays,
    write_bytes,
    write_json,
)


def test_folders_are_made_and_others_may_read(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_bytes(path, b"content")
    assert path.read_bytes() == b"content"
    assert path.stat().st_mode & 0o777 == 0o644


def test_only_what_changes_all_along_may_be_lost_in_a_power_cut(tmp_path, monkeypatch):
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    write_json(tmp_path / "progress.json", {"replied": 1}, sync=False)
    assert not synced
    write_json(tmp_path / "run.json", {})
    assert len(synced) == 2  # the content, and the name
    assert json.loads((tmp_path / "progress.json").read_text()) == {"replied": 1}


def test_the_last_writer_wins_and_leaves_nothing_else(tmp_path):
    for data in (b"first", b"2nd"):
        write_bytes(tmp_path / "file", data)
    assert (tmp_path / "file").read_bytes() == b"2nd"
    assert os.listdir(tmp_path) == ["file"]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_bytes(path, b"old")
    rename, seen = os.replace, []

    def look_then_rename(source, target):
        seen.append((path.read_bytes(), Path(source).read_bytes()))
        rename(source, target)

    monkeypatch.setattr(os, "replace", look_then_rename)
    write_bytes(path, b"new")
    assert seen == [(b"old", b"new")]
    assert path.read_bytes() == b"new"


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write, data in ((append_bytes, b""), (write_bytes, b"new")):
        with pytest.raises(OSError, match=f"no space left on device: '{path}'"):
            write(path, data)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_json_for_people_and_programs(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"näme": [1, None]})
    assert path.read_bytes().decode() == '{\n  "näme": [\n    1,\n    null\n  ]\n}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_not_json(tmp_path, value):
    path = tmp_path / "file.json"
    write_json(path, {"loss": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": value})
    assert json.loads(path.read_bytes()) == {"loss": 0.5}


def test_hash_keys_are_fixed_and_differ_by_every_part(monkeypatch):
    assert hash_key("a", 1) == "43002c6495761d2ad81884f5cbe7b025"
    keys = {hash_key(), hash_key("a"), hash_key("a", 1), hash_key("a", 1.0), hash_key("a1")}
    assert len(keys) == 5
    monkeypatch.setattr(files, "FORMAT", 2)
    assert hash_key("a", 1) not in keys


def test_keep_creates_once(tmp_path):
    path, calls = tmp_path / "deep" / "file", []

    def create(unfinished):
        calls.append(unfinished)
        assert unfinished != path
        unfinished.write_text("made")

    assert keep(path, create) == path
    assert keep(path, create) == path
    assert path.read_text() == "made"
    assert len(calls) == 1
    assert not calls[0].exists()


@pytest.mark.parametrize("resume", [False, True])
def test_keep_after_a_failure(tmp_path, resume):
    path = tmp_path / "folder"

    def fail(unfinished):
        unfinished.mkdir()
        (unfinished / "half").write_text("done")
        raise RuntimeError("killed")

    def create(unfinished):
        unfinished.mkdir(exist_ok=resume)
        (unfinished / "rest").write_text("done")

    with pytest.raises(RuntimeError, match="killed"):
        keep(path, fail, resume=resume)
    assert not path.exists()
    keep(path, create, resume=resume)
    assert sorted(os.listdir(path)) == (["half", "rest"] if resume else ["rest"])


def test_processes_that_want_the_same_wait_for_one_of_them(tmp_path):
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from celeba_fl.common.files import keep

        def create(unfinished):
            with open(sys.argv[1] + "/calls", "a") as calls:
                calls.write("x")
            time.sleep(0.3)
            unfinished.write_text("made")

        assert keep(Path(sys.argv[1]) / "file", create).read_text() == "made"
    """)
    command = [sys.executable, "-c", script, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(240) for process in processes] == [0, 0, 0]
    assert (tmp_path / "calls").read_text() == "x"


def test_a_killed_creator_stops_nobody(tmp_path):
    script = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from celeba_fl.common.files import keep

        def create(unfinished):
            unfinished.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

        keep(Path(sys.argv[1]) / "file", create)
    """)
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=240, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "file").exists()
    keep(tmp_path / "file", lambda unfinished: unfinished.write_text("whole"))
    assert (tmp_path / "file").read_text() == "whole"


def test_arrays_that_lie_in_columns_are_packed_as_they_read():
    columns = np.arange(6.0).reshape(2, 3).T
    found = load(pack_arrays({"a": columns, "n": np.array(3)}, {"k": "v"}))
    np.testing.assert_array_equal(found["a"], columns)
    assert found["n"].shape == ()


# ---- a file for each round ----------------------------------------------------------------


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_rounds_stay_and_the_best(tmp_path: Path) -> None:
    kept = RoundFiles(tmp_path / "new", keep=2)
    assert kept.rounds() == []
    for server_round in range(5):
        kept.write(server_round, b"%d" % server_round, best=1 if server_round else None)
    assert kept.rounds() == [1, 3, 4]
    assert names(tmp_path / "new") == [f"round-000{i}.safetensors" for i in (1, 3, 4)]
    assert kept.path(3).read_bytes() == b"3"


def test_rounds_after_the_one_that_is_written_are_void(tmp_path: Path) -> None:
    kept = RoundFiles(tmp_path, keep=2)
    for server_round in (7, 8, 9, 8):
        kept.write(server_round, b"")
    assert kept.rounds() == [8]


# ---- what a power cut and a kill leave -----------------------------------------------------


@pytest.mark.parametrize("write", [write_bytes, append_bytes])
def test_a_file_is_on_the_disk_with_its_name_and_its_folders(tmp_path, monkeypatch, write):
    (tmp_path / "disk").mkdir()
    disk = Disk(monkeypatch, tmp_path / "disk")
    write(tmp_path / "disk" / "a" / "b" / "file", b"content") if write is write_bytes else None
    write(tmp_path / "disk" / "file", b"content")
    left = disk.after_a_cut(tmp_path / "left")
    files = {path.relative_to(left).as_posix() for path in left.rglob("*") if path.is_file()}
    assert files == ({"file", "a/b/file"} if write is write_bytes else {"file"})
    assert (left / "file").read_bytes() == b"content"
    disk.close()


def test_rows_that_are_added_are_on_the_disk(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    disk = Disk(monkeypatch, tmp_path / "disk")
    for row in (b"1\n", b"2\n"):
        append_bytes(tmp_path / "disk" / "rows", row)
    with (tmp_path / "disk" / "rows").open("ab") as file:
        file.write(b"3\n")
    assert (disk.after_a_cut(tmp_path / "left") / "rows").read_bytes() == b"1\n2\n"
    disk.close()


def test_what_is_kept_is_on_the_disk(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    disk = Disk(monkeypatch, tmp_path / "disk")

    def create(new):
        (new / "deep").mkdir(parents=True)
        (new / "deep" / "file").write_text("content")

    keep(tmp_path / "disk" / "home" / "it", create)
    left = disk.after_a_cut(tmp_path / "left")
    assert (left / "home" / "it" / "deep" / "file").read_text() == "content"
    disk.close()


def test_equal_arrays_and_metadata_are_equal_bytes():
    arrays = {"b": np.ones((2, 3), np.float32), "a": np.zeros(3, np.int64), "ü": np.ones(1)}
    names = [f"key {number} ä" for number in range(8)]
    both = [dict.fromkeys(some, '"value" \n') for some in (names, names[::-1])]
    packed = [pack_arrays(arrays, metadata) for metadata in both]
    assert packed[0] == packed[1]
    assert all((load(packed[0])[key] == array).all() for key, array in arrays.items())
    assert int.from_bytes(packed[0][:8], "little") % 8 == 0


def test_arrays_without_metadata_are_packed_as_safetensors_does():
    arrays = {"b": np.ones((2, 3), np.float32), "a": np.zeros(3, np.int64)}
    assert pack_arrays(arrays, {}) == save(arrays)
    assert pack_arrays(arrays, {"k": "v"}) == save(arrays, {"k": "v"})


def test_litter_of_kills_is_removed_and_nothing_else(tmp_path):
    litter = (
        ".run.json.x1y2z3_a",
        "lenet/run/.3.safetensors.abcdefgh",
        "dcgan/run/3/.round-0001.safetensors.abcdefgh",
        "partitions/.hash.npy.unfinished",
        "tables/.hash.unfinished/half",
        "..drawn.unfinished.0123456789abcdef/img/1.jpg",
    )
    stays = (
        "run.json",
        ".drawn.lock",
        "drawn/img/1.jpg",
        "hub/.id.unfinished/0.parquet",
        ".DS_Store",
        "runs/run/plots/a.svg",
    )
    for name in (*litter, *stays):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("some")
    clean_up(tmp_path)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert {*stays} <= files
    assert not [name for name in files if name in litter or "/.hash.unfinished" in name]


def test_what_somebody_is_at_is_no_litter(tmp_path, monkeypatch):
    seen = []

    def look(new):
        new.mkdir()
        clean_up(tmp_path)
        seen.append(new.exists())

    keep(tmp_path / "tables" / "it", look)
    rename = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (clean_up(tmp_path), rename(*names)))
    write_bytes(tmp_path / "run.json", b"{}")
    assert seen == [True]
    assert (tmp_path / "run.json").read_bytes() == b"{}"
