"""Whole networks, from what people have to what they ask for: how a model leaves a run.

Each is a PyTorch module with what belongs beside it: names for ONNX, the tensors for a file of
safetensors, and a few lines of PyTorch that need neither this package nor its code.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.data.cifar10 import IMAGE_SIZE
from celeba_fl.export import snippets
from celeba_fl.export.resizing import resized
from celeba_fl.inference.predict import Model, load_model
from celeba_fl.models import dcgan, lenet
from celeba_fl.runs.reading import RunInfo, final_model
from celeba_fl.vision.backbones import BACKBONES
from celeba_fl.vision.extractor import seeing
from celeba_fl.vision.views import View

LENET = "celeba_fl.models.lenet:lenet5"
IMAGES = "images: (n, height, width, 3) uint8, RGB, of any size"
SQUARE = "images: (n, edge, edge, 3) uint8, RGB, squares of any size"


@dataclass(frozen=True)
class Exported:
    """A network ready to leave.

    `takes` and `gives` are name and meaning of its input and outputs, of which `example` is one to
    trace it by; the dimensions in `free` may be any.
    """

    network: nn.Module
    example: torch.Tensor
    free: tuple[int, ...]
    takes: str
    gives: Sequence[str]
    tensors: Arrays
    config: Mapping[str, Any]  # for `config.json`
    code: str  # PyTorch that loads the tensors and runs them
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    pipeline: str = "image-classification"  # the hub's word for what it does
    library: str = "torchvision"


def exported(run: RunInfo) -> Exported:
    """The network of a run.

    Raises
    ------
    InputError
        If the run has no model, or one of a task from outside this package.
    """
    arrays, metadata = final_model(run)
    network = metadata.get("network")
    if network == dcgan.NETWORK:
        return _generator(arrays)
    if network == LENET:
        return _lenet(arrays, json.loads(metadata["classes"]))
    if "attributes" in metadata:
        return faces(load_model(run))
    raise InputError(f"{run.path.name}: its model is of a task of its own, which is not exported")


def write_onnx(given: Exported, path: Path) -> None:
    """Write a network as ONNX, with its `config` as metadata."""
    import onnx

    names = [about.partition(":")[0] for about in (given.takes, *given.gives)]
    dynamic = dict.fromkeys(given.free, torch.export.Dim.DYNAMIC)
    torch.onnx.export(
        given.network,
        (given.example,),
        path,
        input_names=names[:1],
        output_names=names[1:],
        dynamic_shapes=(dynamic,),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {key: json.dumps(one) for key, one in given.config.items()})
    onnx.save(model, path)


class _Whole(nn.Module):
    """Pictures of any size to the answers of a network that sees (n, 3, size, size) uint8."""

    def __init__(self, sees: nn.Module, size: int, answers: nn.Module) -> None:
        super().__init__()
        self.sees, self.size, self.answers = sees, size, answers

    def forward(self, images: torch.Tensor) -> Any:
        return self.answers(self.sees(resized(images.permute(0, 3, 1, 2), self.size)))


class _Head(nn.Module):
    """Features to probabilities, and which of them are a yes."""

    def __init__(self, head: Arrays, thresholds: np.ndarray) -> None:
        super().__init__()
        self.linear = nn.Linear(*reversed(head["weight"].shape))
        self.linear.load_state_dict({key: torch.from_numpy(one) for key, one in head.items()})
        self.thresholds = nn.Buffer(torch.from_numpy(thresholds).float())

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.linear(features)
        return scores.sigmoid(), scores > self.thresholds


def faces(model: Model) -> Exported:
    """The attributes of faces."""
    view, norm = model.view, BACKBONES[model.view.backbone]
    sees, size = seeing(model.home, view, model.weights), view.image_size
    head = _Head(model.head, model.thresholds)
    names = list(model.attributes)
    config = {
        "backbone": view.backbone,
        "features": view.features,
        "image_size": size,
        "labels": names,
        "thresholds": torch.tensor(model.thresholds).sigmoid().tolist(),
        "problem_type": "multi_label_classification",
    }
    return Exported(
        _Whole(sees, size, head).eval(),
        torch.zeros((2, 3 * size // 2, size, 3), dtype=torch.uint8),
        (0, 1, 2),
        IMAGES,
        (
            f"probabilities: (n, {len(names)}) float32, in the order of `labels` in `config.json`",
            f"present: (n, {len(names)}) bool, true above the thresholds there",
        ),
        _face_tensors(sees, head, view),
        config,
        snippets.faces(view, norm.mean, norm.std),
        _preprocessor(size, norm.mean, norm.std),
    )


def _face_tensors(sees: nn.Module, head: _Head, view: View) -> Arrays:
    """The backbone as far as it is used, the pooling of its grids, and the head."""
    tensors = dict(sees.get_submodule("backbone").state_dict())
    if view.backbone == "mobilenet_v2" and not view.last:
        used = tuple(f"features.{stage}." for stage in range(view.grids[-1].stage + 1))
        tensors = {key: one for key, one in tensors.items() if key.startswith(used)}
    for number, grid in enumerate(view.grids):
        tensors[f"pooling.{number}"] = torch.from_numpy(view.pooling(grid))
    name = "classifier.1" if view.backbone == "mobilenet_v2" else "heads.head"
    tensors |= {f"{name}.{key}": one for key, one in head.linear.state_dict().items()}
    counters = "num_batches_tracked"
    return {key: one.numpy() for key, one in tensors.items() if not key.endswith(counters)}


class _LeNet(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.network(lenet.standardise(pixels)).softmax(dim=1)


def _lenet(arrays: Arrays, classes: Sequence[str]) -> Exported:
    network = lenet.load(arrays).eval()
    size = IMAGE_SIZE
    return Exported(
        _Whole(_LeNet(network), size, nn.Identity()).eval(),
        torch.zeros((2, 3 * size // 2, size, 3), dtype=torch.uint8),
        (0, 1, 2),
        SQUARE,
        (f"probabilities: (n, {len(classes)}) float32, in the order of `labels` in `config.json`",),
        arrays,
        {"image_size": size, "labels": list(classes)}
        | {"problem_type": "single_label_classification"},
        snippets.classes(network, size, lenet.MEAN, lenet.STD),
        _preprocessor(size, lenet.MEAN, lenet.STD),
        library="pytorch",
    )


class _Pictures(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        pictures = dcgan.in_8_bits(self.network(noise))
        return pictures.permute(0, 2, 3, 1)


def _generator(arrays: Arrays) -> Exported:
    network = dcgan.load(dcgan.generator, arrays, "generator").eval()
    own = {
        key.removeprefix("generator/"): one
        for key, one in arrays.items()
        if key.startswith("generator/")
    }
    return Exported(
        _Pictures(network).eval(),
        torch.zeros((2, dcgan.NOISE)),
        (0,),
        f"noise: (n, {dcgan.NOISE}) float32, standard normal",
        (f"images: (n, {dcgan.SIZE}, {dcgan.SIZE}, 3) uint8, RGB",),
        own,
        {"noise": dcgan.NOISE, "image_size": dcgan.SIZE},
        snippets.pictures(network, dcgan.NOISE),
        pipeline="unconditional-image-generation",
        library="pytorch",
    )


def _preprocessor(size: int, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """What happens to pixels, in the words of Hugging Face's image processors."""
    return {
        "do_resize": True,
        "size": {"height": size, "width": size},
        "resample": 2,  # Pillow's bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
        "do_convert_rgb": True,
    }
