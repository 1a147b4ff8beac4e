"""From encoded images to pixels."""

import io

import numpy as np
from PIL import Image

# What an image goes through before the backbone; part of the key of stored features and of what a
# client and the server must agree on.
PREPROCESSING = "rgb, resized to NxN without cropping (PIL bilinear, antialiased)"


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
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadImageError(str(error)) from error
    return np.ascontiguousarray(np.asarray(pixels).transpose(2, 0, 1))
