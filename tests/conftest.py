"""What several tests need: small data sets in CelebA's layout, and the real one where it is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from celeba_fl.data.schema import ATTRIBUTES

# CelebA may not be redistributed: it lies beside the checkout, on some machines.
SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Path of a part of ``../shared/data``; the test is skipped where it is not."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"no CelebA here: {SHARED / name} is missing")
        return SHARED / name

    return find


@pytest.fixture
def celeba_folder(tmp_path: Path) -> Callable[..., Path]:
    """Factory of small folders in the official layout: 8 x 8 images of one colour each."""

    def make(
        name: str = "celeba",
        *,
        splits: str = "0" * 8 + "1" * 2 + "2" * 2,
        images_each: int = 2,
        newline: str = "\r\n",
        attributes: tuple[str, ...] = ATTRIBUTES,
        suffix: str = ".jpg",
        seed: int = 0,
    ) -> Path:
        rng = np.random.default_rng(seed)
        folder = tmp_path / name
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

    return make
