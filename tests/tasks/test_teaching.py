import numpy as np

from celeba_fl.data.teacher import UNASKED, UNSURE
from celeba_fl.tasks.teaching import targets

YES, NO = True, False
LABELS = np.array([[YES, NO, YES], [NO, NO, YES]])
ANSWERS = np.array([[1, 1, UNSURE], [0, UNASKED, 0]], np.int8)
PREDICTED = np.array([[NO, YES, YES], [NO, YES, YES]])


def test_annotations_are_all_learned_from() -> None:
    taught, counted = targets(LABELS, None, None)
    np.testing.assert_array_equal(taught, LABELS)
    assert counted.all()


def test_only_contradicted_annotations() -> None:
    taught, counted = targets(LABELS, None, PREDICTED)
    np.testing.assert_array_equal(taught, LABELS)
    np.testing.assert_array_equal(counted, [[YES, YES, NO], [NO, YES, NO]])


def test_a_teacher_stands_in_for_annotations_where_it_is_sure() -> None:
    taught, counted = targets(LABELS, ANSWERS, None)
    np.testing.assert_array_equal(counted, [[YES, YES, NO], [YES, NO, YES]])
    np.testing.assert_array_equal(taught[counted], [YES, YES, NO, NO])


def test_only_contradicted_answers() -> None:
    _, counted = targets(LABELS, ANSWERS, PREDICTED)
    np.testing.assert_array_equal(counted, [[YES, NO, NO], [NO, NO, YES]])
