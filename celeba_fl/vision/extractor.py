"""A frozen backbone at work: encoded images in, features out.

Images go through one at a time, so no row depends on the others around it. Threads fill the cores,
which costs nothing against batches (MobileNetV2 at 224 pixels, ONNX Runtime, one core: 115 images a
second alone, 108 in batches of 16).
"""

import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from celeba_fl.common.files import hash_key, keep
from celeba_fl.common.log import LOG
from celeba_fl.data.images import BadImageError, decode
from celeba_fl.vision.backbones import BACKBONES
from celeba_fl.vision.precision import bf16_runner
from celeba_fl.vision.views import BF16, FP32, LAST, POOLING, View
from celeba_fl.vision.weights import load_backbone

if TYPE_CHECKING:
    from torch import nn

GPU_BATCH = 64
# Images that a thread takes at a time: at a thousand a second, handing over each costs a tenth.
TOGETHER = 8
# Files of the drivers of NVIDIA's GPUs, of any under Windows' Linux, and of AMD's.
GPUS = "/dev/nvidiactl", "/dev/dxg", "/dev/kfd"


class FeatureExtractor:
    """Encoded images in, features out, on all cores or on the GPU; a context manager.

    On a CPU the backbone runs in ONNX Runtime, several times faster than eager PyTorch and equal
    to it within 1e-5, or in bfloat16 if the view says so. The ONNX file is exported once, kept in
    ``home/onnx``, and loaded once in each process. Parameters are as of `FeatureStore`.
    """

    def __init__(
        self,
        home: Path,
        view: View,
        weights: str,
        version: tuple[int, int] | None = None,
    ) -> None:
        self.image_size, self.version = view.image_size, version
        self._reducing = view.precision != FP32
        # Ray gives a worker its share of the cores through OMP_NUM_THREADS.
        cores = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
        if view.precision == FP32 and _has_gpu():
            self._run, self._batch = _cuda_runner(home, view, weights), GPU_BATCH
        else:
            self._run, self._batch = _onnx_runner(home, view, weights, cores), 1
        self._pool = ThreadPool(cores)

    def __enter__(self) -> "FeatureExtractor":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.terminate()
        self._pool.join()  # a thread may be at its last images still

    def __call__(self, images: Iterator[bytes]) -> Iterator[np.ndarray | None]:
        """The features (dim,) of each image in order, None for one that cannot be read."""
        if self._batch == 1:
            yield from self._pool.imap(self._one, images, TOGETHER)
        else:
            yield from self._batched(images)

    def _decode(self, data: bytes) -> np.ndarray | None:
        try:
            if not self.version:
                return decode(data, self.image_size, reducing=self._reducing)
            from celeba_fl.vision.augmentation import alteration

            alter = alteration(data, self.image_size, *self.version)
            return decode(data, self.image_size, alter, self._reducing)
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


def _has_gpu() -> bool:
    """Whether PyTorch has a GPU; to hear that it has none, it need not be imported for seconds."""
    if not any(Path(device).exists() for device in GPUS):
        return False
    import torch

    return torch.cuda.is_available()


def seeing(home: Path, view: View, weights: str) -> "nn.Module":
    """From uint8 pixels to the features of a view, all of it in the compiled graph.

    Nothing of the backbone runs, or is exported, after the deepest stage of the view.
    """
    import torch

    class Seeing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone: Any = load_backbone(view.backbone, home, weights)
            mean = torch.tensor(BACKBONES[view.backbone].mean).view(3, 1, 1)
            std = torch.tensor(BACKBONES[view.backbone].std).view(3, 1, 1)
            self.scale = torch.nn.Buffer(1 / (255 * std))
            self.shift = torch.nn.Buffer(-mean / std)
            for grid in view.grids:
                self.register_buffer(f"pooling {grid}", torch.from_numpy(view.pooling(grid)))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            """(n, 3, N, N) uint8 -> (n, dim) float32."""
            images = pixels.float() * self.scale + self.shift
            if view.mirrored:
                images = torch.cat([images, images.flip(-1)])
            parts = []
            for stage, output in self.backbone.stages(images):
                for grid in view.grids:
                    if grid.stage == stage:
                        cells = output @ self.get_buffer(f"pooling {grid}")
                        parts.append(cells.flatten(1))
                if stage == view.deepest:
                    break
            if view.last:
                parts.append(output)
            features = torch.cat(parts, dim=1)
            return features.unflatten(0, (2, -1)).mean(dim=0) if view.mirrored else features

    return Seeing().eval()


def onnx_file(home: Path, view: View, weights: str) -> Path:
    """The file from ``pixels`` (1, 3, N, N) uint8 to ``features`` (1, dim) float32; made once."""
    name = f"{weights}-{view.image_size}"
    if view.features != LAST:
        name += f"-{hash_key(POOLING, view.features)}"
    return keep(
        home / "onnx" / f"{name}.onnx",
        lambda file: _export(seeing(home, view, weights), view.image_size, file),
    )


@lru_cache(maxsize=1)
def _onnx_runner(
    home: Path, view: View, weights: str, threads: int
) -> Callable[[np.ndarray], np.ndarray]:
    path = onnx_file(home, view, weights)
    if view.precision == BF16:
        return bf16_runner(path, threads)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    return lambda pixels: session.run(None, {"pixels": pixels})[0]


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


def _cuda_runner(home: Path, view: View, weights: str) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    module = seeing(home, view, weights).cuda()

    @torch.inference_mode()
    def run(pixels: np.ndarray) -> np.ndarray:
        return module(torch.from_numpy(pixels).cuda()).cpu().numpy()

    return run
