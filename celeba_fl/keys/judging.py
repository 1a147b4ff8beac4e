"""Keys: how models are judged."""

from dataclasses import dataclass

from celeba_fl.common.keys import Keyed, key
from celeba_fl.keys.readers import HEAD


@dataclass(frozen=True)
class JudgingKeys(Keyed):
    """How models are judged."""

    thresholds: str = key(
        "score above which an attribute is predicted: 0, or the best on validation",
        "zero",
        choices=("zero", "valid"),
        of=HEAD,
    )
    groupings: str = key(
        "attributes whose combinations are compared for fairness",
        "Male; Young; Male,Young",
        of=HEAD,
    )
