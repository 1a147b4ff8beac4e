import numpy as np
import pytest
from fairlearn import metrics as fairlearn
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score
from toys import resample_weights

from celeba_fl.data.schema import membership
from celeba_fl.evaluation.fairness import (
    compare_clients,
    compare_test,
    difference,
    differences,
    fractions,
    identity_bounds,
    outcomes,
    wilson_bounds,
)
from celeba_fl.evaluation.intervals import identity_sums, interval, wilson
from celeba_fl.evaluation.metrics import Counts, ratio

NAN = np.nan
ATTRIBUTES = ("Male", "Young", "Smiling")
METRICS = {
    "accuracy": accuracy_score,
    "tpr": fairlearn.true_positive_rate,
    "fpr": fairlearn.false_positive_rate,
    "selection_rate": fairlearn.selection_rate,
}


def rates(counts):
    return {name: ratio(*fraction) for name, fraction in fractions(counts).items()}


@st.composite
def judged(draw, least=1):
    """Predictions, labels and identities of up to 30 images, of a male group that may be empty."""
    n = draw(st.integers(least, 30))
    predicted, labels = draw(arrays(bool, (n, 3))), draw(arrays(bool, (n, 3)))
    labels[:, 0] &= draw(st.booleans())
    return predicted, labels, draw(arrays(np.int64, n, elements=st.integers(0, 6)))


def test_rates_and_differences_by_hand():
    # One attribute, three groups: examples, positives, true and false positives.
    counts = np.array([[10, 4, 3, 3], [20, 5, 5, 6], [5, 0, 0, 1]])[:, :, None]
    found = {name: values[:, 0].tolist() for name, values in rates(counts).items()}
    assert found.pop("accuracy") == [6 / 10, 14 / 20, 4 / 5]
    assert found.pop("fpr") == [3 / 6, 6 / 15, 1 / 5]
    assert found.pop("selection_rate") == [6 / 10, 11 / 20, 1 / 5]
    np.testing.assert_array_equal(found["tpr"], [3 / 4, 1, NAN])
    assert {name: float(value[0]) for name, value in differences(rates(counts)).items()} == {
        "demographic_parity_difference": pytest.approx(0.4),
        "equal_opportunity_difference": 0.25,
        "equalized_odds_difference": pytest.approx(0.3),
        "worst_group_accuracy": 0.6,
    }


def test_a_difference_needs_two_groups():
    values = np.array([[0.1, 0.1, NAN], [0.4, NAN, NAN], [NAN, NAN, NAN]])
    np.testing.assert_array_equal(difference(values), [0.4 - 0.1, NAN, NAN])


def test_odds_are_undefined_unless_both_rates_have_a_difference():
    counts = np.array([[4, 2, 1, 1], [4, 4, 2, 0]])[:, :, None]  # the second without negatives
    found = differences(rates(counts))
    assert found["equal_opportunity_difference"] == 0
    assert np.isnan(found["equalized_odds_difference"])


def test_nobody_at_all():
    found = differences(rates(np.zeros((2, 4, 1), int)))
    assert all(np.isnan(value).all() for value in found.values())


@settings(max_examples=25)
@given(judged(least=2))
def test_figures_are_fairlearns_where_they_are_defined(drawn):
    predicted, labels, _ = drawn
    member = membership(labels, ATTRIBUTES, ("Male", "Young"))
    found = rates(outcomes(predicted, labels, member).sum(axis=0))
    apart = differences(found)
    groups = member.argmax(axis=1)
    for a, (truth, yes) in enumerate(zip(labels.T, predicted.T, strict=True)):
        frame = fairlearn.MetricFrame(
            metrics=METRICS, y_true=truth, y_pred=yes, sensitive_features=groups
        ).by_group

        def spread(of, name, a=a, groups=groups, truth=truth, yes=yes):
            """Fairlearn's difference over the groups for which the rates are defined."""
            kept = np.isin(groups, np.flatnonzero(~np.isnan(found[name][:, a])))
            if len(set(groups[kept])) < 2:
                return NAN
            return of(truth[kept], yes[kept], sensitive_features=groups[kept])

        for g in range(4):
            here = groups == g
            for name, enough in (
                ("accuracy", here), ("tpr", here & truth),
                ("fpr", here & ~truth), ("selection_rate", here),
            ):  # fmt: skip
                expected = frame[name][g] if enough.any() else NAN
                np.testing.assert_allclose(found[name][g, a], expected)
        parity = spread(fairlearn.demographic_parity_difference, "selection_rate")
        np.testing.assert_allclose(apart["demographic_parity_difference"][a], parity)
        opportunity = spread(fairlearn.equal_opportunity_difference, "tpr")
        np.testing.assert_allclose(apart["equal_opportunity_difference"][a], opportunity)
        if not np.isnan([found["tpr"][:, a], found["fpr"][:, a]])[:, list(set(groups))].any():
            odds = spread(fairlearn.equalized_odds_difference, "accuracy")
            if len(set(groups)) > 1:
                np.testing.assert_allclose(apart["equalized_odds_difference"][a], odds)
        assert apart["worst_group_accuracy"][a] == frame["accuracy"].min()


@settings(max_examples=5)
@given(judged(least=4))
def test_bounds_are_those_of_weighted_scikit_learn(drawn):
    """One rate of one group, resample by resample with sample weights."""
    predicted, labels, ids = drawn
    member = membership(labels, ATTRIBUTES, ("Young",))
    bounds = identity_bounds(identity_sums(outcomes(predicted, labels, member), ids))
    young = labels[:, 1]
    weights = resample_weights(ids)[:, young]
    truth, yes = labels[young, 2], predicted[young, 2]
    draws = [
        accuracy_score(truth, yes, sample_weight=weight) if weight.any() else NAN
        for weight in weights
    ]
    low, high = interval(np.array(draws))
    if low < high - 1e-9:
        found = tuple(end[1, 2] for end in bounds["accuracy"])
        assert found == pytest.approx((low, high))


def test_bounds_of_differences_are_those_of_the_draws():
    rng = np.random.default_rng(0)
    predicted, labels = rng.random((2, 300, 3)) < 0.5
    ids = rng.integers(0, 30, 300)
    bounds = identity_bounds(
        identity_sums(outcomes(predicted, labels, membership(labels, ATTRIBUTES, ("Male",))), ids)
    )
    apart = []
    for weight in resample_weights(ids):
        selected = [
            np.average(predicted[labels[:, 0] == sex, 2], weights=weight[labels[:, 0] == sex])
            for sex in (0, 1)
        ]
        apart.append(abs(selected[0] - selected[1]))
    expected = tuple(np.quantile(apart, (0.025, 0.975)))
    found = tuple(end[2] for end in bounds["demographic_parity_difference"])
    assert found == pytest.approx(expected, abs=1e-6)
    for name, value in rates(outcomes(predicted, labels, labels[:, :1]).sum(axis=0)).items():
        low, high = (end[1] for end in bounds[name])
        assert (low[1:] < value[0, 1:]).all()
        assert (value[0, 1:] < high[1:]).all()


def test_where_all_draws_agree_people_count_as_one_image_each():
    # Three people with 1, 2 and 3 images, all of them right: 3 of 3, not 6 of 6.
    ids = np.array([1, 2, 2, 3, 3, 3])
    labels = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 0], [1, 1, 0]], bool)
    member = membership(labels, ATTRIBUTES, ("Young",))
    bounds = identity_bounds(identity_sums(outcomes(labels, labels, member), ids))
    low, high = bounds["accuracy"]
    two, one = (wilson(np.array(number), np.array(number)) for number in (2, 1))
    assert (low[0, 2], high[0, 2]) == two
    assert (low[1, 2], high[1, 2]) == one
    assert np.isnan([end[1, 2] for end in bounds["tpr"]]).all()  # no positive, no interval
    assert np.isnan([end[2] for end in bounds["worst_group_accuracy"]]).all()


def test_wilson_takes_examples_for_independent():
    counts = np.array([[10, 4, 3, 3], [20, 5, 5, 6]])[:, :, None]
    low, high = wilson_bounds(counts)["tpr"]
    for g, (successes, number) in enumerate([(3, 4), (5, 5)]):
        assert (low[g, 0], high[g, 0]) == wilson(np.array(successes), np.array(number))


def test_rows_of_test():
    labels = np.array([[0, 1, 1], [0, 0, 0], [0, 1, 0]], bool)  # nobody male
    predicted = np.array([[0, 1, 1], [0, 0, 1], [0, 1, 0]], bool)
    groupings = [("Male",), ("Young", "Male")]
    groups, fairness = compare_test(predicted, labels, np.array([5, 5, 8]), ATTRIBUTES, groupings)
    assert len(groups) == (2 + 4) * 3
    assert len(fairness) == 2 * 3
    assert [*groups[0]] == [
        "split", "grouping", "group", "attribute", "n", "positives", "identities",
        "accuracy", "accuracy_low", "accuracy_high", "tpr", "tpr_low", "tpr_high",
        "fpr", "fpr_low", "fpr_high",
        "selection_rate", "selection_rate_low", "selection_rate_high",
    ]  # fmt: skip
    female, male = groups[2], groups[5]
    assert [*female.values()][:7] == ["test", "Male", "Male=0", "Smiling", 3, 1, 2]
    assert (female["accuracy"], female["tpr"], female["fpr"]) == (2 / 3, 1, 1 / 2)
    assert [*male.values()][:7] == ["test", "Male", "Male=1", "Smiling", 0, 0, 0]
    assert np.isnan([*male.values()][7:]).all()
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
            same = [
                key for key in one if not key.endswith(("_low", "_high", "split", "identities"))
            ]
            for key in same:
                np.testing.assert_equal(one[key], other[key])
    row = ours[0][0]
    assert np.isnan(row["identities"])
    right = np.array(round(row["accuracy"] * row["n"]))
    assert (row["accuracy_low"], row["accuracy_high"]) == wilson(right, row["n"])
    assert np.isnan(ours[1][0]["worst_group_accuracy_low"])


def test_rows_of_nobody():
    groups, fairness = compare_test(
        np.zeros((0, 3), bool), np.zeros((0, 3), bool), np.zeros(0, int), ATTRIBUTES, [("Male",)]
    )
    assert {row["n"] for row in groups} == {0}
    assert {row["worst_group"] for row in fairness} == {""}
    assert np.isnan([row["worst_group_accuracy"] for row in fairness]).all()
