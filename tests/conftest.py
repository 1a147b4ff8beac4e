"""What several tests need: small data sets in CelebA's layout, and the real one where it is."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image
from torchvision.models import mobilenet_v2

from celeba_fl.data.schema import ATTRIBUTES

# Read when Flower is imported; where there is no network it waits for a name server.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

# A loaded machine is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# CelebA may not be redistributed: it lies beside the checkout, on some machines.
SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Find a part of ``../shared/data``; the test is skipped where it is not."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"no CelebA here: {SHARED / name} is missing")
        return SHARED / name

    return find


def write_celeba(
    folder: Path,
    *,
    splits: str = "0" * 8 + "1" * 2 + "2" * 2,
    images_each: int = 2,
    newline: str = "\r\n",
    attributes: tuple[str, ...] = ATTRIBUTES,
    suffix: str = ".jpg",
    seed: int = 0,
) -> Path:
    """Make a small folder in the official layout: 8 x 8 images of one colour each."""
    rng = np.random.default_rng(seed)
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{row + 1:06d}{suffix}" for row in range(len(splits))]
    values = rng.choice([-1, 1], (len(names), len(ATTRIBUTES)))
    order = [ATTRIBUTES.index(attribute) for attribute in attributes]

    def write(file: str, lines: list[str]) -> None:
        (folder / file).write_bytes("".join(f"{line}{newline}" for line in lines).encode())

    rows = [
        f"{image} {' '.join(f'{value:2d}' for value in row[order])}"
        for image, row in zip(names, values, strict=True)
    ]
    write("list_attr_celeba.txt", [str(len(names)), " ".join(attributes), *rows])
    write("list_eval_partition.txt", [f"{n} {s}" for n, s in zip(names, splits, strict=True)])
    write("identity_CelebA.txt", [f"{n} {i // images_each + 1}" for i, n in enumerate(names)])
    for row, image in enumerate(names):
        colour = (row % 256, row // 256 % 256, seed)
        Image.new("RGB", (8, 8), colour).save(
            folder / "img_align_celeba" / image, **({} if suffix == ".png" else {"quality": 95})
        )
    return folder


@pytest.fixture
def celeba_folder(tmp_path: Path) -> Callable[..., Path]:
    """Make small folders in the official layout under `tmp_path`; see `write_celeba`."""
    return lambda name="celeba", **options: write_celeba(tmp_path / name, **options)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run-config keys of the whole job in small: 96 tiny images, random weights, 32 pixels.

    All tests share its home, so the backbone is exported and the features are computed once.
    """
    folder = tmp_path_factory.mktemp("toy")
    weights = folder / "weights.pt"
    torch.manual_seed(0)
    torch.save(mobilenet_v2().state_dict(), weights)
    return {
        "dataset": str(write_celeba(folder / "celeba", splits="0" * 60 + "1" * 12 + "2" * 24)),
        "weights": str(weights),
        "image-size": 32,
        "home": str(folder / "home"),
        "num-server-rounds": 2,
        "local-epochs": 1,
    }


def spread_head(features: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """A head whose scores have mean 0 and deviation 1: the toy's features are hardly apart."""
    weight = np.random.default_rng(seed).normal(size=(len(ATTRIBUTES), features.shape[1]))
    raw = features.astype(float) @ weight.T
    weight /= raw.std(axis=0)[:, None]
    bias = -raw.mean(axis=0) / raw.std(axis=0)
    return {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
