import io
import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tables import image_table

from celeba_fl.common.errors import InputError
from celeba_fl.data.sources import load
from celeba_fl.vision import features
from celeba_fl.vision.features import FeatureStore
from celeba_fl.vision.views import make_view

VIEW, NUMBER = make_view("mobilenet_v2", "last", 32), 24
ALL = np.arange(NUMBER)


def test_rows_are_read_in_the_order_asked_for(store, monkeypatch):
    store.fill(ALL, "fail")
    every = store.read(ALL)[:]
    np.testing.assert_array_equal(store.read(np.array([5, 2, 5]))[:], every[[5, 2, 5]])
    assert store.read(ALL[:0])[:].shape == (0, 1280)
    some = store.read(np.array([7, 3, 0, 1]))
    assert len(some) == 4
    np.testing.assert_array_equal(some[1:3], every[[3, 0]])
    np.testing.assert_array_equal(some[np.array([3, 0])], every[[1, 7]])
    np.testing.assert_array_equal(some[3:9], every[[1]])
    assert store.readable(np.array([5, 2])).tolist() == [5, 2]
    monkeypatch.setattr("celeba_fl.vision.store.FEW_BYTES", 0)  # else all of a few are read at once
    many = store.read(np.array([7, 3, 0, 1]))
    for index in (slice(1, 3), np.array([3, 0]), slice(3, 9)):
        np.testing.assert_array_equal(many[index], some[index])


def test_few_rows_are_read_from_disk_once(store, monkeypatch):
    store.fill(ALL, "fail")
    train, valid = np.array([5, 2]), np.array([0])
    first = store.read(train)[:]
    first[:] = 0  # what one reader does to its rows is nothing to another
    store.read(train)[np.array([0, 1])][:] = 0
    store.read(valid)
    monkeypatch.setattr("os.preadv", pytest.fail)
    assert store.read(train)[:].any()


def test_no_more_rows_stay_in_memory_than_may(store, monkeypatch):
    store.fill(ALL, "fail")
    monkeypatch.setattr("celeba_fl.vision.store.KEPT_BYTES", 4 * 1280 * 4)
    first, second, third = (ALL[i : i + 2].copy() for i in (0, 2, 4))
    for rows in (first, second, first, third):  # so the second is the one to go
        assert store.read(rows)[:].any()
    read = []
    monkeypatch.setattr("os.preadv", lambda *_: read.append(1))
    for rows in (first, third):
        store.read(rows)[:]
    assert read == []
    store.read(second)[:]
    assert len(read) == 2


def test_only_missing_rows_are_computed(store, home, table, weights, images, decoded):
    store.fill(ALL[:10], "fail")
    assert sorted(decoded) == sorted(images[:10])
    store.fill(ALL[5:12], "fail")
    assert sorted(decoded) == sorted(images[:12])
    again = FeatureStore(home, table, VIEW, weights)
    again.fill(ALL[:12], "fail")
    assert len(decoded) == 12
    np.testing.assert_array_equal(again.read(ALL[:12])[:], store.read(ALL[:12])[:])


def test_nothing_is_started_where_nothing_is_missing(store, monkeypatch):
    store.fill(ALL[:3], "fail")
    monkeypatch.setattr(features, "FeatureExtractor", None)
    store.fill(ALL[:3], "fail")
    store.fill(ALL[:0], "fail")


def test_rows_that_are_not_filled_are_not_given_away(store):
    store.fill(ALL[:3], "fail")
    with pytest.raises(RuntimeError, match="before they are filled"):
        store.readable(ALL[:4])


def test_what_one_store_fills_another_one_sees_at_once(store, home, table, weights):
    other = FeatureStore(home, table, VIEW, weights)
    store.fill(ALL[:3], "fail")
    assert other.readable(ALL[:3]).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(other.read(ALL[:3])[:], store.read(ALL[:3])[:])


def test_unreadable_images_are_logged_and_left_out(home, images, weights, decoded, caplog):
    spoilt = [*images]
    spoilt[2], spoilt[7] = images[2][:200], b""
    table = image_table(spoilt, "spoilt")
    store = FeatureStore(home, table, VIEW, weights)
    store.fill(ALL, "skip")
    rest = [row for row in ALL if row not in (2, 7)]
    assert store.readable(ALL).tolist() == rest
    assert store.readable(np.array([8, 7, 6])).tolist() == [8, 6]
    warning = "Left out 2 unreadable images of noise: 000002.jpg, 000007.jpg"
    assert caplog.messages.count(warning) == 1

    whole = FeatureStore(home, image_table(images), VIEW, weights)
    whole.fill(ALL, "fail")
    np.testing.assert_array_equal(store.read(np.array(rest))[:], whole.read(np.array(rest))[:])

    decoded.clear()
    FeatureStore(home, table, VIEW, weights).fill(ALL, "skip")
    assert caplog.messages.count(warning) == 2
    assert decoded == []


def test_unreadable_images_end_a_run_that_wants_it_so(home, images, weights):
    table = image_table([*images[:5], b"", *[b"no image"] * 7], "spoilt")
    store = FeatureStore(home, table, VIEW, weights)
    rows = np.arange(13)
    for _ in range(2):
        with pytest.raises(InputError) as error:
            store.fill(rows, "fail")
        assert str(error.value).startswith(
            "8 of the images of noise cannot be read: 000005.jpg, 000006.jpg, 000007.jpg, "
            "000008.jpg, 000009.jpg; delete them"
        )
        assert "bad-images = 'skip'" in str(error.value)
    store.fill(rows[:5], "fail")


def test_a_whole_image_in_the_place_of_a_deleted_bad_one(home, celeba_folder, weights):
    folder = celeba_folder()
    path = folder / "img_align_celeba" / "000003.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[:300])
    table = load(str(folder), home)
    with pytest.raises(InputError, match=r"000003\.jpg; delete them, and only then put whole"):
        FeatureStore(home, table, VIEW, weights).fill(np.arange(12), "fail")
    path.unlink()
    path.write_bytes(whole)
    table = load(str(folder), home)
    FeatureStore(home, table, VIEW, weights).fill(np.arange(12), "fail")


def test_a_failing_source_is_an_error_not_a_bad_image(home, table, weights):
    def gone(row):
        raise FileNotFoundError(row)

    object.__setattr__(table, "read", gone)
    store = FeatureStore(home, table, VIEW, weights)
    with pytest.raises(FileNotFoundError):
        store.fill(ALL, "skip")
    with pytest.raises(RuntimeError, match="before they are filled"):
        store.readable(ALL)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a disk that is full")
def test_on_a_full_disk_filling_is_an_error_and_no_row_counts(
    home, table, weights, tmp_path, monkeypatch
):
    store = FeatureStore(home, table, VIEW, weights)
    (store.folder / "rows.npy").unlink()
    (store.folder / "rows.npy").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        store.fill(np.arange(len(table)), "skip")
    (store.folder / "rows.npy").unlink()
    with pytest.raises(RuntimeError, match="before they are filled"):
        store.readable(np.arange(len(table)))


# Arguments: home, dataset, weights, first row, last row, step, and after how many images to die.
WRITER = """
import os, signal, sys
from pathlib import Path
import numpy as np
from celeba_fl.vision import extractor, features, store
from celeba_fl.data.sources import load
from celeba_fl.vision.views import make_view

home, dataset, weights = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
first, last, step, death = map(int, sys.argv[4:])
store.CHUNK, calls, decode = 4, [], extractor.decode

def count(data, size, reducing):
    calls.append(size)
    if len(calls) == death:
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(data, size, reducing=reducing)

extractor.decode = count
view = make_view("mobilenet_v2", "last", 32)
store = features.FeatureStore(home, load(dataset, home), view, weights)
store.fill(np.arange(first, last, step), "fail")
"""


@pytest.fixture
def start(toy, home, weights):
    def start(first, last, step, death=0):
        arguments = [str(x) for x in (home, toy["dataset"], weights, first, last, step, death)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), *arguments], env=environment
        )

    return start


@pytest.fixture
def expected(toy, weights):
    """The features of the toy's 96 images, from the home where one process computed them."""
    home = Path(toy["home"])
    store = FeatureStore(home, load(toy["dataset"], home), VIEW, weights)
    store.fill(np.arange(96), "fail")
    return store.read(np.arange(96))[:]


def test_two_processes_fill_overlapping_rows(toy, home, weights, start, expected, decoded):
    writers = [start(0, 64, 1), start(95, 31, -1)]
    assert [writer.wait(240) for writer in writers] == [0, 0]
    store = FeatureStore(home, load(toy["dataset"], home), VIEW, weights)
    assert len(store.readable(np.arange(96))) == 96
    assert decoded == []
    np.testing.assert_array_equal(store.read(np.arange(96))[:], expected)


def test_a_killed_writer_leaves_the_rest_to_others(toy, home, weights, start, expected, decoded):
    assert start(0, 96, 1, death=11).wait(240) == -signal.SIGKILL
    store = FeatureStore(home, load(toy["dataset"], home), VIEW, weights)
    assert store.readable(np.arange(8)).tolist() == [*range(8)]
    with pytest.raises(RuntimeError, match="before they are filled"):
        store.readable(np.array([8]))
    store.fill(np.arange(96), "fail")
    assert len(decoded) == 96 - 8
    np.testing.assert_array_equal(store.read(np.arange(96))[:], expected)


def test_filling_shows_progress(store, caplog):
    caplog.set_level(logging.INFO, "flwr.celeba_fl")
    store.fill(ALL, "fail")
    assert caplog.messages[-1].startswith(f"Computing features: {NUMBER} of {NUMBER} (")


def test_rows_of_older_code_are_kept_but_where_it_was_blind(
    home: Path, images: list[bytes], weights: str, decoded: list[bytes]
) -> None:
    """Image 3 is grey of 16 bits: older code saw white."""
    images = [*images]
    file = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)).save(file, "PNG")
    images[3] = file.getvalue()
    table = image_table(images, "deep")
    old = FeatureStore(home, table, VIEW, weights)
    old.fill(ALL, "fail")
    (old.folder / "as-shown").unlink()
    decoded.clear()
    for _ in range(2):
        FeatureStore(home, table, VIEW, weights).fill(ALL, "fail")
        assert decoded == [images[3]]
