"""Model, data, training and test, as Flower's quickstart for PyTorch has them."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Image
from flwr_datasets.partitioner import IidPartitioner
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models import mobilenet_v2
from torchvision.transforms import Compose, Normalize, Resize, ToTensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Net(nn.Module):
    """MobileNetV2 with its extractor frozen and a new head."""

    def __init__(self, weights: str, dropout: float) -> None:
        super().__init__()
        backbone = mobilenet_v2()
        backbone.load_state_dict(torch.load(weights, weights_only=True))
        self.features = backbone.features.requires_grad_(False)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(1280, 40))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, N, N) -> (n, 40) logits."""
        self.features.eval()
        with torch.no_grad():
            features = self.features(images).mean(dim=(2, 3))
        logits: torch.Tensor = self.head(features)
        return logits


@cache
def load_split(dataset: str, split: str) -> Dataset:
    """All images of a split in CelebA's official layout."""
    folder = Path(dataset)
    lines = (folder / "list_eval_partition.txt").read_text().splitlines()
    code = {"train": "0", "valid": "1", "test": "2"}[split]
    names = [line.split()[0] for line in lines if line.split()[1] == code]
    labels = {
        line.split()[0]: [float(value == "1") for value in line.split()[1:]]
        for line in (folder / "list_attr_celeba.txt").read_text().splitlines()[2:]
    }
    columns = {
        "image": [str(folder / "img_align_celeba" / name) for name in names],
        "labels": [labels[name] for name in names],
    }
    return Dataset.from_dict(columns).cast_column("image", Image())


@cache
def partitioner(dataset: str, num_partitions: int) -> IidPartitioner:
    """The train split, shuffled and dealt."""
    dealer = IidPartitioner(num_partitions)
    dealer.dataset = load_split(dataset, "train").shuffle(seed=42)
    return dealer


def loader(data: Dataset, config: dict[str, Any], shuffle: bool) -> DataLoader[Any]:
    """Batches of normalised images."""
    size = int(config["image-size"])
    transform = Compose([Resize((size, size)), ToTensor(), Normalize(MEAN, STD)])

    def apply(rows: dict[str, list[Any]]) -> dict[str, Any]:
        images = [transform(image.convert("RGB")) for image in rows["image"]]
        return {"image": images, "labels": [torch.tensor(row) for row in rows["labels"]]}

    return DataLoader(data.with_transform(apply), int(config["batch-size"]), shuffle=shuffle)


def client_loaders(
    partition: int, num_partitions: int, config: dict[str, Any]
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """A client's images, four fifths to train on and one to validate on."""
    data = partitioner(str(config["dataset"]), num_partitions).load_partition(partition)
    parts = data.train_test_split(test_size=0.2, seed=42)
    return loader(parts["train"], config, True), loader(parts["test"], config, False)


def train(net: Net, batches: DataLoader[Any], config: dict[str, Any]) -> float:
    """Train the head; the mean loss."""
    optimizer = torch.optim.Adam(net.head.parameters(), lr=float(config["learning-rate"]))
    criterion = nn.BCEWithLogitsLoss()
    net.train()
    total = 0.0
    for _ in range(int(config["local-epochs"])):
        for batch in batches:
            optimizer.zero_grad()
            loss = criterion(net(batch["image"]), batch["labels"])
            loss.backward()
            optimizer.step()
            total += loss.item()
    return total / (len(batches) * int(config["local-epochs"]))


@torch.inference_mode()
def test(net: Net, batches: DataLoader[Any]) -> tuple[float, int]:
    """Mean accuracy of the attributes, and the number of images."""
    net.eval()
    right = number = 0
    for batch in batches:
        right += int(((net(batch["image"]) > 0) == (batch["labels"] > 0)).sum())
        number += len(batch["image"])
    return right / (40 * max(number, 1)), number
