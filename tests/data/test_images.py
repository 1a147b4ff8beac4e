import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from celeba_fl.data.images import BadImageError, decode, media_type


def encode(pixels, mode="RGB", form="PNG"):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).convert(mode).save(file, form)
    return file.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3))
JPEG, PNG = encode(NOISE, form="JPEG"), encode(NOISE)


def test_pixels_by_hand():
    red, blue = [255, 0, 0], [0, 0, 255]
    result = decode(encode([[red, blue], [red, blue]]), 2)
    assert (result.shape, result.dtype) == ((3, 2, 2), np.uint8)
    assert result.tolist() == [[[255, 0], [255, 0]], [[0, 0], [0, 0]], [[0, 255], [0, 255]]]
    assert result.flags.c_contiguous


def test_the_whole_image_is_squeezed_into_the_square():
    """Halves of a tall image: black above, white below; nothing is cut off."""
    tall = np.zeros((218, 178, 3))
    tall[109:] = 255
    result = decode(encode(tall), 96)
    assert (result[:, :47] == 0).all()
    assert (result[:, 49:] == 255).all()


def test_shrinking_averages_instead_of_picking():
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    result = decode(encode(np.stack([board] * 3, axis=-1)), 32).astype(int)
    assert np.abs(result - 127.5).max() < 3


def test_resizing_is_pillows_bilinear():
    expected = Image.open(io.BytesIO(JPEG)).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(decode(JPEG, 16), np.asarray(expected).transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA"])
def test_other_modes_become_rgb(mode):
    white = encode(np.full((4, 4, 3), 255), mode)
    assert decode(white, 3).tolist() == [[[255] * 3] * 3] * 3


@pytest.mark.parametrize("data", [b"", b"no image", JPEG[: len(JPEG) // 2], PNG[:-30], PNG[:20]])
def test_no_whole_image(data):
    with pytest.raises(BadImageError):
        decode(data, 16)


@given(st.sampled_from([JPEG, PNG]), st.integers(0, 5000), st.integers(1, 255))
def test_damage_is_either_seen_or_harmless(data, place, flip):
    damaged = bytearray(data)
    damaged[place % len(data)] ^= flip
    with suppress(BadImageError):
        assert decode(bytes(damaged), 16).shape == (3, 16, 16)


def test_a_bomb_is_a_bad_image(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadImageError, match="decompression bomb"):
        decode(PNG, 16)


def test_media_types_are_of_whole_images_only():
    assert (media_type(JPEG), media_type(PNG)) == ("image/jpeg", "image/png")
    for broken in (b"", b"no image", JPEG[:-100]):
        with pytest.raises(BadImageError):
            media_type(broken)
