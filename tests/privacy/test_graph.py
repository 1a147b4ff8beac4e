"""Who masks with whom."""

import pytest

from celeba_fl.privacy.graph import COMPLETE, Plan, holders, least, plan


def names(number: int) -> list[str]:
    return [str(i) for i in range(number)]


@pytest.mark.parametrize(
    ("number", "degree", "threshold"),
    [(2, 1, 2), (3, 2, 2), (4, 3, 3), (20, 19, 11), (50, 12, 7), (100, 22, 12), (1000, 46, 26)],
)
def test_the_form_of_an_exchange(number: int, degree: int, threshold: int) -> None:
    assert plan(number) == Plan(degree, threshold)


def test_more_than_half_of_the_holders_must_give_shares() -> None:
    for number in range(2, 300):
        form = plan(number)
        assert 2 * form.threshold > form.degree + 1
        assert form.threshold <= form.degree + 1 <= number


def test_a_few_mask_with_each_other() -> None:
    assert holders(["b", "a", "c"], b"seed") == {name: ["a", "b", "c"] for name in "abc"}
    assert len(holders(names(COMPLETE), b"")["0"]) == COMPLETE


def test_many_mask_with_their_neighbours_who_are_others_by_another_seed() -> None:
    near = holders(names(50), b"seed")
    for name, its in near.items():
        assert len(its) == 13
        assert name in its
        assert its == sorted(its)
        assert all(name in near[one] for one in its)
    assert holders(names(50)[::-1], b"seed") == near
    assert holders(names(50), b"other") != near


def test_how_many_must_be_in_a_total() -> None:
    assert [least(0, number) for number in (2, 3, 5, 6, 7, 20)] == [3, 3, 3, 3, 4, 10]
    assert least(5, 20) == 5


def test_of_many_a_tenth_may_be_missing() -> None:
    assert [least(0, number) for number in (21, 50, 1000)] == [19, 45, 900]
    assert [least(min_cohort, 50) for min_cohort in (10, 48, 60)] == [45, 48, 60]
