"""Resizing in a network, beside Pillow's own."""

import numpy as np
import pytest
import torch

from celeba_fl.data.images import decode, encode
from celeba_fl.export.resizing import resized


@pytest.mark.parametrize(
    "shape", [(218, 178), (64, 64), (40, 31), (65, 64), (1, 1), (7, 900), (900, 70)]
)
def test_resizing_is_pillows_to_the_last_bit(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    wanted = decode(encode(pixels.transpose(2, 0, 1)), 64)
    found = resized(torch.from_numpy(pixels).permute(2, 0, 1)[None], 64)
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found[0].numpy(), wanted)
