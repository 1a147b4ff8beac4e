"""The words for thresholds and probabilities."""

from celeba_fl.report.rules import about_curves, about_rule, at, rule_of


def test_a_run_of_any_age_says_at_which_thresholds_it_stands() -> None:
    assert rule_of({}) == "at threshold 0, a probability of one half"
    best = "at the threshold of each attribute that is best on validation"
    assert rule_of({"thresholds": "valid"}) == best
    capped = {"thresholds": "capped", "accuracy-cost": 0.5}
    assert rule_of(capped) == f"{best} and costs at most 0.5 points of accuracy there"
    assert rule_of({"thresholds": "capped"}).endswith("at most 1 point of accuracy there")
    assert at({}) == "at threshold 0"
    assert at(capped) == "at chosen thresholds"
    both = {"thresholds": "valid", "calibration": "valid"}
    assert rule_of(both) == f"{best}, of recalibrated scores"


def test_curves_are_told_apart_from_the_final_figures() -> None:
    assert about_curves({"thresholds": "zero"}) == "All curves are at threshold 0."
    assert "thresholds are of the final model only" in about_curves({"thresholds": "capped"})
    both = about_curves({"thresholds": "valid", "calibration": "valid"})
    assert "thresholds and recalibration are of the final model only" in both
    assert "its threshold stays 0" in about_rule({"thresholds": "valid"})
    assert "stays 0" not in about_rule({})
