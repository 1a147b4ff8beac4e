"""Keys: how much what a run releases may tell of a person, and who adds the noise for that."""

from dataclasses import dataclass

from celeba_fl.common.keys import Keyed, key
from celeba_fl.keys.readers import HEAD


@dataclass(frozen=True)
class PrivacyKeys(Keyed):
    """How much what a run releases may tell of a person, and who adds the noise for that."""

    privacy_epsilon: float = key(
        "budget of differential privacy that a run may spend; 0: off, and nothing is noisy",
        0.0,
        low=0,
        high=20,
        of=HEAD,
    )
    privacy_delta: float = key(
        "chance with which that promise may fail; should be below 1 / number of those protected",
        1e-5,
        above=0,
        high=0.01,
        of=HEAD,
    )
    privacy_unit: str = key(
        "whose presence it hides: all images of a person, one image, or (fedavg) a whole client",
        "person",
        choices=("person", "image", "client"),
        of=HEAD,
    )
    max_images: int = key(
        "number of a person's images that count, if a person is the unit", 10, low=1, of=HEAD
    )
    privacy_dim: int = key(
        "number of public directions that features are projected onto before noise is added",
        128,
        low=1,
        high=1024,
        of=HEAD,
    )
    privacy_noise: str = key(
        "who adds the noise: each client its part under the masks, or a server that sees sums",
        "clients",
        choices=("clients", "server"),
        of=HEAD,
    )
    privacy_evaluation: float = key(
        "share of the budget for evaluation on clients' images; 0: none leaves them",
        0.0,
        low=0,
        below=1,
        of=HEAD,
    )
