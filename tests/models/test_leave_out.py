"""Clients taken out of a head, and those whose sums are unlike all others'."""

import logging

import numpy as np
import pytest

from celeba_fl.common.arrays import Arrays, sum_counts
from celeba_fl.models import ridge
from celeba_fl.models.leave_out import Pulls, Together, head_of

DIM, OUTPUTS, CLIENTS = 12, 3, 9
RNG = np.random.default_rng(5)
TRUE = RNG.normal(size=(DIM, OUTPUTS))


def sums(n: int, seed: int) -> Arrays:
    """Those of n examples whose labels go by their features."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, DIM)).astype(np.float32)
    labels = x @ TRUE + rng.normal(size=(n, OUTPUTS)) > 0
    return ridge.sums_of(x, labels, np.ones(n))


VALID = sums(400, 99)


def turned(own: Arrays, times: int = -30) -> Arrays:
    xy = own["xy"].copy()
    xy[:-1] *= times
    return {"xx": own["xx"], "xy": xy}


def together(own: dict[str, Arrays]) -> Together:
    return Together((*own,), sum_counts(own.values()), own.__getitem__)


def honest(number: int = CLIENTS) -> dict[str, Arrays]:
    """Clients of 20 examples and more, one of which has ten times as many."""
    return {str(i): sums(200 if i == 1 else 20 + i, i) for i in range(number)}


def suspects(own: dict[str, Arrays]) -> set[str]:
    pulls = Pulls.of(together(own), VALID)
    return {*np.array(pulls.names)[pulls.suspected].tolist()}


def test_what_is_left_is_what_the_others_add_up() -> None:
    own = honest()
    left = together(own).without(["2", "5"])
    rest = together({name: one for name, one in own.items() if name not in ("2", "5")}).total
    assert all(np.array_equal(left[key], rest[key]) for key in rest)
    joined = together(own).joined(left, ["2"])
    assert np.array_equal(joined["xy"], rest["xy"] + own["2"]["xy"])


def test_the_head_of_one_ratio_is_that_of_the_closed_form() -> None:
    total, scale = together(honest()).total, np.append(np.linspace(0.5, 2, DIM), 1.0)
    chosen = ridge.choose(total, VALID, scale[:-1])
    right = chosen.head(chosen.plain)
    head = head_of(total, ridge.matrices(VALID, scale), chosen.ratio, scale)
    assert {key: one.dtype for key, one in head.items()} == dict.fromkeys(right, np.float32)
    for key, array in right.items():
        np.testing.assert_allclose(head[key], array, rtol=1e-4, atol=1e-5)


def test_nobody_is_suspected_where_all_are_honest() -> None:
    pulls = Pulls.of(together(honest()), VALID)
    assert not pulls.suspected.any()
    assert np.median(pulls.excess) == pytest.approx(1)
    assert pulls.excess.max() < 4


@pytest.mark.parametrize("liars", [["3"], ["1"], ["3", "4", "5", "6"]])
def test_those_who_turn_the_labels_are_suspected_also_if_they_are_several(liars: list[str]) -> None:
    own = honest()
    assert suspects(own | {name: turned(own[name]) for name in liars}) == {*liars}


def test_of_a_half_nobody_knows_who_is_right(caplog: pytest.LogCaptureFixture) -> None:
    own = honest()
    lies = {str(i): turned(own[str(i)], -(10**i)) for i in (2, 3, 4, 5, 6)}
    caplog.set_level(logging.WARNING)
    assert suspects(own | lies) == set()
    assert "none is suspected" in caplog.text


def test_a_client_without_examples_is_no_liar() -> None:
    empty = {"none": ridge.zero_sums(DIM, OUTPUTS)}
    pulls = Pulls.of(together(honest() | empty), VALID)
    assert np.isnan(pulls.excess[-1])
    assert not pulls.suspected.any()


def test_clients_that_hold_the_same_are_known_by_their_sums() -> None:
    own = honest()
    nearly = {key: array + sums(1, 77)[key] for key, array in own["7"].items()}
    both = own | {"twin": own["2"], "almost": nearly}
    assert Pulls.of(together(own), VALID).alike() == []
    assert Pulls.of(together(both), VALID).alike() == [["2", "twin"], ["7", "almost"]]
