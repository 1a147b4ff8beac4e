"""Altered versions of an image: mirrored, cropped, in other colours.

Which alterations follows from seed and image, so that a version is the same in every round and
run, and goes through the frozen backbone once, like the image itself.
"""

import hashlib
import threading
from collections.abc import Callable
from functools import partial

import torch
from PIL import Image
from torchvision.transforms import v2

# Part of the key of stored features, as `images.PREPROCESSING` is.
AUGMENTATION = (
    "torchvision v2: mirrored (1/2), crop of 80 to 100 % of the area and 0.9 to 1.1 times the "
    "aspect, bilinear; brightness, contrast, saturation within 20 %, hue within 0.02"
)
_one_at_a_time = threading.Lock()  # torchvision draws from the one generator of the process


def alteration(data: bytes, size: int, seed: int, version: int) -> Callable[[Image.Image], object]:
    """Make the function from an RGB image of any size to an altered one of (size, size).

    What it does follows from the encoded image, seed and number of the version. All labels of
    CelebA still hold afterwards.
    """
    digest = hashlib.blake2b(data + repr((seed, version)).encode(), digest_size=8).digest()
    return partial(_alter, size=size, seed=int.from_bytes(digest, "little") >> 1)


def _alter(image: Image.Image, size: int, seed: int) -> object:
    aspect = image.width / image.height
    crop = v2.RandomResizedCrop((size, size), (0.8, 1.0), (0.9 * aspect, 1.1 * aspect))
    colour = v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02)
    with _one_at_a_time, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        chosen = [(step, step.make_params([image])) for step in (crop, colour)]
        mirrored = torch.rand(()) < 0.5
    altered: object = image
    for step, params in chosen:
        altered = step.transform(altered, params)
    return v2.functional.horizontal_flip(altered) if mirrored else altered
