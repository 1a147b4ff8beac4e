"""Keys: how models are judged."""

from dataclasses import dataclass

from celeba_fl.common.keys import Keyed, key
from celeba_fl.keys.readers import HEAD


@dataclass(frozen=True)
class JudgingKeys(Keyed):
    """How models are judged."""

    thresholds: str = key(
        "score above which an attribute is predicted: 0, or the best on validation, of all or of "
        "those that cost no more than `accuracy-cost`",
        "zero",
        choices=("zero", "valid", "capped"),
        of=HEAD,
    )
    accuracy_cost: float = key(
        "points of accuracy on validation that a capped threshold may cost an attribute",
        1.0,
        low=0,
        high=100,
        of=HEAD,
    )
    calibration: str = key(
        "whether the final scores of each attribute get a slope and an offset that make their "
        "probabilities right on validation",
        "none",
        choices=("none", "valid"),
        of=HEAD,
    )
    groupings: str = key(
        "attributes whose combinations are compared for fairness",
        "Male; Young; Male,Young",
        of=HEAD,
    )
