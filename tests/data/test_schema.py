import numpy as np

from celeba_fl.data.schema import group_names, membership

ATTRIBUTES = ("Male", "Young", "Smiling")


def test_groups_by_hand():
    assert group_names(("Male", "Young")) == [
        "Male=0,Young=0", "Male=0,Young=1", "Male=1,Young=0", "Male=1,Young=1",
    ]  # fmt: skip
    labels = np.zeros((6, 3), bool)
    labels[[0, 1, 2], 0] = labels[[2, 3], 1] = True

    def sizes(labels, *grouping):
        return membership(labels, ATTRIBUTES, grouping).sum(axis=0).tolist()

    assert sizes(labels, "Male", "Young") == [2, 1, 2, 1]
    assert sizes(labels, "Young", "Male") == [2, 2, 1, 1]
    assert sizes(labels, "Young") == [4, 2]
    assert sizes(labels[:0], "Male", "Young") == [0, 0, 0, 0]
    np.testing.assert_array_equal(
        membership(labels, ATTRIBUTES, ("Male", "Young")).argmax(axis=1), [2, 2, 3, 1, 0, 0]
    )
