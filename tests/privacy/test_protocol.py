"""Clients and server in an exchange: totals, drop-outs in every stage, and what is refused."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.privacy.keys import agree, private_key, public_key, unseal
from celeba_fl.privacy.party import Party, mask_key, sealing_key
from celeba_fl.privacy.tally import Tally

LAYOUT = "three words"


class Friends:
    """Parties, and the exchanges between them."""

    def __init__(self, number: int, min_cohort: int = 0) -> None:
        self.parties = {f"c{i}": Party("run", f"c{i}", {}, min_cohort) for i in range(number)}
        self.keys = {name: party.advertise() for name, party in self.parties.items()}
        self.min_cohort, self.serial = min_cohort, 0

    def begin(self, without: Collection[str] = ()) -> Tally:
        """An exchange for which all but some have shared."""
        self.serial += 1
        tally = Tally("run", self.serial, self.keys, self.min_cohort)
        for name in self.parties:
            if name not in without:
                tally.take_shared(name, self.parties[name].share(**tally.ask_to_share(name)))
        return tally

    def words(self, name: str) -> np.ndarray:
        """What a party has to add: its index, large numbers, and such as are below zero."""
        i = int(name[1:])
        return np.array([i, 2**40 * i, -i], np.int64).view(np.uint64)

    def mask(self, tally: Tally, without: Collection[str] = ()) -> dict[str, np.ndarray]:
        """All but some that have shared send their words."""
        sent = {}
        for name in [one for one in tally.shared if one not in without]:
            sent[name] = self.words(name)
            self.parties[name].mask(**tally.ask_to_mask(name), words=sent[name])
            tally.take_masked(name, LAYOUT, sent[name])
        return sent

    def unmask(self, tally: Tally, without: Collection[str] = ()) -> list[int]:
        """All but some of the survivors give shares; the total."""
        tally.check_enough()
        for name in [one for one in tally.survivors if one not in without]:
            tally.take_shares(name, self.parties[name].unmask(**tally.ask_to_unmask()))
        total: list[int] = tally.open().view(np.int64).tolist()
        return total


def total_of(*indices: int) -> list[int]:
    return [sum(indices), 2**40 * sum(indices), -sum(indices)]


@pytest.mark.parametrize("number", [3, 5, 21])
def test_the_total_is_that_of_the_words(number: int) -> None:
    friends = Friends(number)
    tally = friends.begin()
    friends.mask(tally)
    assert friends.unmask(tally) == total_of(*range(number))


# Seven hold shares, of which four give a secret back, and four must be in a total.
@pytest.mark.parametrize(
    ("sharing", "masking", "unmasking"),
    [
        ("0", "", ""),
        ("", "0", ""),
        ("", "", "0"),
        ("012", "", ""),
        ("", "012", ""),
        ("", "", "012"),
        ("0", "1", "2"),
    ],
)
def test_who_drops_out_costs_its_own_words(sharing: str, masking: str, unmasking: str) -> None:
    friends = Friends(7)
    tally = friends.begin([f"c{i}" for i in sharing])
    friends.mask(tally, [f"c{i}" for i in masking])
    total = friends.unmask(tally, [f"c{i}" for i in unmasking])
    gone = {int(i) for i in sharing + masking}
    assert total == total_of(*{*range(7)} - gone)
    assert tally.survivors == [f"c{i}" for i in range(7) if i not in gone]


def test_one_more_than_may_drop_out_costs_the_exchange() -> None:
    friends, four = Friends(7), ["c0", "c1", "c2", "c3"]
    tally = friends.begin()
    friends.mask(tally, four)
    with pytest.raises(InputError, match="words of 3 of 7 clients are there, and 4 must be"):
        friends.unmask(tally)
    tally = friends.begin()
    friends.mask(tally)
    with pytest.raises(InputError, match="3 clients gave a share of c0, and 4 must"):
        friends.unmask(tally, four)
    tally = friends.begin(four)
    with pytest.raises(InputError, match="3 neighbours are left, and 4 must be"):
        friends.mask(tally)
    again = friends.begin()
    friends.mask(again)
    assert friends.unmask(again) == total_of(*range(7))


def test_many_lose_some_in_each_stage() -> None:
    friends = Friends(50)
    gone = [[f"c{10 * i + j}" for j in range(2)] for i in range(3)]
    tally = friends.begin(gone[0])
    friends.mask(tally, gone[1])
    there = {*range(50)} - {int(name[1:]) for name in gone[0] + gone[1]}
    assert friends.unmask(tally, gone[2]) == total_of(*there)


def test_many_of_whom_more_are_gone_than_the_sparse_graph_is_made_for() -> None:
    friends = Friends(50)
    tally = friends.begin()
    friends.mask(tally, [f"c{i}" for i in range(6)])
    with pytest.raises(InputError, match="words of 44 of 50 clients are there, and 45 must be"):
        friends.unmask(tally)
    with pytest.raises(InputError, match=r"over 44 clients, .* over 45 at least \(min-cohort; 90%"):
        friends.parties["c9"].unmask(**tally.ask_to_unmask())


def test_the_same_words_look_different_each_time_and_every_byte_is_as_frequent() -> None:
    friends = Friends(3)
    friends.words = lambda name: np.zeros(100_000, np.uint64)  # type: ignore[method-assign]
    sent = [friends.mask(friends.begin())["c0"] for _ in range(2)]
    assert not (sent[0] == sent[1]).any()
    for words in (*sent, sent[0] - sent[1]):
        seen = np.bincount(words.view(np.uint8), minlength=256)
        chi_square = ((seen - seen.mean()) ** 2 / seen.mean()).sum()
        assert 150 < chi_square < 380  # of 255 degrees of freedom: within 5 deviations


def masked(friends: Friends) -> Tally:
    tally = friends.begin()
    friends.mask(tally)
    return tally


def test_a_client_answers_each_step_of_an_exchange_once() -> None:
    friends = Friends(4)
    tally, one = masked(friends), friends.parties["c1"]
    with pytest.raises(InputError, match="exchange 1: it was begun before"):
        one.share(**tally.ask_to_share("c1"))
    with pytest.raises(InputError, match="exchange 1: it was answered before"):
        one.mask(**tally.ask_to_mask("c1"), words=friends.words("c1"))
    friends.unmask(tally)
    for answer in (
        lambda: one.unmask(1, ["c1", "c2", "c3"]),
        lambda: one.mask(**tally.ask_to_mask("c1"), words=friends.words("c1")),
    ):
        with pytest.raises(InputError, match="exchange 1: it was not begun, or was answered"):
            answer()


def test_a_client_never_gives_both_kinds_of_share() -> None:
    friends = Friends(4)
    masked(friends)
    one = friends.parties["c1"]
    given = one.unmask(1, ["c1", "c2", "c3"])
    assert {kind: sorted(shares) for kind, shares in given.items()} == {
        "seeds": ["c1", "c2", "c3"],
        "keys": ["c0"],
    }
    with pytest.raises(InputError, match="answered before"):
        one.unmask(1, ["c0", "c1", "c2", "c3"])


@pytest.mark.parametrize(
    ("survivors", "why"),
    [
        (["c1", "c2"], "a total over 2 clients, and this one takes part in totals over 3"),
        (["c0", "c2", "c3"], "this client's words are said to be missing"),
        (["c1", "x", "y"], "1 neighbours are left, and 3 must be"),
    ],
)
def test_a_client_refuses_survivors_that_cannot_be(survivors: list[str], why: str) -> None:
    friends = Friends(4)
    masked(friends)
    with pytest.raises(InputError, match=why):
        friends.parties["c1"].unmask(1, survivors)


def test_a_client_goes_by_itsown_least_number() -> None:
    friends = Friends(4)
    friends.parties["c1"].min_cohort = 4
    masked(friends)
    with pytest.raises(InputError, match=r"over 3 .* over 4 at least \(min-cohort\)"):
        friends.parties["c1"].unmask(1, ["c1", "c2", "c3"])
    friends.parties["c2"].min_cohort = 5
    with pytest.raises(InputError, match="over 4 clients, and this one"):
        friends.begin()


def test_a_client_refuses_shares_that_were_tampered_with() -> None:
    friends = Friends(3)
    tally, words = friends.begin(), friends.words("c1")
    for key in ("sealed", "key"):
        asked = tally.ask_to_mask("c1")
        asked["peers"]["c2"][key] = "00" + asked["peers"]["c2"][key][2:]
        with pytest.raises(
            InputError,
            match="share of c2 is refused: it was changed on the way; the fault is with c2",
        ):
            friends.parties["c1"].mask(**asked, words=words)
        np.testing.assert_array_equal(words, friends.words("c1"))


def test_a_client_refuses_keys_that_cannot_be() -> None:
    friends = Friends(3)
    tally, one = friends.begin(), friends.parties["c1"]

    def ask(serial: int, **keys: Any) -> dict[str, Any]:
        asked = tally.ask_to_share("c1")
        peers = {
            name: {"key": keys.get(name, said["key"])} for name, said in asked["peers"].items()
        }
        return {**asked, "serial": serial, "peers": peers}

    other = Friends(1).keys["c0"]["key"]
    with pytest.raises(InputError, match="the key of c2 has changed within the run"):
        one.share(**ask(2, c2=other))
    one.memory["peers"].clear()
    for wrong, why in (
        ({"c1": other}, "the key of c1 is another's"),
        ({"c2": friends.keys["c0"]["key"]}, "the key of c2 is another's"),
        ({"c2": "?"}, "the key of c2 cannot be read"),
        ({"c2": "00" * 32}, "not a public key"),
    ):
        one.memory["peers"].clear()
        with pytest.raises(InputError, match=why):
            one.share(**ask(2, **wrong))
    asked = tally.ask_to_share("c1")
    del asked["peers"]["c2"]
    with pytest.raises(InputError, match="2 hold shares, of 3 clients should 3"):
        one.share(**{**asked, "serial": 2})


class Signer:
    """An identity whose signature is a name in front of the payload."""

    def __init__(self, name: str) -> None:
        self.name = name

    def sign(self, payload: bytes) -> bytes:
        return self.name.encode() + payload

    def check(self, name: str, payload: bytes, signature: bytes) -> None:
        if signature != name.encode() + payload:
            raise InputError(f"the key of {name} is not signed by it")


def test_keys_must_be_signed_by_their_owners_where_there_is_a_roster() -> None:
    friends = Friends(3)
    for name, party in friends.parties.items():
        party.identity = Signer(name)
    friends.keys = {name: party.advertise() for name, party in friends.parties.items()}
    assert friends.unmask(masked(friends)) == total_of(0, 1, 2)
    friends.keys["c2"] = Friends(3).keys["c2"]
    friends.parties["c0"].memory["peers"].clear()
    with pytest.raises(InputError, match="the key of c2 is not signed by it"):
        friends.begin()


def test_a_new_run_has_new_keys_and_its_end_leaves_none() -> None:
    party = Party("run", "c0", {})
    first = party.advertise()
    assert party.advertise() != first
    assert set(party.memory) == {"channel", "last", "peers", "sums"}
    party.forget()
    assert party.memory == {}
    with pytest.raises(InputError, match="no keys of this run"):
        party.unmask(1, [])


def test_what_a_client_remembers_after_its_answer_unmasks_nothing() -> None:
    friends = Friends(3)
    tally, memory = friends.begin(), friends.parties["c1"].memory
    secrets = memory["sums"]["1"]["secrets"]
    assert public_key(private_key(bytes.fromhex(secrets[1]))).hex() == tally.shared["c1"]["key"]
    sealed, key = (
        bytes.fromhex(tally.ask_to_mask("c0")["peers"]["c1"][k]) for k in ("sealed", "key")
    )
    friends.mask(tally)
    assert not any(secret in str(memory) for secret in secrets)
    # Nor do the shares open that it has sealed for others.
    own, its = (
        private_key(bytes.fromhex(friends.parties[c].memory["channel"])) for c in ("c1", "c0")
    )
    bound = friends.parties["c1"]._payload("c1", "masks", 1, key)
    opens = agree(own, public_key(its)) + agree(its, key)
    unseal(sealing_key(opens, "run", 1, "c1", "c0"), sealed, bound)
    opens = agree(own, public_key(its)) + agree(own, key)
    with pytest.raises(InputError, match="changed on the way"):
        unseal(sealing_key(opens, "run", 1, "c1", "c0"), sealed, bound)
    friends.unmask(tally)
    assert memory["sums"] == {}


def test_secrets_are_new_in_each_exchange_also_if_a_machine_is_set_back() -> None:
    friends = Friends(3)
    tally, one = friends.begin(), friends.parties["c1"]
    one.memory["last"] = 0
    again = one.share(**tally.ask_to_share("c1"))
    assert again["key"] != tally.shared["c1"]["key"]
    assert again["proof"] != tally.shared["c1"]["proof"]


def test_a_mask_is_of_one_pair_one_exchange_and_one_run() -> None:
    friends = Friends(2)
    memory = friends.parties["c0"].memory
    private = private_key(bytes.fromhex(memory["channel"]))
    secret = agree(private, bytes.fromhex(friends.keys["c1"]["key"]))
    assert mask_key(secret, "run", 1, "c0", "c1") == mask_key(secret, "run", 1, "c1", "c0")
    others = [("run", 2, "c0", "c1"), ("run2", 1, "c0", "c1"), ("run", 1, "c0", "c2")]
    assert len({mask_key(secret, *where) for where in [*others, ("run", 1, "c0", "c1")]}) == 4


def test_the_server_says_whose_shares_are_wrong() -> None:
    friends = Friends(3)
    tally = masked(friends)
    for name in tally.survivors:
        given = friends.parties[name].unmask(**tally.ask_to_unmask())
        if name == "c1":
            given["seeds"]["c0"] = "00" * 32
        tally.take_shares(name, given)
    with pytest.raises(InputError, match="shares of the seed of c0 are wrong"):
        tally.open()


def test_the_server_takes_nothing_that_it_did_not_ask_for() -> None:
    friends = Friends(4)
    tally = friends.begin(["c3"])
    with pytest.raises(InputError, match="not for those that should hold them"):
        tally.take_shared("c3", {"key": "", "sealed": {"c0": ""}, "proof": ""})
    with pytest.raises(InputError, match="nobody asked it for words"):
        tally.take_masked("c3", LAYOUT, friends.words("c3"))
    friends.mask(tally)
    with pytest.raises(InputError, match="nobody asked it for words"):
        tally.take_masked("c0", LAYOUT, friends.words("c0"))
    with pytest.raises(InputError, match="nobody asked it for the share of c0"):
        tally.take_shares("c1", {"seeds": {}, "keys": {"c0": "00" * 32}})
    with pytest.raises(InputError, match="a share is of another length"):
        tally.take_shares("c1", {"seeds": {"c0": "00"}, "keys": {}})


def test_who_says_another_layout_than_most_is_left_out() -> None:
    friends = Friends(7)
    tally = friends.begin()
    friends.mask(tally, ["c3"])
    odd = np.zeros(2, np.uint64)
    friends.parties["c3"].mask(**tally.ask_to_mask("c3"), words=odd)
    with pytest.raises(InputError, match="not of the form that it says"):
        tally.take_masked("c3", LAYOUT, odd)
    tally.take_masked("c3", "two words", odd)
    assert friends.unmask(tally) == total_of(0, 1, 2, 4, 5, 6)
