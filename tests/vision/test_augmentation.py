import io
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest
import torch
from PIL import Image

from celeba_fl.data.images import decode
from celeba_fl.vision.augmentation import alteration


@pytest.fixture(scope="module")
def image():
    """A PNG that is dark on the left and light on the right, taller than wide."""
    ramp = np.broadcast_to(np.linspace(0, 255, 40)[None, :, None], (60, 40, 3))
    file = io.BytesIO()
    Image.fromarray(ramp.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def altered(data, version, seed=42, size=32):
    return decode(data, size, alteration(data, size, seed, version))


def test_a_version_is_the_same_each_time_and_like_no_other(image):
    once = altered(image, 1)
    assert (once.shape, once.dtype) == ((3, 32, 32), np.uint8)
    torch.rand(3)
    np.testing.assert_array_equal(altered(image, 1), once)
    others = [altered(image, 2), altered(image, 1, seed=43), decode(image, 32)]
    for other in others:
        assert (other != once).any()


def test_the_image_decides_too(image):
    other = io.BytesIO()
    Image.open(io.BytesIO(image)).save(other, "PNG", compress_level=1)
    assert (altered(other.getvalue(), 1) != altered(image, 1)).any()


def test_about_half_are_mirrored_and_all_are_mild(image):
    versions = np.stack([altered(image, number) for number in range(200)]).astype(float)
    rises = versions[..., -4:].mean(axis=(1, 2, 3)) > versions[..., :4].mean(axis=(1, 2, 3))
    assert 70 < (~rises).sum() < 130
    upright = np.where(rises[:, None, None, None], versions, versions[..., ::-1])
    apart = np.abs(upright - decode(image, 32)).mean(axis=(1, 2, 3))
    assert apart.max() < 60
    assert apart.min() > 0


def test_other_random_numbers_are_left_alone(image):
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    first = torch.rand(1)
    altered(image, 1)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


def test_threads_do_not_disturb_each_other(image):
    alone = [altered(image, number) for number in range(40)]
    with ThreadPool(4) as pool:
        together = pool.map(lambda number: altered(image, number), range(40))
    np.testing.assert_array_equal(together, alone)
