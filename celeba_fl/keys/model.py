"""Keys: the frozen backbone, its features, and the networks that are trained."""

from dataclasses import dataclass

from celeba_fl.common.keys import Keyed, key
from celeba_fl.keys.readers import FACES, HEAD


@dataclass(frozen=True)
class ModelKeys(Keyed):
    """The frozen backbone, its features, and the networks that are trained."""

    backbone: str = key("frozen feature extractor", "mobilenet_v2", of=FACES)
    weights: str = key(
        "`drawn`, `imagenet`, or a .pt or .safetensors file",
        "drawn",
        of=FACES,
        kind="path",
        words=("drawn", "imagenet"),
    )
    allow_drawn_weights: bool = key(
        "whether `drawn` weights may see other images than drawn faces", False, of=FACES
    )
    features: str = key(
        "what the head sees of an image: `last`, a name such as `balanced`, or stages on grids",
        "balanced",
        of=HEAD,
    )
    image_size: int = key(
        "edge in pixels to which images are resized, 32 or more; 0: what goes with the features",
        0,
        low=0,
        high=1024,
        of=FACES,
    )
    precision: str = key(
        "how exactly features are computed; bf16 is faster; auto: bf16 where the server can",
        "fp32",
        choices=("fp32", "bf16", "auto"),
        of=HEAD,
    )
    classes: str = key(
        "names of the classes, comma-separated; empty: the data's own", "", of="lenet", empty=True
    )
    feature_maps: int = key("width of both networks; 64 in the paper", 64, low=1, of="dcgan")
    exchange: str = key(
        "networks that travel: both, or the generator alone",
        "both",
        choices=("both", "generator"),
        of="dcgan",
    )
