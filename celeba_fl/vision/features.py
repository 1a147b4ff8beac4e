"""Image -> backbone output: the backbone is frozen, so each image goes through it once.

The next run, with another partition, seed or learning rate, computes nothing. Images go through one
at a time, so no row depends on the others around it; cores are filled by threads, which costs
nothing against batches (MobileNetV2 at 224 pixels, ONNX Runtime, one core: 115 images a second
alone, 108 in batches of 16).
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from celeba_fl.common.files import hash_key, keep
from celeba_fl.common.log import LOG
from celeba_fl.data.images import PREPROCESSING, BadImageError, decode
from celeba_fl.data.table import Table
from celeba_fl.vision.backbones import BACKBONES
from celeba_fl.vision.store import ImageStore, StoredRows
from celeba_fl.vision.weights import load_backbone

if TYPE_CHECKING:
    from torch import nn

GPU_BATCH = 64


def preprocessing_hash(backbone: str, image_size: int) -> str:
    """SHA-256 (hex) of what an image goes through before the weights; alike on all clients."""
    norm = BACKBONES[backbone]
    text = f"{backbone}; {PREPROCESSING}; N={image_size}; mean={norm.mean}; std={norm.std}"
    return hashlib.sha256(text.encode()).hexdigest()


class FeatureStore(ImageStore):
    """The features of a table's images under one backbone, (dim,) float32 each.

    Parameters
    ----------
    home : Path
        Features go to ``home/features/<key>``.
    table : Table
        The images.
    backbone : str
        A key of `BACKBONES`.
    weights : str
        SHA-256 (hex) of its weights, as from `resolve_weights`.
    image_size : int
        Edge in pixels.
    version : tuple[int, int] | None (default: None)
        Of altered versions of the images, seed and number; None: as they are.
    """

    what = "Computing features"

    def __init__(
        self,
        home: Path,
        table: Table,
        backbone: str,
        weights: str,
        image_size: int,
        version: tuple[int, int] | None = None,
    ) -> None:
        self.home, self.backbone = home, backbone
        self.weights, self.image_size, self.version = weights, image_size, version
        parts: tuple[object, ...] = (table.fingerprint, weights)
        parts += (preprocessing_hash(backbone, image_size),)
        if version:
            from celeba_fl.vision.augmentation import AUGMENTATION

            parts += (AUGMENTATION, *version)
        folder = home / "features" / hash_key(*parts)
        super().__init__(folder, table, (BACKBONES[backbone].dim,), np.float32)

    def computing(self) -> "FeatureExtractor":
        """The backbone."""
        return FeatureExtractor(
            self.home, self.backbone, self.weights, self.image_size, self.version
        )


class Versions:
    """Several sets of rows as one, the first ones first: those of an image's versions.

    Parameters
    ----------
    parts : Sequence[StoredRows]
        Of one shape, (n, dim).
    """

    def __init__(self, parts: Sequence[StoredRows]) -> None:
        self._parts, self._each = parts, len(parts[0])
        self.shape = (len(parts) * self._each, *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        version, row = np.divmod(np.arange(len(self))[index], self._each)
        found = np.empty((len(row), *self.shape[1:]), np.float32)
        for number in np.unique(version):
            found[version == number] = self._parts[number][row[version == number]]
        return found


class FeatureExtractor:
    """Encoded images in, features out, on all cores or on the GPU; a context manager.

    On a CPU the backbone runs in ONNX Runtime, several times faster than eager PyTorch and equal
    to it within 1e-5; the ONNX file is exported once and kept in ``home/onnx``, and loaded once a
    process.
    """

    def __init__(
        self,
        home: Path,
        backbone: str,
        weights: str,
        image_size: int,
        version: tuple[int, int] | None = None,
    ) -> None:
        import torch

        self.image_size, self.version = image_size, version
        if torch.cuda.is_available():
            self._run = _cuda_runner(home, backbone, weights)
            self._batch = GPU_BATCH
        else:
            self._run = _onnx_runner(home, backbone, weights, image_size)
            self._batch = 1
        # Ray gives a worker its share of the cores through OMP_NUM_THREADS.
        cores = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
        self._pool = ThreadPool(cores)

    def __enter__(self) -> "FeatureExtractor":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.terminate()

    def __call__(self, images: Iterator[bytes]) -> Iterator[np.ndarray | None]:
        """The features (dim,) of each image in order, None for one that cannot be read."""
        if self._batch == 1:
            yield from self._pool.imap(self._one, images)
        else:
            yield from self._batched(images)

    def _decode(self, data: bytes) -> np.ndarray | None:
        try:
            if self.version:
                from celeba_fl.vision.augmentation import alteration

                alter = alteration(data, self.image_size, *self.version)
                return decode(data, self.image_size, alter)
            return decode(data, self.image_size)
        except BadImageError:
            return None

    def _one(self, data: bytes) -> np.ndarray | None:
        pixels = self._decode(data)
        return None if pixels is None else self._run(pixels[None])[0]

    def _batched(self, images: Iterator[bytes]) -> Iterator[np.ndarray | None]:
        """Batches of one fixed shape, so that a row does not depend on how many came with it."""
        decoded = self._pool.map(self._decode, images)
        for start in range(0, len(decoded), self._batch):
            part = decoded[start : start + self._batch]
            pixels = np.zeros((self._batch, 3, self.image_size, self.image_size), np.uint8)
            for i, image in enumerate(part):
                pixels[i] = 0 if image is None else image
            features = self._run(pixels)
            yield from (None if p is None else f for p, f in zip(part, features, strict=False))


def _normalised(backbone: str, home: Path, weights: str) -> "nn.Module":
    """The backbone on uint8 pixels, so that normalising them is part of the compiled graph."""
    import torch

    class Normalised(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = load_backbone(backbone, home, weights)
            mean = torch.tensor(BACKBONES[backbone].mean).view(3, 1, 1)
            std = torch.tensor(BACKBONES[backbone].std).view(3, 1, 1)
            self.scale = torch.nn.Buffer(1 / (255 * std))
            self.shift = torch.nn.Buffer(-mean / std)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            """(n, 3, N, N) uint8 -> (n, dim) float32."""
            images = pixels.float() * self.scale + self.shift
            features: torch.Tensor = self.module(images)
            return features

    return Normalised().eval()


@lru_cache(maxsize=1)
def _onnx_runner(
    home: Path, backbone: str, weights: str, image_size: int
) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    path = keep(
        home / "onnx" / f"{weights}-{image_size}.onnx",
        lambda file: _export(_normalised(backbone, home, weights), image_size, file),
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(pixels: np.ndarray) -> np.ndarray:
        features: np.ndarray = session.run(None, {"pixels": pixels})[0]
        return features

    return run


def _export(module: "nn.Module", image_size: int, path: Path) -> None:
    """Write the ONNX file of batch size 1."""
    import torch

    LOG.info("Exporting the backbone to ONNX, once")
    torch.onnx.export(
        module,
        (torch.zeros((1, 3, image_size, image_size), dtype=torch.uint8),),
        path,
        input_names=["pixels"],
        output_names=["features"],
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _cuda_runner(home: Path, backbone: str, weights: str) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    module = _normalised(backbone, home, weights).cuda()

    @torch.inference_mode()
    def run(pixels: np.ndarray) -> np.ndarray:
        features: np.ndarray = module(torch.from_numpy(pixels).cuda()).cpu().numpy()
        return features

    return run
