import io
import tracemalloc
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from celeba_fl.data.images import BadImageError, decode, is_plain, media_type


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


# ---- what a viewer shows ------------------------------------------------------------------

COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]], np.uint8)


def saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def test_grey_of_16_bits_is_not_white() -> None:
    values = np.array([[0, 128], [257 * 100, 65535]], np.uint16)
    data = saved(Image.fromarray(values))
    assert decode(data, 2)[0].tolist() == [[0, 0], [100, 255]]
    assert not is_plain(data)
    transparent = saved(Image.fromarray(values), transparency=257 * 100)
    assert decode(transparent, 2)[0].tolist() == [[0, 0], [255, 255]]


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_images_are_upright(orientation: int, form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.kron(COLOURS, np.ones((8, 16, 1), np.uint8)))
    data = saved(image, form, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode(data, 8), decode(saved(upright), 8))
    assert is_plain(data) == (orientation not in range(2, 9))


def test_damaged_exif_turns_nothing() -> None:
    data = saved(Image.fromarray(COLOURS), exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff\xff\xff")
    np.testing.assert_array_equal(decode(data, 2), COLOURS.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_what_is_transparent_is_white(mode: str) -> None:
    """The colour under full transparency is seen by nobody; half of black is grey."""
    black = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    if mode in ("RGBA", "LA"):
        black.putpixel((1, 0), (0, 0, 0, 128))
        data = saved(black.convert(mode))
        assert decode(saved(black.convert(mode)), 2)[0][0].tolist() == [255, 127]
    else:
        none = (0, 0, 0) if mode == "RGB" else 0
        data = saved(Image.new(mode, (2, 1)), transparency=none)
        assert decode(data, 2)[0][0].tolist() == [255, 255]
    assert not is_plain(data)


@pytest.mark.parametrize(("mode", "form"), [("RGB", "JPEG"), ("L", "JPEG"), ("RGB", "PNG")])
def test_pixels_of_ordinary_images_are_as_ever(mode: str, form: str) -> None:
    """Stores of features that are older than `is_plain` hold for them."""
    data = encode(NOISE, mode, form)
    before = Image.open(io.BytesIO(data)).convert("RGB").resize((16, 16), 2)
    np.testing.assert_array_equal(decode(data, 16), np.asarray(before).transpose(2, 0, 1))
    assert is_plain(data)


def test_no_other_format_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript would start a program, and some decoders raise what nobody expects."""
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("it starts"))
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("it starts"))
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    for data in (postscript, *(saved(Image.fromarray(COLOURS), form) for form in ("TIFF", "GIF"))):
        with pytest.raises(BadImageError):
            decode(data, 4)
    assert not is_plain(postscript)


def test_whatever_a_decoder_raises_is_a_bad_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(image: Image.Image) -> None:
        raise AssertionError("not so many tiles")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", damaged)
    for read in (media_type, lambda data: decode(data, 4)):
        with pytest.raises(BadImageError, match="so many tiles"):
            read(PNG)


def test_a_fault_of_an_alteration_is_not_the_images() -> None:
    def alter(image: Image.Image) -> None:
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        decode(PNG, 4, alter)


def test_too_many_pixels_are_seen_before_they_are_decoded() -> None:
    """Of 0.1 MB, it would take 300 MB."""
    data = saved(Image.new("1", (9_000, 9_000)))
    tracemalloc.start()
    with pytest.raises(BadImageError, match="9000 x 9000 pixels are too many"):
        decode(data, 4)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


def test_a_jpeg_of_a_phone_is_a_jpeg() -> None:
    first = Image.fromarray(np.asarray(NOISE, np.uint8))
    data = saved(first, "MPO", save_all=True, append_images=[first])
    assert media_type(data) == "image/jpeg"
    np.testing.assert_array_equal(decode(data, 8), decode(saved(first, "JPEG"), 8))


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# What is red to others is green to this one, and the other way round.
SWAPPED = SRGB.replace(b"rXYZ", b"?").replace(b"gXYZ", b"rXYZ").replace(b"?", b"gXYZ")


def coloured(colour: tuple[int, ...], mode: str, form: str, profile: bytes) -> tuple[bytes, Any]:
    """An image of one colour with a profile, and the colour that is seen."""
    file = io.BytesIO()
    Image.new(mode, (8, 8), colour).save(file, form, icc_profile=profile)
    return file.getvalue(), decode(file.getvalue(), 1).ravel().tolist()


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_colours_are_those_of_the_images_own_profile(form: str) -> None:
    data, seen = coloured((254, 0, 0), "RGB", form, SWAPPED)
    assert seen == pytest.approx([0, 254, 0], abs=3)
    assert not is_plain(data)
    _, same = coloured((254, 0, 0), "RGB", form, SRGB)
    assert same == pytest.approx([254, 0, 0], abs=3)


def test_what_is_transparent_is_white_in_any_profile() -> None:
    assert coloured((254, 0, 0, 255), "RGBA", "PNG", SWAPPED)[1] == pytest.approx(
        [0, 254, 0], abs=3
    )
    assert coloured((254, 0, 0, 0), "RGBA", "PNG", SWAPPED)[1] == [255, 255, 255]


@pytest.mark.parametrize("profile", [b"none", SRGB[:200], SRGB.replace(b"RGB ", b"Luv ")])
def test_a_damaged_profile_or_one_of_other_images_does_not_count(profile: bytes) -> None:
    assert coloured((255, 0, 0), "RGB", "PNG", profile)[1] == [255, 0, 0]
    assert coloured((9,), "L", "PNG", SWAPPED)[1] == pytest.approx([9, 9, 9], abs=1)


def test_large_jpegs_are_decoded_at_a_part_of_their_size() -> None:
    """And at no less than twice the edge; smaller ones as ever."""
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (8, 6, 3), np.uint8)).resize((600, 800))
    file = io.BytesIO()
    smooth.save(file, "JPEG")
    seen: list[tuple[int, int]] = []

    def alter(image: Image.Image) -> Image.Image:
        seen.append(image.size)
        return image

    for size, decoded in ((64, (150, 200)), (128, (300, 400)), (224, (600, 800))):
        exact = decode(file.getvalue(), size).astype(int)
        close = decode(file.getvalue(), size, alter, reducing=True)
        assert seen.pop() == decoded
        assert np.abs(close - exact).mean() < 1
        assert (size < 224) or (close == exact).all()
