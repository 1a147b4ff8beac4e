"""Image -> backbone output, computed once an image, kept on disk, shared by every process.

The backbone is frozen, so what it makes of an image never changes. The rows are a NumPy file, read
where they are needed; the next run, with another partition, seed or learning rate, computes none.
Images go through one at a time, so no row depends on the others around it; cores are filled by
threads, which costs nothing against batches (MobileNetV2 at 224 pixels, ONNX Runtime, one core: 115
images a second alone, 108 in batches of 16).
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from celeba_fl.data.table import Table
from celeba_fl.files import hash_key, keep
from celeba_fl.images import PREPROCESSING, BadImageError, decode
from celeba_fl.models.backbones import BACKBONES, load_backbone
from celeba_fl.progress import LOG, InputError, Progress

if TYPE_CHECKING:
    from torch import nn

EMPTY, DONE, BAD = 0, 1, 2
CHUNK = 256
GPU_BATCH = 64


def preprocessing_hash(backbone: str, image_size: int) -> str:
    """SHA-256 (hex) of what an image goes through before the weights; alike on all clients."""
    norm = BACKBONES[backbone]
    text = f"{backbone}; {PREPROCESSING}; N={image_size}; mean={norm.mean}; std={norm.std}"
    return hashlib.sha256(text.encode()).hexdigest()


class FeatureStore:
    """The features of a table's images under one backbone.

    Several processes may fill and read it at once, and be killed at any moment: a row counts as
    there only after it was written, and is computed again otherwise.

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
    """

    def __init__(
        self, home: Path, table: Table, backbone: str, weights: str, image_size: int
    ) -> None:
        self.home, self.table = home, table
        self.backbone, self.weights, self.image_size = backbone, weights, image_size
        parts = (table.fingerprint, weights, preprocessing_hash(backbone, image_size))
        self.folder = keep(home / "features" / hash_key(*parts), self._create)
        self._rows = np.load(self.folder / "rows.npy", mmap_mode="r")
        self._state = np.load(self.folder / "state.npy", mmap_mode="r+")

    def _create(self, folder: Path) -> None:
        """Make files of the right size; rows are a hole until they are filled in."""
        folder.mkdir()
        shape = (len(self.table), BACKBONES[self.backbone].dim)
        np.lib.format.open_memmap(folder / "rows.npy", "w+", np.float32, shape)
        np.save(folder / "state.npy", np.full(shape[:1], EMPTY, np.uint8))

    def fill(self, rows: np.ndarray, bad_images: str) -> None:
        """Compute the rows that are not there yet.

        Parameters
        ----------
        rows : np.ndarray
            (k,) row numbers of the table.
        bad_images : str
            ``skip``: an image that cannot be read is logged and left out; ``fail``: it is an error.

        Raises
        ------
        InputError
            Naming the first unreadable image, under ``fail``.
        """
        missing = rows[self._state[rows] == EMPTY]
        if len(missing):
            progress = Progress("Computing features", len(missing))
            with (
                FeatureExtractor(self.home, self.backbone, self.weights, self.image_size) as run,
                (self.folder / "rows.npy").open("r+b") as file,
            ):
                for start in range(0, len(missing), CHUNK):
                    chunk = missing[start : start + CHUNK]
                    state = np.full(len(chunk), DONE, np.uint8)
                    images = (self.table.read(row) for row in chunk)
                    for i, feature in enumerate(run(images)):
                        if feature is None:
                            state[i] = BAD
                        else:
                            # Not through the map: on a full disk that is no error but SIGBUS.
                            file.seek(self._rows.offset + chunk[i] * feature.nbytes)
                            file.write(feature.tobytes())
                        progress.advance()
                    file.flush()
                    os.fsync(file.fileno())
                    self._state[chunk] = state
        self._report(rows[self._state[rows] == BAD], bad_images)

    def _report(self, bad: np.ndarray, bad_images: str) -> None:
        names = ", ".join(str(self.table.image[row]) for row in bad[:5])
        if len(bad) and bad_images == "fail":
            raise InputError(
                f"{len(bad)} of the images of {self.table.name} cannot be read: {names}; delete "
                f"them, and only then put whole ones in their place, or leave them out with "
                f"bad-images = 'skip'"
            )
        if len(bad):
            LOG.warning("Left out %d unreadable images of %s: %s", len(bad), self.table.name, names)

    def readable(self, rows: np.ndarray) -> np.ndarray:
        """Those of `rows` that have features: all but unreadable images."""
        if (self._state[rows] == EMPTY).any():
            raise RuntimeError("features are read before they are filled")
        return rows[self._state[rows] == DONE]

    def read(self, rows: np.ndarray) -> "Features":
        """The features of `rows`, to be indexed like an array (k, dim) float32."""
        return Features(self.folder / "rows.npy", self._rows.offset, self._rows.shape[1], rows)


class Features:
    """Rows of a feature store; each is read from disk when it is asked for, by slice or positions.

    So a process that trains on many images holds one batch of them. (Pages of a mapped file would
    be memory of each process that has ever read them.)
    """

    def __init__(self, path: Path, offset: int, dim: int, rows: np.ndarray) -> None:
        self._path, self._offset, self._rows = path, offset, rows
        self.shape = (len(rows), dim)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        rows = self._rows[index]
        features = np.empty((len(rows), self.shape[1]), np.float32)
        with self._path.open("rb", buffering=0) as file:
            for feature, row in zip(features, rows.tolist(), strict=True):
                os.preadv(file.fileno(), [feature.data], self._offset + row * feature.nbytes)
        return features


class FeatureExtractor:
    """Encoded images in, features out, on all cores or on the GPU; a context manager.

    On a CPU the backbone runs in ONNX Runtime, several times faster than eager PyTorch and equal
    to it within 1e-5; the ONNX file is exported once and kept in ``home/onnx``, and loaded once a
    process.
    """

    def __init__(self, home: Path, backbone: str, weights: str, image_size: int) -> None:
        import torch

        self.image_size = image_size
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
