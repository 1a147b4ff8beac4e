"""From encoded images to pixels, and back."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

# What an image goes through before the backbone; part of the key of stored features and of what a
# client and the server must agree on.
PREPROCESSING = "rgb, resized to NxN without cropping (PIL bilinear, antialiased)"
# What it goes through before networks that make images; part of the key of stored pixels.
CROPPING = "rgb, short edge resized to N, centre cropped to NxN (PIL bilinear, antialiased)"


class BadImageError(ValueError):
    """Bytes that are no whole image."""


def decode(data: bytes, size: int) -> np.ndarray:
    """Decode and resize an image.

    Parameters
    ----------
    data : bytes
        A JPEG, PNG or anything else that Pillow reads.
    size : int
        Edge of the result in pixels; the aspect ratio is not kept.

    Returns
    -------
    np.ndarray
        (3, size, size) uint8, RGB.

    Raises
    ------
    BadImageError
        If the bytes are no image, or a truncated one.
    """
    return _decode(data, lambda image: image.resize((size, size), Image.Resampling.BILINEAR))


def decode_cropped(data: bytes, size: int) -> np.ndarray:
    """Decode an image, resize its short edge and crop the centre; as `decode` otherwise."""
    return _decode(data, lambda image: ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR))


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


def _decode(data: bytes, fit: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = fit(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadImageError(str(error)) from error
    return np.ascontiguousarray(np.asarray(pixels).transpose(2, 0, 1))
