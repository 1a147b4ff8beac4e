import numpy as np
import pytest
from fairlearn import metrics as fairlearn
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score

from celeba_fl.data.schema import membership
from celeba_fl.evaluation.fairness import difference, differences, fractions, outcomes
from celeba_fl.evaluation.metrics import ratio

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
                expected = METRICS[name](truth[here], yes[here]) if enough.any() else NAN
                np.testing.assert_allclose(found[name][g, a], expected)
        parity = spread(fairlearn.demographic_parity_difference, "selection_rate")
        np.testing.assert_allclose(apart["demographic_parity_difference"][a], parity)
        opportunity = spread(fairlearn.equal_opportunity_difference, "tpr")
        np.testing.assert_allclose(apart["equal_opportunity_difference"][a], opportunity)
        if not np.isnan([found["tpr"][:, a], found["fpr"][:, a]])[:, list(set(groups))].any():
            odds = spread(fairlearn.equalized_odds_difference, "accuracy")
            if len(set(groups)) > 1:
                np.testing.assert_allclose(apart["equalized_odds_difference"][a], odds)
        accuracies = [accuracy_score(truth[groups == g], yes[groups == g]) for g in set(groups)]
        assert apart["worst_group_accuracy"][a] == min(accuracies)
