"""Frozen feature extractors: their architectures, and which weights there are for each."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celeba_fl.common.errors import InputError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Backbone:
    """An architecture; `build` gives a module from (n, 3, N, N) images to (n, dim) features.

    The module's method `stages` goes through it step by step: it yields the number of each stage
    with its flattened map (n, channels, edge^2), and in the end ``"last"`` with the features.
    """

    dim: int  # features an image
    build: Callable[[], "nn.Module"]  # with random weights; torchvision's keys in its state dict
    # Of each stage the number of channels, and how many pixels a step on its map is.
    stages: Mapping[int, tuple[int, int]]
    # Good views by their names: what `views.make_view` reads, and the edge of an image in pixels.
    views: Mapping[str, tuple[str, int]]
    imagenet: str = ""  # the name of torchvision's ImageNet weights; empty: there are none
    learning_rate: float = 0.0  # highest one on the drawn faces; 0: it is too large for them
    patch: int = 1  # the edge N of an image must be a multiple of this
    # Parts of keys in torchvision's older files, and their present names.
    legacy: Mapping[str, str] = field(default_factory=dict)
    # Normalisation of pixels in [0, 1].
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


def _mobilenet_v2() -> "nn.Module":
    import torch
    from torch import nn
    from torchvision.models import mobilenet_v2

    class MobileNetV2Features(nn.Module):
        """MobileNetV2 (Sandler et al., CVPR 2018) up to its pooled 1,280 features."""

        def __init__(self) -> None:
            super().__init__()
            self.features = mobilenet_v2().features

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            """(n, 3, N, N) -> (n, 1280)."""
            return self.features(images).mean(dim=(2, 3))

        def stages(self, images: torch.Tensor) -> Iterator[tuple[int | str, torch.Tensor]]:
            """The output of each of torchvision's `features`."""
            for number, block in enumerate(self.features):
                images = block(images)
                yield number, images.flatten(2)
            yield "last", images.mean(dim=(2, 3))

    return MobileNetV2Features()


def _vision_transformer(**shape: Any) -> "nn.Module":
    import torch
    from torch import nn
    from torchvision.models import VisionTransformer

    class ViTFeatures(VisionTransformer):  # type: ignore[misc]
        """A Vision Transformer (Dosovitskiy et al., ICLR 2021) up to its class token.

        For images of another size than it was made for, its position embeddings are interpolated
        as torchvision's `interpolate_embeddings` does.
        """

        def __init__(self) -> None:
            super().__init__(**shape)
            del self.heads

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            """(n, 3, N, N) -> (n, dim)."""
            return dict(self.stages(images))["last"]

        def stages(self, images: torch.Tensor) -> Iterator[tuple[int | str, torch.Tensor]]:
            """The tokens of patches after each layer, after the last one normalised."""
            maps: torch.Tensor = self.conv_proj(images)
            patches = maps.flatten(2).transpose(1, 2)
            tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1)
            tokens = tokens + self._positions(maps.shape[-1])
            for number, layer in enumerate(self.encoder.layers, 1):
                tokens = layer(tokens)
                if number == len(self.encoder.layers):
                    tokens = self.encoder.ln(tokens)
                yield number, tokens[:, 1:].transpose(1, 2)
            yield "last", tokens[:, 0]

        def _positions(self, grid: int) -> torch.Tensor:
            """The embeddings (1, 1 + grid^2, dim) of the class token and of a square of patches."""
            stored: torch.Tensor = self.encoder.pos_embedding
            own = math.isqrt(stored.shape[1] - 1)
            if grid == own:
                return stored
            square = stored[:, 1:].transpose(1, 2).unflatten(2, (own, own))
            square = nn.functional.interpolate(
                square, size=(grid, grid), mode="bicubic", align_corners=True
            )
            return torch.cat([stored[:, :1], square.flatten(2).transpose(1, 2)], dim=1)

    return ViTFeatures()


def _vit_tiny() -> "nn.Module":
    """A transformer of 0.9 million numbers, with convolutions in front of it.

    It is to learn from few images, which those help with (Xiao et al., "Early Convolutions Help
    Transformers See Better", NeurIPS 2021).
    """
    from torchvision.models.vision_transformer import ConvStemConfig

    return _vision_transformer(
        image_size=96,
        patch_size=16,
        num_layers=4,
        num_heads=4,
        hidden_dim=128,
        mlp_dim=512,
        conv_stem_configs=[ConvStemConfig(width, 3, 2) for width in (16, 32, 64, 128)],
    )


def _inverted_residuals() -> dict[int, tuple[int, int]]:
    """The stages of MobileNetV2, table 2 of its paper."""
    rows = [(32, 2, 1), (16, 2, 1), (24, 4, 2), (32, 8, 3), (64, 16, 4)]
    rows += [(96, 16, 3), (160, 32, 3), (320, 32, 1), (1280, 32, 1)]
    blocks = [(channels, step) for channels, step, number in rows for _ in range(number)]
    return dict(enumerate(blocks))


BACKBONES: Mapping[str, Backbone] = {
    "mobilenet_v2": Backbone(
        1280,
        _mobilenet_v2,
        _inverted_residuals(),
        {
            "fast": ("3:7x7+folded", 64),
            "balanced": ("4:7x7+8:3x3+folded", 128),
            "best": ("6:7x7+9:5x5+16:2x2+folded+mirrored", 224),
        },
        imagenet="MobileNet_V2_Weights.IMAGENET1K_V2",
        learning_rate=3e-3,
    ),
    "vit_b_16": Backbone(
        768,
        lambda: _vision_transformer(
            image_size=224, patch_size=16, num_layers=12, num_heads=12, hidden_dim=768, mlp_dim=3072
        ),
        dict.fromkeys(range(1, 13), (768, 16)),
        {
            # Not measured yet: no machine of ours has its weights.
            "fast": ("last", 160),
            "balanced": ("last", 224),
            "best": ("last+mirrored", 224),
        },
        imagenet="ViT_B_16_Weights.IMAGENET1K_V1",
        patch=16,
        legacy={"mlp.linear_1.": "mlp.0.", "mlp.linear_2.": "mlp.3."},
    ),
    "vit_tiny": Backbone(
        128,
        _vit_tiny,
        dict.fromkeys(range(1, 5), (128, 16)),
        {
            "fast": ("2:3x3+folded", 64),
            "balanced": ("2:3x3+last+folded", 96),
            "best": ("3:6x6+folded+mirrored", 96),
        },
        learning_rate=1e-3,
        patch=16,
    ),
}


def check_weights(name: str, weights: str) -> None:
    """Raise InputError if a backbone has no such weights."""
    backbone = BACKBONES[name]
    origins = {"drawn": backbone.learning_rate, "imagenet": backbone.imagenet}
    if not origins.get(weights, True):
        others = [repr(origin) for origin, there in origins.items() if there]
        raise InputError(
            f"weights = {weights!r}: there are none for backbone {name!r}; take "
            f"{', '.join([*others, 'or the path of a .pt or .safetensors file'])}"
        )
