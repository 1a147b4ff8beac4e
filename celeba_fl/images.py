"""From encoded images to pixels."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

# What an image goes through before the backbone; part of the key of stored features and of what a
# client and the server must agree on.
PREPROCESSING = "rgb, resized to NxN without cropping (PIL bilinear, antialiased)"


class BadImageError(ValueError):
    """Bytes that are no whole image."""


def decode(
    data: bytes, size: int, alter: Callable[[Image.Image], Any] = lambda image: image
) -> np.ndarray:
    """Decode and resize an image.

    Parameters
    ----------
    data : bytes
        A JPEG, PNG or anything else that Pillow reads.
    size : int
        Edge of the result in pixels; the aspect ratio is not kept.
    alter : Callable[[Image], Image]
        Applied to the RGB image before it is resized.

    Returns
    -------
    np.ndarray
        (3, size, size) uint8, RGB.

    Raises
    ------
    BadImageError
        If the bytes are no image, or a truncated one.
    """
    with _opened(data) as image:
        altered = alter(image.convert("RGB"))
        pixels = altered.resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(pixels).transpose(2, 0, 1))


def media_type(data: bytes) -> str:
    """The media type of an encoded image, such as ``image/jpeg``.

    Raises
    ------
    BadImageError
        If the bytes are no image, or a truncated one.
    """
    with _opened(data) as image:
        image.load()
        return Image.MIME[str(image.format)]


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadImageError(str(error)) from error
