"""From encoded images to pixels, and back.

Pixels are what a viewer shows: upright by EXIF, grey of 16 bits in 8, transparent places on white,
and colours as the image's own profile (ICC) means them. Images are foreign input: none but
`FORMATS` are tried, since others start programs or allocate before they tell their size, and none
is decoded that would fill the memory.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from celeba_fl.common.log import LOG
from celeba_fl.data.table import MAX_PIXELS

FORMATS = ("JPEG", "PNG")
# MPO is what Pillow calls a JPEG of some phones, with more images behind the first.
MEDIA = {"JPEG": "image/jpeg", "MPO": "image/jpeg", "PNG": "image/png"}
# EXIF 2.32, tag 274: how to turn an image so that it is upright.
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow's name for a colour profile, and the modes of images whose colours profiles describe.
PROFILE = "icc_profile"
SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
# What an image goes through before the backbone; part of the key of stored features and of what a
# client and the server must agree on.
PREPROCESSING = "rgb, resized to NxN without cropping (PIL bilinear, antialiased)"
# What else happens to large JPEGs where pixels need not be exact; part of the same keys then.
REDUCING = "JPEG decoded at 1/2, 1/4 or 1/8 if that leaves 2N pixels each way"
# What it goes through before networks that make images; part of the key of stored pixels.
CROPPING = "rgb, centre cropped to a square, resized to NxN (PIL bilinear, antialiased)"


class BadImageError(ValueError):
    """Bytes that are not a complete image of `FORMATS`, or a huge one."""


def decode(
    data: bytes,
    size: int,
    alter: Callable[[Image.Image], Any] = lambda image: image,
    reducing: bool = False,
) -> np.ndarray:
    """Decode an image and resize it to (3, size, size) uint8, RGB; the aspect ratio is not kept.

    `alter` is applied to the RGB image before it is resized. With `reducing`, a large JPEG is
    decoded at a part of its size, as `REDUCING` says, which is several times faster.

    Raises
    ------
    BadImageError
        If the bytes are not an image that is read here, or a truncated one.
    """
    image: Image.Image = alter(_shown(data, 2 * size if reducing else 0))
    for shape in ((size, image.height), (size, size)):
        # Both at once would round in another order from Pillow 13 on, where much height is lost.
        image = image.resize(shape, Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def media_type(data: bytes) -> str:
    """The media type of an encoded image, such as ``image/jpeg``.

    Raises
    ------
    BadImageError
        If the bytes are not an image, or a truncated one.
    """
    with _opened(data) as image:
        image.load()
        return MEDIA[str(image.format)]


def is_plain(data: bytes) -> bool:
    """True if the stored pixels of an image are those that a viewer shows; it need not be whole."""
    try:
        with _opened(data) as image:
            other = _is_deep(image) or image.has_transparency_data or image.info.get(PROFILE)
            return _orientation(image) not in UPRIGHT and not other
    except BadImageError:
        return False


def centre_square(image: Image.Image) -> Image.Image:
    """The largest square in the middle of an image; for `decode`, so that nothing is stretched."""
    edge = min(image.size)
    left, top = ((side - edge) // 2 for side in image.size)
    return image.crop((left, top, left + edge, top + edge))


def encode(pixels: np.ndarray) -> bytes:
    """PNG of (3, height, width) uint8."""
    with io.BytesIO() as png:
        Image.fromarray(pixels.transpose(1, 2, 0)).save(png, "PNG")
        return png.getvalue()


def tile(images: np.ndarray) -> np.ndarray:
    """Images (n, 3, height, width) side by side, row by row, as one; a square if n is one.

    What is left of the last row is black.
    """
    number, _, height, width = images.shape
    columns = int(np.ceil(np.sqrt(number)))
    rows = -(-number // columns)
    cells = np.zeros((rows * columns, 3, height, width), images.dtype)
    cells[:number] = images
    grid = cells.reshape(rows, columns, 3, height, width).transpose(2, 0, 3, 1, 4)
    return grid.reshape(3, rows * height, columns * width)


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Open an image; whatever is raised as long as it is open is the image's fault."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImageError(f"{image.width} x {image.height} pixels are too many")
            yield image
    except Exception as error:  # no end to what decoders raise at damaged files
        raise BadImageError(str(error)) from error


def _shown(data: bytes, edge: int) -> Image.Image:
    """The image as a viewer shows it, in RGB; at no more than an `edge` needs, unless that is 0."""
    with _opened(data) as opened:
        if edge:
            opened.draft(None, (edge, edge))
        turn = UPRIGHT.get(_orientation(opened))
        image = _in_8_bits(opened) if _is_deep(opened) else opened
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        image = _in_srgb(image, opened.info.get(PROFILE))
    return image if turn is None else image.transpose(turn)


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A copy in RGB, with colours as a profile means them; one that is damaged does not count."""
    if profile:
        try:
            mode, transform = _transform(profile)
            if mode != "CMYK" or image.mode == mode:
                return transform.apply(image.convert(mode))
        except Exception as error:  # a profile may be anything
            LOG.debug("A colour profile is passed over: %r", error)
    return image.convert("RGB")


@lru_cache(maxsize=4)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform]:
    """The mode of images that a profile is for, and the transform from there to sRGB."""
    known = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    mode = SPACES[known.profile.xcolor_space]
    return mode, ImageCms.buildTransform(known, ImageCms.createProfile("sRGB"), mode, "RGB")


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # damaged EXIF, which viewers pass over
        return None


def _is_deep(image: Image.Image) -> bool:
    """True for grey of 16 bits, of which Pillow's `convert` makes white."""
    return image.mode.startswith("I")


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 8 bits instead of 16, with what is transparent of it."""
    values = np.asarray(image).astype(np.uint32)
    grey = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if "transparency" in image.info:
        opaque = values != image.info["transparency"]
        grey.putalpha(Image.fromarray(np.where(opaque, 255, 0).astype(np.uint8)))
    return grey
