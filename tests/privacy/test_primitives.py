"""Keys, shares and masks: known answers of standards, and what must not be alike."""

from itertools import combinations

import numpy as np
import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.privacy import keys, masks
from celeba_fl.privacy.masks import add_mask
from celeba_fl.privacy.shamir import combine, split

SECRET = bytes(range(32))


def test_keys_agree_as_in_rfc_7748_section_6_1() -> None:
    secret = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    bob = keys.private_key(secret)
    alice = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    agreed = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert keys.agree(bob, alice).hex() == agreed
    public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert keys.public_key(bob).hex() == public


@pytest.mark.parametrize("public", [bytes(32), bytes(31)])
def test_a_key_that_makes_the_secret_known_to_all_is_refused(public: bytes) -> None:
    with pytest.raises(InputError, match="not a public key"):
        keys.agree(keys.private_key(SECRET), public)


def test_each_purpose_has_a_secret_of_its_own() -> None:
    contexts = [("run", 1), ("run", 2), ("run", "1", ""), ("run1",), ("other", 1)]
    assert len({keys.derive(SECRET, *context) for context in contexts}) == len(contexts)
    assert keys.derive(SECRET, "run", 1) == keys.derive(SECRET, "run", "1")


def test_what_is_sealed_opens_only_whole_with_its_key_and_for_what_it_is_bound_to() -> None:
    sealed = keys.seal(SECRET, b"share", b"for bob")
    assert keys.unseal(SECRET, sealed, b"for bob") == b"share"
    assert len(sealed) == 12 + len(b"share") + 16
    assert keys.seal(SECRET, b"share", b"for bob")[:12] != sealed[:12]
    changed = bytes([sealed[0] ^ 1]) + sealed[1:]
    for key, content, bound in (
        (bytes(32), sealed, b"for bob"),
        (SECRET, changed, b"for bob"),
        (SECRET, sealed, b"for eve"),
        (SECRET, b"", b"for bob"),
    ):
        with pytest.raises(InputError, match="changed on the way"):
            keys.unseal(key, content, bound)


def test_shares_of_the_tool_ssss_give_its_secrets_back() -> None:
    # Vectors of ssss 0.5 at a threshold of 3, with which pycryptodome is tested too, one for each
    # half. ssss adds x^3 to its polynomials: 1, 8 and 64 at the indices 1, 2 and 4.
    vectors = {
        1: ("64579fbf1908d66f7239bf6e2b4e41e1", "d6515a3905cd755119b86e311c801e31", 1),
        2: ("6cd9428df8017b52322561e8c672ae3e", "16693d9ac9f10c254036ced5f8917fa3", 8),
        4: ("ab3f77a0107398d23b323e581bb43f5d", "3fe8878dc4a5d35811cf3cbcd33dbe52", 64),
    }
    shares = {
        index: b"".join((int(half, 16) ^ power).to_bytes(16, "big") for half in (first, second))
        for index, (first, second, power) in vectors.items()
    }
    secret = "ec96aa5c14c9faa699354cf1da74e904" + "44cf249b68b80fcdc27b47be60c2c145"
    assert combine(shares, 3).hex() == secret


def test_shares_of_a_threshold_give_the_secret_back_and_fewer_do_not() -> None:
    shares = split(SECRET, 3, 5)
    assert sorted(shares) == [1, 2, 3, 4, 5]
    assert {len(share) for share in shares.values()} == {32}
    for indices in combinations(shares, 3):
        assert combine({index: shares[index] for index in indices}, 3) == SECRET
    assert combine(dict(reversed(shares.items())), 3) == SECRET
    assert combine({1: shares[1], 2: shares[2]}, 2) != SECRET
    assert combine({**shares, 1: bytes(32)}, 3) != SECRET
    assert split(SECRET, 3, 5) != shares


def test_a_mask_is_the_stream_of_aes_in_counter_mode() -> None:
    # H, E(K, Y0) and the ciphertext of the test cases 13 and 14 of McGrew and Viega, "The
    # Galois/Counter Mode of Operation": the counters 0, 1 and 2 under the key of zeros.
    words = np.zeros(6, np.uint64)
    add_mask(words, bytes(32))
    assert words.astype("<u8").tobytes().hex() == (
        "dc95c078a2408989ad48a21492842087"
        "530f8afbc74536b9a963b4f1c4cb738b"
        "cea7403d4d606b6e074ec5d3baf39d18"
    )


@pytest.mark.parametrize("number", [0, 1, 9, 10, 11, 25])
def test_masks_are_taken_off_and_blocks_change_nothing(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = np.arange(number, dtype=np.uint64)
    whole = words.copy()
    add_mask(whole, SECRET)
    assert not number or (whole != words).all()
    monkeypatch.setattr(masks, "BLOCK", 10)
    parts = words.copy()
    add_mask(parts, SECRET)
    np.testing.assert_array_equal(parts, whole)
    add_mask(parts, SECRET, negative=True)
    np.testing.assert_array_equal(parts, words)
