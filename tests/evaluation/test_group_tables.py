"""Rows of groups and of their differences, of test images and of clients' counts."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import t as student_t

from celeba_fl.data.schema import membership
from celeba_fl.evaluation.corrections import holm
from celeba_fl.evaluation.fairness import count_groups, grouped_counts
from celeba_fl.evaluation.group_tables import client_moments, compare_clients, compare_test
from celeba_fl.evaluation.metrics import Counts

ATTRIBUTES = ("Male", "Young", "Smiling")


def test_rows_of_test():
    labels = np.array([[0, 1, 1], [0, 0, 0], [0, 1, 0]], bool)  # nobody male
    predicted = np.array([[0, 1, 1], [0, 0, 1], [0, 1, 0]], bool)
    groupings = [("Male",), ("Young", "Male")]
    groups, fairness = compare_test(predicted, labels, np.array([5, 5, 8]), ATTRIBUTES, groupings)
    assert len(groups) == (2 + 4) * 3
    assert len(fairness) == 2 * 3
    assert [*groups[0]][:-2] == [
        "split", "grouping", "group", "attribute", "n", "positives", "identities",
        "accuracy", "accuracy_low", "accuracy_high", "tpr", "tpr_low", "tpr_high",
        "fpr", "fpr_low", "fpr_high",
        "selection_rate", "selection_rate_low", "selection_rate_high",
    ]  # fmt: skip
    female, male = groups[2], groups[5]
    assert [*female.values()][:7] == ["test", "Male", "Male=0", "Smiling", 3, 1, 2]
    assert (female["accuracy"], female["tpr"], female["fpr"]) == (2 / 3, 1, 1 / 2)
    assert [*male.values()][:7] == ["test", "Male", "Male=1", "Smiling", 0, 0, 0]
    assert np.isnan([*male.values()][7:-2]).all()
    assert (female["identities_with"], female["identities_without"]) == (1, 2)
    assert (male["identities_with"], male["identities_without"]) == (0, 0)
    assert groups[-1]["group"] == "Young=1,Male=1"

    alone, crossed = fairness[2], fairness[5]
    assert [*alone.values()][:3] == ["test", "Male", "Smiling"]
    assert np.isnan(alone["demographic_parity_difference"])
    assert (alone["worst_group_accuracy"], alone["worst_group"]) == (2 / 3, "Male=0")
    assert [*crossed.values()][:3] == ["test", "Young,Male", "Smiling"]
    assert crossed["demographic_parity_difference"] == 0.5
    assert np.isnan(crossed["equal_opportunity_difference"])
    assert (crossed["worst_group_accuracy"], crossed["worst_group"]) == (0, "Young=0,Male=0")


def test_rows_of_clients_are_those_of_the_same_examples():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(60, 3)), rng.random((60, 3)) < 0.4
    thresholds = np.array([0.5, 0, -0.25])
    groupings = [("Male",), ("Male", "Young"), ("Young",)]
    members = [membership(labels, ATTRIBUTES, grouping) for grouping in groupings]
    counts = Counts.stack(
        [Counts.of(scores[m], labels[m]) for m in np.concatenate(members, axis=1).T]
    )
    ours = compare_clients("valid", counts.at(thresholds), ATTRIBUTES, groupings)
    pooled = compare_test(scores > thresholds, labels, np.arange(60), ATTRIBUTES, groupings)
    for mine, theirs in zip(ours, pooled, strict=True):
        assert len(mine) == len(theirs)
        for one, other in zip(mine, theirs, strict=True):
            assert one["split"] == "valid"
            of_people = "_low _high _chance _p _p_holm _with _without split identities compared"
            for key in one:
                if not key.endswith(tuple(of_people.split())):
                    np.testing.assert_equal(one[key], other[key])
    # Whose images these are is unknown, and images are no people: no interval, nothing compared.
    for rows in ours:
        for row in rows:
            ends = [value for key, value in row.items() if key.endswith(("_low", "_high"))]
            assert np.isnan(ends).all()
    assert {row["compared"] for row in ours[1]} == {"people unknown", "defines the groups"}


def clients_of(number: int) -> tuple[list[dict[str, dict[str, np.ndarray]]], np.ndarray]:
    """Counts of clients by part, and (clients, 2) true positives and positives of young people."""
    rng, sent, young = np.random.default_rng(0), [], []
    for _ in range(number):
        labels = rng.random((30, 3)) < (0.4, 0.7, 0.5)
        scores = rng.normal(size=(30, 3)) + rng.normal() + labels
        sent.append({"valid": count_groups(scores, labels, ATTRIBUTES, [("Young",)])})
        here = labels[:, 1] & labels[:, 2]
        young.append((np.sum(here & (scores[:, 2] > 0.5)), here.sum()))
    return sent, np.array(young)


@pytest.mark.parametrize("number", [9, 12])
def test_clients_are_the_draws_of_their_counts(number: int) -> None:
    """The linear form by hand, with as many degrees of freedom as clients, minus 1."""
    sent, young = clients_of(number)
    thresholds = np.full(3, 0.5)
    keys = ("group_positives", "group_negatives")
    total = {key: np.sum([one["valid"][key].astype(int) for one in sent], axis=0) for key in keys}
    counts = grouped_counts(total).at(thresholds)
    moments = client_moments(sent, lambda counts: counts.at(thresholds))["valid"]
    rows, fairness = compare_clients("valid", counts, ATTRIBUTES, [("Young",)], moments)
    (row,) = (r for r in rows if (r["group"], r["attribute"]) == ("Young=1", "Smiling"))
    tp, p = young.sum(axis=0)
    assert row["tpr"] == tp / p
    if number < 10:
        assert np.isnan([row["tpr_low"], row["tpr_high"]]).all()
        return
    residuals = young[:, 0] - tp / p * young[:, 1]
    error = np.sqrt((residuals**2).sum() * number / (number - 1)) / p
    half = student_t.ppf(0.975, number - 1) * error / (tp / p * (1 - tp / p))
    expected = expit(logit(tp / p) - half), expit(logit(tp / p) + half)
    assert (row["tpr_low"], row["tpr_high"]) == pytest.approx(expected, rel=1e-4)
    assert np.isnan([row["identities"], row["identities_with"]]).all()
    assert [row["compared"] for row in fairness] == ["yes", "defines the groups", "yes"]
    assert fairness[2]["tpr_difference_low"] < fairness[2]["tpr_difference"]
    assert np.isnan(fairness[2]["equalized_odds_difference_p"])


def test_chance_is_corrected_for_the_attributes_that_are_compared() -> None:
    rng = np.random.default_rng(0)
    ids = np.repeat(np.arange(40), 20)
    labels = rng.random((800, 3)) < 0.5
    labels[:, 0] = ids % 2 == 0  # a group of people
    predicted = labels ^ (rng.random((800, 3)) < 0.2 + 0.3 * labels[:, :1] * (0, 1, 0))
    groups, fairness = compare_test(predicted, labels, ids, ATTRIBUTES, [("Male",)])
    assert [row["compared"] for row in fairness] == ["defines the groups", "yes", "yes"]
    assert [groups[i]["identities_with"] for i in (1, 4)] == [20, 20]
    young, smiling = fairness[1:]
    assert young["accuracy_difference"] == groups[4]["accuracy"] - groups[1]["accuracy"]
    assert young["accuracy_difference_high"] < 0
    assert smiling["accuracy_difference_low"] < 0 < smiling["accuracy_difference_high"]
    for gap in ("demographic_parity", "equal_opportunity", "equalized_odds"):
        p = np.array([row[f"{gap}_difference_p"] for row in fairness])
        adjusted = [row[f"{gap}_difference_p_holm"] for row in fairness]
        np.testing.assert_array_equal(adjusted, [np.nan, *holm(p[1:])])
    assert young["equalized_odds_difference_p_holm"] == 0.002
    assert smiling["equalized_odds_difference_p_holm"] > 0.05


def test_rows_of_nobody():
    groups, fairness = compare_test(
        np.zeros((0, 3), bool), np.zeros((0, 3), bool), np.zeros(0, int), ATTRIBUTES, [("Male",)]
    )
    assert {row["n"] for row in groups} == {0}
    assert {row["worst_group"] for row in fairness} == {""}
    assert np.isnan([row["worst_group_accuracy"] for row in fairness]).all()
