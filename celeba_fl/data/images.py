"""From encoded images to pixels, and back."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

# What an image goes through before the backbone; part of the key of stored features and of what a
# client and the server must agree on.
PREPROCESSING = "rgb, resized to NxN without cropping (PIL bilinear, antialiased)"
# What it goes through before networks that make images; part of the key of stored pixels.
CROPPING = "rgb, centre cropped to a square, resized to NxN (PIL bilinear, antialiased)"


class BadImageError(ValueError):
    """Bytes that are not a complete image."""


def decode(
    data: bytes, size: int, alter: Callable[[Image.Image], Any] = lambda image: image
) -> np.ndarray:
    """Decode an image and resize it to (3, size, size) uint8, RGB; the aspect ratio is not kept.

    `alter` is applied to the RGB image before it is resized.

    Raises
    ------
    BadImageError
        If the bytes are not an image that Pillow reads, or a truncated one.
    """
    with _opened(data) as image:
        altered = alter(image if image.mode == "RGB" else image.convert("RGB"))
        pixels = altered.resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(pixels).transpose(2, 0, 1))


def media_type(data: bytes) -> str:
    """The media type of an encoded image, such as ``image/jpeg``.

    Raises
    ------
    BadImageError
        If the bytes are not an image, or a truncated one.
    """
    with _opened(data) as image:
        image.load()
        return Image.MIME[str(image.format)]


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
    try:
        with Image.open(io.BytesIO(data)) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadImageError(str(error)) from error
