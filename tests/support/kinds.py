"""Six kinds of run in small, and all that such a run leaves, for those that compare two."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from torchvision.models import mobilenet_v2
from toys import write_cifar10

from celeba_fl.runs.tables import read_csv

KINDS = ("fedavg", "fedadam", "init", "lenet", "dcgan", "corrections")
TIMES = ("seconds", "updated", "started", "finished", "flwr_run_ids", "config")


def keys_of_kinds(toy: Mapping[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """The run-config keys of each kind; all share a home in `folder`.

    The backbone has running statistics, without which it would see all images alike.
    """
    network = mobilenet_v2()
    network.load_state_dict(torch.load(toy["weights"]))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network.train()(torch.randn(32, 3, 32, 32))
    torch.save(network.state_dict(), folder / "calibrated.pt")
    common = {"home": str(folder / "home"), "num-server-rounds": 6, "local-epochs": 1}
    faces = {**common, "dataset": toy["dataset"], "weights": str(folder / "calibrated.pt")}
    faces |= {"image-size": 32, "batch-size": 4}
    head = {**faces, "features": "last"}
    pictures = str(write_cifar10(folder / "pictures", train=80, test=20))
    generator = {"task": "dcgan", "exchange": "generator", "feature-maps": 4}
    teacher = {"init": "public", "labels": "teacher", "train-on": "disagreements"}
    return {
        "fedavg": head,
        "fedadam": {**head, "strategy": "fedadam", "class-weights": True},
        "init": {**head, "init": "closed-form"},
        "lenet": {**common, "task": "lenet", "dataset": pictures, "batch-size": 8},
        "dcgan": {**faces, **generator, "watch": "frechet_distance"},
        "corrections": {**head, **teacher, "public-fraction": 0.3, "augmentations": 2},
    }


def left(path: Path) -> dict[str, Any]:
    """All that a run has left, by file: bytes, or what is no matter of time."""
    found: dict[str, Any] = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if file.suffix == ".csv" and name != "nodes.csv":
            rows = read_csv(file)
            found[name] = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
        elif file.parent.name == "checkpoints":
            with safe_open(file, "numpy") as read:
                metadata = json.loads(read.metadata()["checkpoint"])
                metadata["state"].pop("seconds")
                metadata.pop("trained")  # with seconds of every client
                tensors = {key: read.get_tensor(key).tobytes() for key in read.keys()}  # noqa: SIM118
                found[name] = metadata, tensors
        elif name == "run.json":
            info = json.loads(file.read_text())
            found[name] = {key: value for key, value in info.items() if key not in TIMES}
        elif file.is_file() and name not in (".lock", "log.txt", "nodes.csv", "progress.json"):
            found[name] = file.read_bytes()
    return found
