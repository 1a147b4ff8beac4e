"""Frozen feature extractors: their architectures, and which weights there are for each."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celeba_fl.common.errors import InputError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Backbone:
    """An architecture; `build` gives a module from (n, 3, N, N) images to (n, dim) features."""

    dim: int  # features an image
    build: Callable[[], "nn.Module"]  # with random weights; torchvision's keys in its state dict
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
            maps: torch.Tensor = self.conv_proj(images)
            patches = maps.flatten(2).transpose(1, 2)
            tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1)
            tokens = self.encoder.layers(tokens + self._positions(maps.shape[-1]))
            return self.encoder.ln(tokens)[:, 0]

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


BACKBONES: Mapping[str, Backbone] = {
    "mobilenet_v2": Backbone(
        1280, _mobilenet_v2, imagenet="MobileNet_V2_Weights.IMAGENET1K_V2", learning_rate=3e-3
    ),
    "vit_b_16": Backbone(
        768,
        lambda: _vision_transformer(
            image_size=224, patch_size=16, num_layers=12, num_heads=12, hidden_dim=768, mlp_dim=3072
        ),
        imagenet="ViT_B_16_Weights.IMAGENET1K_V1",
        patch=16,
        legacy={"mlp.linear_1.": "mlp.0.", "mlp.linear_2.": "mlp.3."},
    ),
    "vit_tiny": Backbone(128, _vit_tiny, learning_rate=1e-3, patch=16),
}


def check_settings(name: str, weights: str, image_size: int) -> None:
    """Raise InputError if a backbone takes no images of this size, or has no such weights."""
    backbone = BACKBONES[name]
    below = image_size // backbone.patch * backbone.patch
    if image_size != below:
        raise InputError(
            f"image-size = {image_size}: must be a multiple of {backbone.patch}, the patch of "
            f"backbone {name!r}, such as {below} or {below + backbone.patch}"
        )
    origins = {"drawn": backbone.learning_rate, "imagenet": backbone.imagenet}
    if not origins.get(weights, True):
        others = [repr(origin) for origin, there in origins.items() if there]
        raise InputError(
            f"weights = {weights!r}: there are none for backbone {name!r}; take "
            f"{', '.join([*others, 'or the path of a .pt or .safetensors file'])}"
        )
