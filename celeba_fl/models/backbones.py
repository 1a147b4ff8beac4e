"""Frozen feature extractors: how each is built, and where its weights come from.

Weights of every origin end as one safetensors file named by their hash, ``home/weights/<sha256>``;
processes and machines agree on weights by that hash. Which file has which hash is kept as well: a
run on known weights imports neither torch nor torchvision on the server.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celeba_fl.data.table import Table
from celeba_fl.files import hash_key, keep, write_bytes
from celeba_fl.progress import LOG, InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Backbone:
    """An architecture; `build` gives a module from (n, 3, N, N) images to (n, dim) features.

    Parameters
    ----------
    dim : int
        Number of features an image.
    build : Callable[[], nn.Module]
        Makes the module with random weights; the keys of its state dict are torchvision's.
    imagenet : str (default: "")
        The name of torchvision's ImageNet weights; empty: there are none.
    learning_rate : float (default: 0.0)
        The highest in training on the drawn faces; 0: it is too large to be trained on them.
    patch : int (default: 1)
        Of what the edge N of an image must be a multiple.
    legacy : Mapping[str, str] (default: {})
        Parts of keys in older files of torchvision's, and what they are called now.
    mean, std : tuple[float, float, float]
        By which pixels in [0, 1] are normalised.
    """

    dim: int
    build: Callable[[], "nn.Module"]
    imagenet: str = ""
    learning_rate: float = 0.0
    patch: int = 1
    legacy: Mapping[str, str] = field(default_factory=dict)
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
            maps: torch.Tensor = self.features(images)
            return maps.mean(dim=(2, 3))

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
            features: torch.Tensor = self.encoder.ln(tokens)[:, 0]
            return features

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


def _vit_b_16() -> "nn.Module":
    return _vision_transformer(
        image_size=224, patch_size=16, num_layers=12, num_heads=12, hidden_dim=768, mlp_dim=3072
    )


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
        1280,
        _mobilenet_v2,
        imagenet="MobileNet_V2_Weights.IMAGENET1K_V2",
        learning_rate=3e-3,
    ),
    "vit_b_16": Backbone(
        768,
        _vit_b_16,
        imagenet="ViT_B_16_Weights.IMAGENET1K_V1",
        patch=16,
        legacy={"mlp.linear_1.": "mlp.0.", "mlp.linear_2.": "mlp.3."},
    ),
    "vit_tiny": Backbone(128, _vit_tiny, learning_rate=1e-3, patch=16),
}


def check_settings(name: str, weights: str, image_size: int) -> None:
    """Refuse settings that do not go together, whatever is on the disk.

    Raises
    ------
    InputError
        If the backbone takes no images of this size, or there are no weights of this name for it.
    """
    backbone = BACKBONES[name]
    below = image_size // backbone.patch * backbone.patch
    if image_size != below:
        raise InputError(
            f"image-size = {image_size}: must be a multiple of {backbone.patch}, the patch of "
            f"backbone {name!r}, such as {below} or {below + backbone.patch}"
        )
    origins = {"drawn": backbone.learning_rate, "imagenet": backbone.imagenet}
    if not origins.get(weights, True):
        others = [repr(origin) for origin, found in origins.items() if found]
        raise InputError(
            f"weights = {weights!r}: there are none for backbone {name!r}; take "
            f"{', '.join([*others, 'or the path of a .pt or .safetensors file'])}"
        )


def weights_path(home: Path, sha256: str) -> Path:
    """Where weights of this hash are kept."""
    return home / "weights" / f"{sha256}.safetensors"


def resolve_weights(name: str, weights: str, home: Path, drawn: Callable[[], Table]) -> str:
    """Make the weights that a run config names available under their hash.

    Parameters
    ----------
    name : str
        A key of `BACKBONES`.
    weights : str
        ``drawn`` (trained at first use), ``imagenet`` (downloaded at first use), or the path of a
        ``.pt`` or ``.safetensors`` file with torchvision's keys.
    home : Path
        Where they are kept.
    drawn : Callable[[], Table]
        Loads the drawn faces; called only when ``drawn`` weights must be trained.

    Returns
    -------
    str
        The SHA-256 (hex) of the extractor's weights.

    Raises
    ------
    InputError
        If the file is missing, unreadable or of another architecture, or the download fails.
    """
    if weights == "drawn":
        file = _drawn(name, home, drawn)
    elif weights == "imagenet":
        file = _imagenet(name, home)
    else:
        file = Path(weights).expanduser()
        if not file.is_file():
            raise InputError(
                f"weights = {weights!r}: no such file; take 'drawn', 'imagenet', "
                f"or the path of a .pt or .safetensors file"
            )
    stat = file.stat()
    key = hash_key(name, str(file.resolve()), stat.st_size, stat.st_mtime_ns)
    known = home / "weights" / f"{key}.sha256"
    if not known.exists() or not weights_path(home, known.read_text()).exists():
        from safetensors.torch import save

        state = _extractor_state(BACKBONES[name], name, weights, _read(file))
        sha256 = hash_state(state)
        write_bytes(weights_path(home, sha256), save(state))
        write_bytes(known, sha256.encode())
    return known.read_text()


def load_backbone(name: str, home: Path, sha256: str) -> "nn.Module":
    """The extractor with stored weights, frozen and in eval mode.

    Raises
    ------
    InputError
        If the content of the stored file does not have the hash in its name.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = weights_path(home, sha256)
    try:
        state = load_file(path)
    except SafetensorError:
        state = {}
    if hash_state(state) != sha256:
        raise InputError(f"{path} is damaged (its content has another hash); delete it")
    module = BACKBONES[name].build()
    module.load_state_dict(state, strict=False)
    return module.eval().requires_grad_(False)


def hash_state(state: Mapping[str, "torch.Tensor"]) -> str:
    """SHA-256 (hex) over keys, types, shapes and values, whatever file they came in."""
    digest = hashlib.sha256()
    for key in sorted(state):
        array = state[key].contiguous().numpy()
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _extractor_state(backbone: Backbone, name: str, weights: str, state: Any) -> "State":
    """Keep the extractor's tensors, and refuse weights that do not fit it."""
    import torch

    if not isinstance(state, Mapping) or not all(torch.is_tensor(v) for v in state.values()):
        raise InputError(f"weights = {weights!r}: not a state dict (a mapping of names to tensors)")
    with torch.device("meta"):  # only the shapes matter
        module = backbone.build()
    wanted = {
        key: value.shape
        for key, value in module.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    for old, new in backbone.legacy.items():
        state = {key.replace(old, new): value for key, value in state.items()}
    found = {key: value for key, value in state.items() if key in wanted}
    wrong = [k for k in wanted if k not in found or found[k].shape != wanted[k]]
    if wrong:
        raise InputError(
            f"weights = {weights!r} are not those of backbone {name!r}: {len(wrong)} of "
            f"{len(wanted)} tensors are missing or of another shape, e.g. {wrong[0]!r}; "
            f"its keys must be torchvision's"
        )
    return {key: found[key].detach().to("cpu", torch.float32).contiguous() for key in wanted}


def _read(path: Path) -> Any:
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # no end to what pickle raises, nor to what torch advises then
        raise InputError(
            f"weights = {str(path)!r} is no whole file of tensors ({type(error).__name__}); "
            f"it must be a state dict as torch.save or safetensors writes it"
        ) from error


def _imagenet(name: str, home: Path) -> Path:
    """Torchvision's weights, downloaded once a home."""
    file = home / "weights" / f"imagenet-{name}.pth"

    def download(path: Path) -> None:
        from torchvision.models import get_weight

        enum = get_weight(BACKBONES[name].imagenet)
        LOG.info("Downloading %s", enum.url)
        try:
            enum.get_state_dict(progress=False, model_dir=str(path.parent), check_hash=True)
        except (OSError, RuntimeError) as error:  # unreachable, or of another hash
            raise InputError(
                f"weights = 'imagenet': cannot download {enum.url} ({error}); put that file "
                f"at {file}, give the path of another, or take weights = 'drawn'"
            ) from error
        (path.parent / Path(enum.url).name).rename(path)

    return keep(file, download)


def _drawn(name: str, home: Path, drawn: Callable[[], Table]) -> Path:
    """Weights trained on the drawn faces, once a home."""

    def train(path: Path) -> None:
        from safetensors.torch import save_file

        from celeba_fl.models.pretrain import pretrain

        save_file(pretrain(BACKBONES[name], drawn()).state_dict(), path)

    return keep(home / "weights" / f"drawn-{name}.safetensors", train)
