import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import t as student_t

from celeba_fl.data.teacher import UNASKED, UNSURE
from celeba_fl.evaluation.corrections import (
    agreement,
    compare,
    count_answers,
    holm,
    mcnemar,
    teacher_rows,
)

YES, NO = True, False
LABELS = np.array([[YES, NO, YES], [NO, NO, YES]])
ANSWERS = np.array([[1, 1, UNSURE], [0, UNASKED, 0]], np.int8)
PREDICTED = np.array([[NO, YES, YES], [NO, YES, YES]])


def test_answers_are_counted_by_attribute():
    counts = count_answers(ANSWERS, LABELS, PREDICTED)
    assert {key: value.tolist() for key, value in counts.items()} == {
        "teacher_asked": [2, 1, 2],
        "teacher_answered": [2, 1, 1],
        "teacher_agreed": [1, 1, 0],
        "teacher_right": [2, 0, 0],
    }
    assert agreement(counts) == 2 / 4
    rows = teacher_rows("train", counts, ("a", "b", "c"))
    assert [(row["attribute"], row["agreement"], row["accuracy"]) for row in rows] == [
        ("a", 0.5, 1.0),
        ("b", 1.0, 0.0),
        ("c", 0.0, 0.0),
    ]


def test_without_answers_agreement_is_undefined():
    nothing = count_answers(ANSWERS[:0], LABELS[:0], PREDICTED[:0])
    assert np.isnan(agreement(nothing))
    assert np.isnan(teacher_rows("train", nothing, ("a", "b", "c"))[0]["accuracy"])


def test_mcnemar_by_hand():
    assert mcnemar(0, 0) == 1
    assert mcnemar(3, 3) == 1
    assert mcnemar(5, 0) == 2 / 32
    assert mcnemar(1, 5) == mcnemar(5, 1) == 2 * (1 + 6) / 64


@pytest.mark.parametrize(("fixed", "broken"), [(10, 3), (200, 260), (2500, 900)])
def test_mcnemar_is_the_exact_binomial_test(fixed, broken):
    expected = binomtest(fixed, fixed + broken).pvalue
    assert mcnemar(fixed, broken) == pytest.approx(expected, rel=1e-9)


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03 times 3, 2, 1: 0.03, 0.04, and 0.03, which must not be less.
    np.testing.assert_allclose(holm(np.array([0.03, 0.01, 0.02])), [0.04, 0.03, 0.04])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])


NAMES = ("Male", "Smiling")
# Of Smiling the final model fixes images 0 and 1, and breaks image 4; of Male it changes none.
TRUTH = np.array([[1, 1], [1, 0], [0, 1], [0, 0], [0, 1], [1, 1]], bool)
BASE = np.array([[1, 0], [1, 1], [0, 1], [0, 0], [0, 1], [1, 0]], bool)
FINAL = np.array([[1, 1], [1, 0], [0, 1], [0, 0], [0, 0], [1, 0]], bool)
PEOPLE = np.array([1, 1, 2, 2, 3, 3])


def row(group, attribute):
    rows = compare(BASE, FINAL, TRUTH, PEOPLE, NAMES, [("Male",)])
    (found,) = (r for r in rows if (r["group"], r["attribute"]) == (group, attribute))
    return found


def test_what_was_fixed_and_broken():
    found = row("", "Smiling")
    assert (found["n"], found["fixed"], found["broken"]) == (6, 2, 1)
    assert (found["base_accuracy"], found["accuracy"]) == (3 / 6, 4 / 6)
    assert found["difference"] == pytest.approx(1 / 6)
    assert found["p"] == 1
    assert (row("", "Male")["fixed"], row("", "Male")["base_accuracy"]) == (0, 1)


def test_all_attributes_together_have_no_p():
    found = row("", "")
    assert (found["n"], found["fixed"], found["broken"]) == (12, 2, 1)
    assert found["difference"] == pytest.approx(1 / 12)
    assert np.isnan([found["p"], found["p_holm"]]).all()


def test_groups_of_the_annotations():
    assert (row("Male=1", "Smiling")["n"], row("Male=1", "Smiling")["fixed"]) == (3, 2)
    assert (row("Male=0", "Smiling")["n"], row("Male=0", "Smiling")["broken"]) == (3, 1)
    assert row("Male=1", "Smiling")["grouping"] == "Male"


def test_intervals_are_students_over_people():
    # Of 12 people with 2 images each, 5 gain one and one loses one.
    labels, ids = np.ones((24, 2), bool), np.repeat(np.arange(12), 2)
    base, final = labels.copy(), labels.copy()
    base[:10:2, 1] = False
    final[10, 1] = False
    rows = compare(base, final, labels, ids, NAMES, [])
    (found,) = (r for r in rows if r["attribute"] == NAMES[1])
    gains = np.array([0.5] * 5 + [-0.5] + [0] * 6)
    half = student_t.ppf(0.975, 11) * gains.std(ddof=1) / 12**0.5
    assert found["difference_low"] == pytest.approx(gains.mean() - half)
    assert found["difference_high"] == pytest.approx(gains.mean() + half)


def test_intervals_stay_within_what_is_possible():
    # Person 1 gains 2 of 2 images, person 2 none, person 3 loses 1 of 2.
    found = row("", "Smiling")
    assert (found["difference_low"], found["difference_high"]) == (-1, 1)


def test_an_empty_group_is_undefined():
    labels = np.zeros((2, 2), bool)
    rows = compare(labels, ~labels, labels, np.array([1, 2]), NAMES, [("Male",)])
    (found,) = (r for r in rows if (r["group"], r["attribute"]) == ("Male=1", "Smiling"))
    assert found["n"] == 0
    assert np.isnan([found["accuracy"], found["difference"], found["difference_low"]]).all()
