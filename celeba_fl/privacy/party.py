"""A client's side of the protocol: what it says, what it refuses, and what it must remember.

An exchange has a serial number, higher than that of any before, also when a round is tried again.
In an exchange, a client is asked once each

1. to `share`: it makes a mask key and a seed, and seals shares of both for its neighbours;
2. to `mask`: it adds to its words the mask of its seed, and one that it has in common with each
   neighbour, which one of the two adds and the other subtracts;
3. to `unmask`: of each neighbour whose words are in the total it gives the share of the seed, of
   each other one that of the mask key.

All that it remembers between messages is in `Party.memory`, which is of strings, numbers, lists and
dictionaries. The two secrets of an exchange are random and in it from `share` to `mask`; afterwards
nothing that a client has gives them back. What cannot be right is refused by an InputError that
says why.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from celeba_fl.common.errors import InputError
from celeba_fl.privacy.graph import COMPLETE, SHARE, least, plan
from celeba_fl.privacy.keys import (
    LENGTH,
    agree,
    derive,
    new_secret,
    private_key,
    public_key,
    seal,
    unseal,
)
from celeba_fl.privacy.masks import Words, add_mask
from celeba_fl.privacy.roster import Identity
from celeba_fl.privacy.shamir import split

Memory = dict[str, Any]
Packet = Mapping[str, Any]
HALF = 2 * LENGTH  # hexadecimal digits of a share of one secret
# How many exchanges a client remembers that were begun and not ended.
OPEN = 8


class Party:
    """A client in the exchanges of a run.

    Parameters
    ----------
    run : str
        The run, to which all keys are bound.
    name : str
        The client's own name.
    memory : dict
        What it remembers; changed in place. Empty at the start of a run.
    min_cohort : int
        How many clients must be in a total, as `celeba_fl.privacy.graph.least` says.
    identity : Identity | None (default: None)
        Its signing key and the public ones of others; without it, the server is trusted to hand out
        keys.
    """

    def __init__(
        self,
        run: str,
        name: str,
        memory: Memory,
        min_cohort: int = 0,
        identity: Identity | None = None,
    ) -> None:
        self.run, self.name, self.memory = run, name, memory
        self.min_cohort, self.identity = min_cohort, identity

    def advertise(self) -> dict[str, str]:
        """Begin a run with new keys; the public one, signed if there is an identity."""
        self.memory.clear()
        self.memory.update(channel=new_secret().hex(), last=0, peers={}, sums={})
        key = public_key(self._channel())
        return {"key": key.hex(), **self._signed(self._payload(self.name, "channel", 0, key))}

    def share(self, serial: int, number: int, peers: Packet) -> dict[str, Any]:
        """Make the secrets of an exchange of so many clients, and seal shares of them.

        `peers` are the holders of the shares, this client among them: what each has advertised.
        """
        self._check_keys()
        if serial <= self.memory["last"]:
            raise InputError(f"exchange {serial}: it was begun before", open_to_all=True)
        self._check_enough(serial, number, number)
        form = plan(number)
        if len(peers) != form.degree + 1 or self.name not in peers:
            raise InputError(
                f"exchange {serial}: {len(peers)} hold shares, of {number} clients should "
                f"{form.degree + 1}, among them {self.name}",
                open_to_all=True,
            )
        channel = self._channel()
        for name, said in peers.items():
            self._meet(name, said, channel)
        secrets = [new_secret(), new_secret()]
        masks = private_key(secrets[1])
        key = public_key(masks)
        shares = [split(secret, form.threshold, len(peers)) for secret in secrets]
        sealed = {}
        for index, name in enumerate(sorted(peers), start=1):
            its = self._key_of(name)
            agreed = agree(channel, its) + agree(masks, its)
            sealed[name] = seal(
                sealing_key(agreed, self.run, serial, self.name, name),
                shares[0][index] + shares[1][index],
                self._payload(self.name, "masks", serial, key),
            ).hex()
        self.memory["last"] = serial
        self.memory["sums"][str(serial)] = {
            "number": number,
            "near": sorted(peers),
            "secrets": [secret.hex() for secret in secrets],
            "held": {},
        }
        for old in sorted(self.memory["sums"], key=int)[:-OPEN]:
            del self.memory["sums"][old]
        return {"key": key.hex(), "sealed": sealed, "proof": proof_of(secrets[0])}

    def mask(self, serial: int, peers: Packet, words: Words) -> None:
        """Mask words, in place. `peers` have shared, and each has the key of its masks in here."""
        begun = self._begun(serial)
        if begun["held"]:
            raise InputError(f"exchange {serial}: it was answered before", open_to_all=True)
        if strangers := {*peers} - {*begun["near"]}:
            raise InputError(
                f"exchange {serial}: {sorted(strangers)} were not among those that hold shares",
                open_to_all=True,
            )
        threshold = plan(begun["number"]).threshold
        if self.name not in peers or len(peers) < threshold:
            raise InputError(
                f"exchange {serial}: {len(peers)} neighbours are left, and {threshold} must be, "
                f"this client among them",
                open_to_all=True,
            )
        held, channel = {}, self._channel()
        for name, said in sorted(peers.items()):
            try:
                key, sealed = bytes.fromhex(said["key"]), bytes.fromhex(said["sealed"])
                bound = self._payload(name, "masks", serial, key)
                agreed = agree(channel, self._key_of(name)) + agree(channel, key)
                opens = sealing_key(agreed, self.run, serial, name, self.name)
                held[name] = unseal(opens, sealed, bound).hex()
                if len(held[name]) != 2 * HALF:
                    raise InputError("it is of another length", open_to_all=True)
            except (InputError, ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"exchange {serial}: the share of {name} is refused: {error}; the fault is "
                    f"with {name} or on the way, not with {self.name}: leave {name} out (clients) "
                    f"if it stays so",
                    open_to_all=True,
                ) from error
        seed, masks = map(bytes.fromhex, begun.pop("secrets"))
        private = private_key(masks)
        for name, said in sorted(peers.items()):
            if name != self.name:
                secret = agree(private, bytes.fromhex(said["key"]))
                key = mask_key(secret, self.run, serial, self.name, name)
                add_mask(words, key, negative=name < self.name)
        add_mask(words, self_key(seed, self.run, serial, self.name))
        begun["held"] = held

    def unmask(self, serial: int, survivors: Collection[str]) -> dict[str, dict[str, str]]:
        """Shares of ``seeds`` and of ``keys``, by whose they are, once it is known who is in."""
        begun = self._begun(serial)
        if not begun["held"]:
            raise InputError(
                f"exchange {serial}: this client has not sent any words in it", open_to_all=True
            )
        if self.name not in survivors:
            raise InputError(
                f"exchange {serial}: this client's words are said to be missing", open_to_all=True
            )
        self._check_enough(serial, len({*survivors}), begun["number"])
        near, threshold = {*survivors} & {*begun["near"]}, plan(begun["number"]).threshold
        if not near <= {*begun["held"]} or len(near) < threshold:
            raise InputError(
                f"exchange {serial}: {len(near)} neighbours are left, and {threshold} must be",
                open_to_all=True,
            )
        del self.memory["sums"][str(serial)]  # never again, whoever is said to be in
        given: dict[str, dict[str, str]] = {"seeds": {}, "keys": {}}
        for name, both in begun["held"].items():
            if name in near:
                given["seeds"][name] = both[:HALF]
            else:
                given["keys"][name] = both[HALF:]
        return given

    def number(self, serial: int) -> int:
        """Of how many clients an exchange is."""
        number: int = self._begun(serial)["number"]
        return number

    def forget(self) -> None:
        """Delete all keys, at the end of a run."""
        self.memory.clear()

    # ---- what it is held by, and by whom ---------------------------------------------------

    def _check_enough(self, serial: int, there: int, number: int) -> None:
        needed = least(self.min_cohort, number)
        if there < needed:
            why = "min-cohort" if number <= COMPLETE else f"min-cohort; {1 - SHARE:.0%} of many"
            raise InputError(
                f"exchange {serial}: a total over {there} clients, and this one takes part in "
                f"totals over {needed} at least ({why})",
                open_to_all=True,
            )

    def _meet(self, name: str, said: Packet, channel: X25519PrivateKey) -> None:
        """Remember a client's public key, which may not change in a run."""
        try:
            key, signature = bytes.fromhex(said["key"]), bytes.fromhex(said.get("signature", ""))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"the key of {name} cannot be read", open_to_all=True) from error
        known = self.memory["peers"].get(name)
        if known is None:
            if self.identity:
                self.identity.check(name, self._payload(name, "channel", 0, key), signature)
            own = name == self.name and key != public_key(channel)
            if own or key.hex() in self.memory["peers"].values():
                raise InputError(f"the key of {name} is another's", open_to_all=True)
            self.memory["peers"][name] = key.hex()
        elif known != key.hex():
            raise InputError(f"the key of {name} has changed within the run", open_to_all=True)

    def _check_keys(self) -> None:
        if not self.memory:
            raise InputError("this client has no keys of this run", open_to_all=True)

    def _begun(self, serial: int) -> dict[str, Any]:
        self._check_keys()
        begun: dict[str, Any] | None = self.memory["sums"].get(str(serial))
        if begun is None:
            raise InputError(
                f"exchange {serial}: it was not begun, or was answered before", open_to_all=True
            )
        return begun

    def _channel(self) -> X25519PrivateKey:
        """The key that the client has for a run."""
        return private_key(bytes.fromhex(self.memory["channel"]))

    def _key_of(self, peer: str) -> bytes:
        return bytes.fromhex(self.memory["peers"][peer])

    def _payload(self, name: str, purpose: str, serial: int, key: bytes) -> bytes:
        """What a client says of a key of its own: what it is for, whose, and where."""
        said = ["celeba-fl secure sums: key", self.run, name, purpose, serial, key.hex()]
        return json.dumps(said).encode()

    def _signed(self, payload: bytes) -> dict[str, str]:
        return {"signature": self.identity.sign(payload).hex()} if self.identity else {}


def mask_key(secret: bytes, run: str, serial: int, one: str, other: str) -> bytes:
    """The key of the mask that two clients have in common, by what they agreed on."""
    return derive(secret, run, "pair", serial, *sorted((one, other)))


def sealing_key(agreed: bytes, run: str, serial: int, sender: str, receiver: str) -> bytes:
    """The key for what one client seals for another in an exchange, by what they agreed on.

    That is two secrets, as in pattern K of the Noise protocol framework: of the run's keys of both,
    so that nobody else can have sealed it; and of the sender's mask key and the receiver's key, so
    that the sender, without its mask key, cannot open it any more.
    """
    return derive(agreed, run, "shares", serial, sender, receiver)


def self_key(seed: bytes, run: str, serial: int, name: str) -> bytes:
    """The key of the mask that a client has for itself."""
    return derive(seed, run, "self", serial, name)


def proof_of(seed: bytes) -> str:
    """What tells whether a seed was put together rightly, and nothing else."""
    return hashlib.sha256(b"seed" + seed).hexdigest()
