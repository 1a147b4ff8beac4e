import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models import (
    MobileNet_V2_Weights,
    ViT_B_16_Weights,
    mobilenet_v2,
    vit_b_16,
)
from torchvision.models.vision_transformer import (
    ConvStemConfig,
    VisionTransformer,
    interpolate_embeddings,
)

from celeba_fl.common.errors import InputError
from celeba_fl.vision.backbones import BACKBONES, Backbone, check_weights
from celeba_fl.vision.views import make_view
from celeba_fl.vision.weights import load_backbone, resolve_weights

NAME = "mobilenet_v2"


def never(backbone: Backbone) -> nn.Module:
    raise AssertionError("the drawn faces are not needed")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_features_are_torchvisions_pooled_ones(stored, home, state):
    images = torch.randn(2, 3, 64, 64)
    whole = mobilenet_v2()
    whole.load_state_dict(state)
    whole.classifier = torch.nn.Identity()
    with torch.inference_mode():
        features = load_backbone(NAME, home, stored)(images)
        expected = whole.eval()(images)
    assert features.shape == (2, BACKBONES[NAME].dim)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-6)


def store(name, state, home, tmp_path):
    torch.save(state, tmp_path / f"{name}.pt")
    return resolve_weights(name, str(tmp_path / f"{name}.pt"), home, never)


@pytest.mark.slow  # a small one of the same code is below
def test_features_of_vit_b_16_are_torchvisions_and_older_files_are_read(home, tmp_path):
    torch.manual_seed(0)
    whole = vit_b_16()
    # torchvision's IMAGENET1K_V1 still has these keys; it renames them while loading.
    older = {
        re.sub(r"mlp\.([03])\.", lambda found: f"mlp.linear_{int(found[1]) // 3 + 1}.", key): value
        for key, value in whole.state_dict().items()
    }
    assert sum("linear_1" in key or "linear_2" in key for key in older) == 12 * 2 * 2
    whole.heads = torch.nn.Identity()
    image = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        features = load_backbone("vit_b_16", home, store("vit_b_16", older, home, tmp_path))(image)
        expected = whole.eval()(image)
    assert features.shape == (1, BACKBONES["vit_b_16"].dim)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def tiny():
    """Torchvision's own model of vit_tiny's shape, without a classifier, for an image size."""

    def build(size):
        stem = [ConvStemConfig(width, 3, 2) for width in (16, 32, 64, 128)]
        model = VisionTransformer(size, 16, 4, 4, 128, 512, conv_stem_configs=stem)
        model.heads = torch.nn.Identity()
        return model.eval()

    return build


@pytest.mark.parametrize("size", [96, 64, 128])
def test_position_embeddings_are_interpolated_as_torchvision_does(home, tmp_path, tiny, size):
    torch.manual_seed(0)
    state = tiny(96).state_dict()
    expected = tiny(size)
    expected.load_state_dict(interpolate_embeddings(size, 16, dict(state)))
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        module = load_backbone("vit_tiny", home, store("vit_tiny", state, home, tmp_path))
        features = module(images)
        torch.testing.assert_close(features, expected(images), rtol=1e-4, atol=1e-5)
    assert features.shape == (2, BACKBONES["vit_tiny"].dim)
    assert module.encoder.pos_embedding.shape == (1, 37, 128)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("vit_b_16", "drawn", r"'drawn': there are none for .*'vit_b_16'; take 'imagenet', or"),
        ("vit_tiny", "imagenet", r"'imagenet': there are none .*'vit_tiny'; take 'drawn', or"),
    ],
)
def test_weights_that_a_backbone_lacks(name, weights, message):
    with pytest.raises(InputError, match=message):
        check_weights(name, weights)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("mobilenet_v2", "drawn"),
        ("mobilenet_v2", "imagenet"),
        ("vit_b_16", "imagenet"),
        ("vit_b_16", "mine.pt"),
        ("vit_tiny", "drawn"),
    ],
)
def test_weights_that_it_has(name, weights):
    check_weights(name, weights)


@pytest.mark.parametrize("size", [96, 97, 100, 224])
def test_stages_of_mobilenet_v2_are_torchvisions(size):
    """Numbers and maps of all, and the edges that a view computes without the network."""
    torch.manual_seed(0)
    whole, images = mobilenet_v2().eval(), torch.randn(1, 3, size, size)
    maps = {}
    for number, block in enumerate(whole.features):
        block.register_forward_hook(lambda *args, number=number: maps.update({number: args[2]}))
    module = BACKBONES[NAME].build().eval()
    module.load_state_dict({k: v for k, v in whole.state_dict().items() if "classifier" not in k})
    with torch.inference_mode():
        whole(images)
        found = dict(module.stages(images))
        torch.testing.assert_close(found.pop("last"), module(images), rtol=0, atol=0)
    assert [*found] == [*BACKBONES[NAME].stages] == [*maps] == [*range(19)]
    view = make_view(NAME, "last", size)
    for number, (channels, _) in BACKBONES[NAME].stages.items():
        assert maps[number].shape == (1, channels, view.edge(number), view.edge(number))
        torch.testing.assert_close(found[number], maps[number].flatten(2), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "size"), [("vit_tiny", 64), ("vit_b_16", 64), ("vit_tiny", 96)])
def test_stages_of_transformers_are_the_tokens_of_their_layers(name, size):
    torch.manual_seed(0)
    module, images = BACKBONES[name].build().eval(), torch.randn(1, 3, size, size)
    encoder: Any = module.encoder
    tokens: list[torch.Tensor] = []
    for layer in [*encoder.layers, encoder.ln]:
        layer.register_forward_hook(lambda *args: tokens.append(args[2]))
    with torch.inference_mode():
        found = dict(module.stages(images))
    tokens[-2:] = tokens[-1:]  # those of the last layer are normalised
    assert [*found] == [*BACKBONES[name].stages, "last"]
    torch.testing.assert_close(found.pop("last"), tokens[-1][:, 0], rtol=0, atol=0)
    for number, (channels, step) in BACKBONES[name].stages.items():
        grid = found[number].unflatten(2, (size // step, size // step))
        assert grid.shape == (1, channels, size // step, size // step)
        # Patch after patch, row by row, behind the class token.
        expected = tokens[number - 1][0, 1 + size // step + 2]
        torch.testing.assert_close(grid[0, :, 1, 2], expected, rtol=0, atol=0)


def test_backbone_is_frozen_and_stays_as_it_is(stored, home):
    module = load_backbone(NAME, home, stored)
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not any(part.training for part in module.modules())
    before = {key: value.clone() for key, value in module.state_dict().items()}
    module(torch.randn(4, 3, 64, 64))
    after = module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert sum("running" in key for key in before) == 104


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("mobilenet_v2", MobileNet_V2_Weights.IMAGENET1K_V2),
        ("vit_b_16", ViT_B_16_Weights.IMAGENET1K_V1),
    ],
)
def test_imagenet_is_torchvisions(name, weights):
    assert models.get_weight(BACKBONES[name].imagenet) is weights
    norm, backbone = weights.transforms(), BACKBONES[name]
    assert (backbone.mean, backbone.std) == (tuple(norm.mean), tuple(norm.std))
