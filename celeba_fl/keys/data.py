"""Keys: what is learned from which images, and who holds them."""

from dataclasses import dataclass

from celeba_fl.common.keys import Keyed, key
from celeba_fl.keys.readers import FACES, HEAD, IMAGES


@dataclass(frozen=True)
class DataKeys(Keyed):
    """What is learned from which images, and who holds them."""

    task: str = key("what is learned: attributes, lenet, dcgan, or module:Class", "attributes")
    dataset: str = key(
        "`drawn`, a hub id (`flwrlabs/celeba`), a folder, or `none` (clients bring their own)",
        "drawn",
        of=IMAGES,
        kind="path",
        words=("drawn", "none"),
    )
    partitioner: str = key(
        "how images are divided among clients",
        "iid",
        choices=("iid", "dirichlet", "natural"),
        of=IMAGES,
    )
    partition_by: str = key(
        "attributes whose combinations dirichlet skews (lenet: the class)", "Male,Young", of=FACES
    )
    dirichlet_alpha: float = key(
        "concentration of dirichlet; small values are skewed", 0.1, above=0, of=IMAGES
    )
    dirichlet_order: str = key(
        "order in which dirichlet deals images", "shuffled", choices=("shuffled", "rows"), of=IMAGES
    )
    min_partition_size: int = key("fewest images of a client under dirichlet", 0, low=0, of=IMAGES)
    partition_size: int = key(
        "images of each client under iid, exactly; 0: all are dealt", 0, low=0, of=IMAGES
    )
    public_fraction: float = key(
        "fraction of images that no client holds, for init or scaling = 'public'",
        0.0,
        low=0,
        high=0.9,
        of=HEAD,
    )
    valid_fraction: float = key(
        "fraction of a client's images that it validates on", 0.2, low=0, high=0.9, of=IMAGES
    )
    valid_by: str = key(
        "whether single images validate, or all images of a person: people not trained on",
        "image",
        choices=("image", "identity"),
        of=FACES,
    )
    bad_images: str = key(
        "whether a run skips an unreadable image or fails", "skip", choices=("skip", "fail")
    )
    labels: str = key(
        "labels to train on", "annotations", choices=("annotations", "teacher"), of=HEAD
    )
    teacher: str = key(
        "file of the teacher's answers, or `simulated`",
        "simulated",
        of=HEAD,
        kind="path",
        words=("simulated",),
    )
    teacher_error: str = key(
        "error rate of a simulated teacher: 0.1, or 0.1, Bald=0.02, Male=0", "0.1", of=HEAD
    )
    teacher_confidence: float = key(
        "confidence below which a teacher's answer is ignored", 0.0, low=0, high=1, of=HEAD
    )
