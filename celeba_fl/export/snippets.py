"""A few lines of PyTorch that load an exported model, for people who do not have this package."""

from collections.abc import Sequence

from torch import nn

from celeba_fl.vision.views import View

IMPORTS = "import torch", "from safetensors.torch import load_file"
OF_PICTURES = (
    "from PIL import Image",
    "from torchvision.transforms.functional import normalize, pil_to_tensor",
)
OF_FACES = "from torchvision.models import mobilenet_v2"
OF_LAYERS = "from collections import OrderedDict", "from torch import nn"
STATE = """
state = load_file("model.safetensors")
"""
OPEN = """\
image = Image.open("picture.jpg").convert("RGB").resize(({size}, {size}), Image.Resampling.BILINEAR)
pixels = normalize(pil_to_tensor(image)[None] / 255, {mean}, {std})
"""
WHOLE = """\
model = mobilenet_v2(num_classes=len(state["classifier.1.bias"])).eval()
model.load_state_dict(state)
probabilities = model(pixels).sigmoid()[0]
"""
# A view other than the backbone's own features.
STAGES = """\
blocks = mobilenet_v2().features[:{number}].eval()
blocks.load_state_dict({{key[9:]: one for key, one in state.items() if key[:9] == "features."}})
features = []
for stage, block in enumerate(blocks):
    pixels = block(pixels)
    for number, at in enumerate({stages}):
        if at == stage:
            features.append((pixels.flatten(2) @ state[f"pooling.{{number}}"]).flatten(1))
"""
LAST = "features.append(pixels.mean((2, 3)))\n"
CATENATED = "features = torch.cat(features, dim=1)\n"
MIRROR = "pixels = torch.cat([pixels, pixels.flip(-1)])\n"
MIRRORED = "features = features.unflatten(0, (2, -1)).mean(dim=0)\n"
HEAD = """\
scores = features @ state["classifier.1.weight"].T + state["classifier.1.bias"]
probabilities = scores.sigmoid()[0]
"""
CLASSES = "probabilities = model(pixels).softmax(1)[0]\n"
PICTURES = """\
noise = torch.randn(16, {noise})
pictures = ((model(noise) + 1) * 127.5).round().to(torch.uint8)
"""


def faces(view: View, mean: Sequence[float], std: Sequence[float]) -> str:
    """From a face to the probabilities; empty for a backbone that torchvision has in part alone."""
    if view.backbone != "mobilenet_v2":
        return ""
    opened = _opened([OF_FACES], view.image_size, mean, std)
    if view.features == "last":
        return opened + WHOLE
    stages = [grid.stage for grid in view.grids]
    number = None if view.last else stages[-1] + 1
    parts = [opened, STAGES.format(number=number or "", stages=stages), CATENATED, HEAD]
    if view.last:
        parts.insert(2, LAST)
    if view.mirrored:
        parts.insert(1, MIRROR)
        parts.insert(-1, MIRRORED)
    return "".join(parts)


def classes(network: nn.Sequential, size: int, mean: Sequence[float], std: Sequence[float]) -> str:
    """From a picture to the probabilities of classes."""
    return _opened(OF_LAYERS, size, mean, std) + _built(network) + CLASSES


def pictures(network: nn.Sequential, noise: int) -> str:
    """From noise to pictures."""
    return _imported(OF_LAYERS) + STATE + _built(network) + PICTURES.format(noise=noise)


def _opened(imports: Sequence[str], size: int, mean: Sequence[float], std: Sequence[float]) -> str:
    """Code that loads the tensors, and a picture as `pixels`."""
    opened = OPEN.format(size=size, mean=[*mean], std=[*std])
    return _imported([*OF_PICTURES, *imports]) + STATE + opened


def _imported(more: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in sorted([*IMPORTS, *more], key=_plain_first))


def _plain_first(line: str) -> tuple[bool, str]:
    return line.startswith("from"), line


def _built(network: nn.Sequential) -> str:
    """Code that builds a network and gives it its tensors."""
    layers = "".join(f"    {name}=nn.{layer!r},\n" for name, layer in network.named_children())
    layers = layers.replace(", bias=True", "")  # the default, which older versions do not write
    return (
        f"model = nn.Sequential(OrderedDict(\n{layers}))\n"
        "model.load_state_dict(state)\nmodel.eval()\n"
    )
