"""The store of decoded pixels."""

import io

import numpy as np
import pytest
from PIL import Image
from toys import png

from celeba_fl.data.images import centre_square, decode, encode, tile
from celeba_fl.data.table import Table
from celeba_fl.vision.pixels import PixelStore


def make_table(images):
    number = len(images)
    return Table(
        name="noise",
        fingerprint="noise",
        image=np.array([f"{row}.png" for row in range(number)]),
        labels=np.zeros((number, 40), bool),
        split=np.zeros(number, np.uint8),
        content=np.arange(number, dtype=np.uint64),
        celeb_id=np.arange(number, dtype=np.int32),
        read=lambda row: images[row],
    )


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [png(rng.integers(0, 256, (24, 16, 3)).astype(np.uint8)) for _ in range(3)]


def test_the_centre_is_cropped_and_nothing_is_stretched():
    pixels = np.zeros((6, 2, 3), np.uint8)
    pixels[2:4] = [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [1, 2, 3]]]
    for data in (png(pixels), png(pixels.transpose(1, 0, 2))):
        found = decode(data, 2, centre_square)
        assert found.shape == (3, 2, 2)
        assert sorted(found[0].ravel().tolist()) == [1, 10, 40, 70]
    np.testing.assert_array_equal(
        decode(png(pixels), 2, centre_square), pixels[2:4].transpose(2, 0, 1)
    )


def test_a_grid_is_filled_row_by_row():
    images = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1) + np.zeros((3, 3, 2, 2), np.uint8)
    grid = tile(images)
    assert grid.shape == (3, 4, 4)
    assert grid[0, ::2, ::2].tolist() == [[0, 1], [2, 0]]
    with Image.open(io.BytesIO(encode(grid))) as image:
        np.testing.assert_array_equal(np.asarray(image).transpose(2, 0, 1), grid)


def test_rows_are_decoded_once_and_kept(tmp_path, images):
    rows = np.arange(3)
    PixelStore(tmp_path, make_table(images), 8).fill(rows, "fail")
    store = PixelStore(tmp_path, make_table([b""] * 3), 8)
    store.fill(rows, "fail")
    expected = [decode(image, 8, centre_square) for image in images]
    np.testing.assert_array_equal(store.read(rows)[:], expected)
    assert PixelStore(tmp_path, make_table(images), 16).folder != store.folder


def test_what_cannot_be_read_is_left_out(tmp_path, images):
    store = PixelStore(tmp_path, make_table([images[0], b"no image", images[2]]), 8)
    store.fill(np.arange(3), "skip")
    assert store.readable(np.arange(3)).tolist() == [0, 2]


def test_as_a_table_it_reads_the_stored_pixels(tmp_path, images):
    table = make_table(images)
    store = PixelStore(tmp_path, table, 8)
    store.fill(np.arange(3), "fail")
    small = store.as_table()
    with Image.open(io.BytesIO(small.read(1))) as image:
        np.testing.assert_array_equal(
            np.asarray(image).transpose(2, 0, 1), decode(images[1], 8, centre_square)
        )
    # Features of small and of whole images must not be taken for each other.
    assert small.fingerprint != table.fingerprint
