import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import make_table

from celeba_fl.common.errors import InputError
from celeba_fl.data import draws
from celeba_fl.data.draws import public_rows, valid_mask


def test_splitmix64() -> None:
    """Outputs of https://prng.di.unimi.it/splitmix64.c for the states 0 and 1234567."""
    states = np.array([0, 1234567], np.uint64)
    assert draws._mix(states).tolist() == [0xE220A8397B1DCDAF, 6457827717110365317]


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_valid_mask_takes_about_its_fraction(seed: int, fraction: float) -> None:
    table = make_table(4000)
    mask = valid_mask(table, np.arange(4000), fraction, seed)
    # Six standard deviations.
    assert abs(mask.mean() - fraction) <= 6 * np.sqrt(fraction * (1 - fraction) / 4000) + 1e-9


def test_valid_mask_none_and_all() -> None:
    table = make_table()
    assert not valid_mask(table, np.arange(120), 0.0, 1).any()
    assert valid_mask(table, np.arange(120), 1.0, 1).all()


def test_valid_mask_depends_on_image_and_seed_alone() -> None:
    table = make_table(1000, content=np.arange(1000, dtype=np.uint64) % 500)
    mask = valid_mask(table, np.arange(1000), 0.2, 42)
    rows = np.array([7, 993, 13, 500, 501])
    np.testing.assert_array_equal(valid_mask(table, rows, 0.2, 42), mask[rows])
    np.testing.assert_array_equal(mask[:500], mask[500:])  # copies
    assert (valid_mask(table, np.arange(1000), 0.2, 43) != mask).any()
    # A larger fraction only adds.
    assert valid_mask(table, np.arange(1000), 0.3, 42)[mask].all()


def test_whole_people_validate() -> None:
    table = make_table(4000, identities=200)
    rows = np.arange(4000)
    mask = valid_mask(table, rows, 0.25, 42, "identity")
    of_person = [mask[table.celeb_id == person] for person in range(200)]
    assert all(own.all() or not own.any() for own in of_person)
    assert 20 < sum(own.all() for own in of_person) < 80
    # Whoever holds which of the images.
    np.testing.assert_array_equal(valid_mask(table, rows[::3], 0.25, 42, "identity"), mask[::3])
    assert (valid_mask(table, rows, 0.25, 43, "identity") != mask).any()
    assert not valid_mask(table, rows, 0.0, 42, "identity").any()


def test_nobody_can_be_kept_for_validation_where_nobody_is_known() -> None:
    unknown = make_table(40, identities=40)
    with pytest.raises(InputError, match=r"valid-by = 'identity': .* set valid-by = 'image'"):
        valid_mask(unknown, np.arange(40), 0.25, 42, "identity")


def test_what_is_public_tells_nothing_of_what_validates() -> None:
    table = make_table(4000)
    public = public_rows(table, 0.5, 42)
    mask = valid_mask(table, public, 0.5, 42)
    assert mask.mean() == pytest.approx(0.5, abs=0.06)
