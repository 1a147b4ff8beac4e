"""The data of `old_run`: pictures and weights that are the same bytes on every machine."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.vision.backbones import BACKBONES

SPLITS = "0" * 12 + "1" * 4 + "2" * 8
CLIENTS = 3


def old_settings(folder: Path) -> dict[str, Any]:
    """Run-config keys of the old run, with its data, home and results in `folder`."""
    return {
        "dataset": str(folder / "celeba"),
        "backbone": "vit_tiny",
        "weights": str(folder / "weights.safetensors"),
        "features": "last",
        "image-size": 32,
        "home": str(folder / "home"),
        "results-dir": str(folder / "runs"),
        "scaling": "none",
        "init": "random",
        "learning-rate": 0.003,
        "strategy": "fedadam",
        "valid-fraction": 0.25,
        "local-epochs": 1,
        "num-server-rounds": 2,
    }


def write_old_data(folder: Path) -> None:
    """Write a small folder in CelebA's layout, and weights of `vit_tiny`."""
    rng = np.random.default_rng(0)
    images = folder / "celeba" / "img_align_celeba"
    images.mkdir(parents=True)
    names = [f"{row + 1:06d}.png" for row in range(len(SPLITS))]
    labels = rng.choice(["-1", "1"], (len(names), len(ATTRIBUTES)))
    for name, pixels in zip(names, rng.integers(0, 256, (len(names), 8, 8, 3)), strict=True):
        (images / name).write_bytes(_png(pixels.astype(np.uint8)))
    rows = [f"{name} {' '.join(row)}" for name, row in zip(names, labels, strict=True)]
    tables = {
        "list_attr_celeba.txt": [str(len(names)), " ".join(ATTRIBUTES), *rows],
        "list_eval_partition.txt": [f"{n} {s}" for n, s in zip(names, SPLITS, strict=True)],
        "identity_CelebA.txt": [f"{name} {i // 2 + 1}" for i, name in enumerate(names)],
    }
    for name, lines in tables.items():
        (folder / "celeba" / name).write_text("\n".join(lines) + "\n")

    with torch.device("meta"):
        shapes = {
            key: value.shape for key, value in BACKBONES["vit_tiny"].build().state_dict().items()
        }
    weights = {
        # The square root of a variance is taken.
        key: np.abs(rng.normal(0, 0.2, shape)) if "var" in key else rng.normal(0, 0.2, shape)
        for key, shape in shapes.items()
    }
    weights = {key: np.asarray(values, np.float32) for key, values in weights.items()}
    save_file(weights, folder / "weights.safetensors")


def _png(pixels: np.ndarray) -> bytes:
    """PNG of (height, width, 3) uint8, not compressed, so that no library's version matters."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(lines, level=0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
