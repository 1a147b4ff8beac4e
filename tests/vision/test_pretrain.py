import dataclasses
import io
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from celeba_fl.data.table import Table
from celeba_fl.vision import pretrain as module
from celeba_fl.vision.backbones import BACKBONES
from celeba_fl.vision.pretrain import pretrain

FACES, OTHERS = 38, 12


class Small(nn.Module):
    """A backbone of 8 features that remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.seen = []

    def forward(self, images):
        self.seen.append(images.detach().clone())
        return self.layers(images).flatten(1)


BACKBONE = dataclasses.replace(BACKBONES["mobilenet_v2"], dim=8, build=Small)


@pytest.fixture(autouse=True)
def small_settings(monkeypatch):
    for name, value in {"IMAGE_SIZES": (16,) * 3, "BATCH_SIZE": 8}.items():
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def faces():
    """Bright on the right with all attributes and dark without any; after rows of clients."""

    def read(row):
        assert row >= OTHERS, "an image of a client is used"
        pixels = np.zeros((16, 16, 3), np.uint8)
        pixels[:, 8:] = 255 if row % 2 else 51
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    number = OTHERS + FACES
    rows = np.arange(number)
    return Table(
        name="faces",
        fingerprint="",
        image=rows.astype(str),
        celeb_id=rows,
        labels=np.repeat(rows[:, None] % 2 == 1, 40, axis=1),
        split=np.where(rows < OTHERS, 0, 3).astype(np.uint8),
        content=rows.astype(np.uint64),
        read=read,
    )


@pytest.fixture
def losses(monkeypatch):
    """The loss of each step."""
    found, compute = [], nn.functional.binary_cross_entropy_with_logits

    def record(scores, labels):
        assert scores.shape == labels.shape == (8, 31)
        loss = compute(scores, labels)
        found.append(loss.item())
        return loss

    monkeypatch.setattr(nn.functional, "binary_cross_entropy_with_logits", record)
    return found


def test_loss_falls(faces, losses, monkeypatch):
    monkeypatch.setattr(module, "IMAGE_SIZES", (16,) * 15)
    pretrain(dataclasses.replace(BACKBONE, learning_rate=0.1), faces)
    assert len(losses) == 15 * (FACES // 8)
    assert losses[0] > 0.5
    assert max(losses[-4:]) < 0.1


def test_deterministic_and_global_random_state_left_alone(faces):
    torch.manual_seed(1)
    first = pretrain(BACKBONE, faces).state_dict()
    here = torch.rand(3)
    torch.manual_seed(1)
    torch.testing.assert_close(torch.rand(3), here, rtol=0, atol=0)
    torch.manual_seed(2)
    second = pretrain(BACKBONE, faces).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_another_seed_gives_other_weights(faces, monkeypatch):
    first = pretrain(BACKBONE, faces).state_dict()
    monkeypatch.setattr(module, "SEED", 43)
    second = pretrain(BACKBONE, faces).state_dict()
    assert not torch.equal(first["layers.0.weight"], second["layers.0.weight"])


def test_result_is_the_backbone_alone_ready_for_use(faces):
    result = pretrain(BACKBONE, faces)
    assert type(result) is Small
    assert not any(part.training for part in result.modules())
    assert all(value.is_contiguous() for value in result.state_dict().values())


def test_pixels_are_normalised_and_mirrored_at_random(faces):
    pixels = torch.cat(pretrain(BACKBONE, faces).seen)
    assert pixels.shape == (3 * 4 * 8, 3, 16, 16)
    for channel, (mean, std) in enumerate(zip(BACKBONE.mean, BACKBONE.std, strict=True)):
        expected = [(value - mean) / std for value in (0, 0.2, 1)]
        found = pixels[:, channel].unique().tolist()
        assert found == pytest.approx(expected, abs=1e-6)
    mirrored = (pixels[:, :, :, 0] > pixels[:, :, :, -1]).all(dim=(1, 2))
    assert 0.3 < mirrored.float().mean() < 0.7


def test_each_epoch_has_its_own_image_size(faces, monkeypatch):
    monkeypatch.setattr(module, "IMAGE_SIZES", (8, 16))
    seen = pretrain(BACKBONE, faces).seen
    assert [pixels.shape[-1] for pixels in seen] == [8] * 4 + [16] * 4


def test_progress_ends_where_the_work_does(faces, caplog):
    caplog.set_level(logging.INFO, "flwr.celeba_fl")
    pretrain(BACKBONE, faces)
    assert "on 38 faces, once" in caplog.messages[0]
    assert "96 of 96" in caplog.messages[-1]


def test_vit_tiny_learns_at_every_image_size(faces, losses, monkeypatch):
    monkeypatch.setattr(module, "IMAGE_SIZES", (32, 64))
    result = pretrain(BACKBONES["vit_tiny"], faces)
    assert max(losses[-2:]) < 0.5 < losses[0]
    assert result.state_dict()["encoder.pos_embedding"].shape == (1, 1 + 36, 128)
