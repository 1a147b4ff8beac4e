"""Keys: what the average of a round stands, and attacks to try it with."""

from dataclasses import dataclass

from celeba_fl.common.keys import Keyed, key


@dataclass(frozen=True)
class RobustKeys(Keyed):
    """What the average of a round stands, and attacks to try it with."""

    attackers_expected: float = key(
        "fraction of a round's clients that a robust strategy is to stand", 0.2, low=0, below=0.5
    )
    pre_aggregation: str = key(
        "what becomes of models before the strategy: each mixed with its nearest, or averaged in "
        "buckets",
        "none",
        choices=("none", "nnm", "bucketing"),
    )
    bucket_size: int = key("number of models that bucketing averages", 2, low=2)
    clipping_radius: float = key(
        "distance from the last step beyond which centred-clipping shortens a step; 0: the median",
        0.0,
        low=0,
    )
    attack: str = key(
        "what some clients of a simulation do to the others; refused in a deployment",
        "none",
        choices=(
            *("none", "sign-flip", "scale", "gaussian", "label-flip"),
            *("alie", "ipm", "mimic", "sums"),
        ),
    )
    attackers: float = key("fraction of the clients that attack", 0.3, above=0, below=1)
    attack_strength: float = key("size of the attack; 0: what is usual for it", 0.0, low=0)
