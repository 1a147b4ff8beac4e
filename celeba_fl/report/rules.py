"""By which rule a run answers yes or no, and what its probabilities are, in words."""

from collections.abc import Mapping
from typing import Any


def rule_of(config: Mapping[str, Any]) -> str:
    """At which thresholds the figures of a final model stand."""
    rule = config.get("thresholds", "zero")
    if rule == "zero":
        where = "at threshold 0, a probability of one half"
    else:
        where = "at the threshold of each attribute that is best on validation"
    if rule == "capped":
        most = f"{config.get('accuracy-cost', 1.0):g}"
        points = "point" if most == "1" else "points"
        where += f" and costs at most {most} {points} of accuracy there"
    return where + (", of recalibrated scores" if recalibrated(config) else "")


def at(config: Mapping[str, Any]) -> str:
    """The same in brief, for a card."""
    return (
        "at threshold 0" if config.get("thresholds", "zero") == "zero" else "at chosen thresholds"
    )


def recalibrated(config: Mapping[str, Any]) -> bool:
    """Whether the final scores got a slope and an offset."""
    return config.get("calibration", "none") != "none"


def about_rule(config: Mapping[str, Any]) -> str:
    """How accuracy, balanced accuracy and F1 of a final model came about, for readers."""
    text = f"Accuracy, balanced accuracy, F1 and the rates of groups are {rule_of(config)}."
    if config.get("thresholds", "zero") != "zero":
        text += (
            " Where validation has fewer than ten examples with an attribute, or without it, its "
            "threshold stays 0."
        )
    return text


def about_curves(config: Mapping[str, Any]) -> str:
    """What the curves of the rounds are not: the final figures; empty where they are."""
    final = [
        *(["thresholds"] if config.get("thresholds", "zero") != "zero" else []),
        *(["recalibration"] if recalibrated(config) else []),
    ]
    if not final:
        return "All curves are at threshold 0."
    return (
        f"All curves are at threshold 0, of scores as the model gives them: {' and '.join(final)} "
        f"are of the final model only, so its figures above may differ from where the curves end."
    )
