"""The server's side of one exchange: who is in, masked words added up, and the masks taken off."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from celeba_fl.common.errors import InputError
from celeba_fl.privacy.graph import holders, least, plan
from celeba_fl.privacy.keys import LENGTH, agree, new_secret, private_key, public_key
from celeba_fl.privacy.masks import Words, add_mask
from celeba_fl.privacy.party import Packet, mask_key, proof_of, self_key
from celeba_fl.privacy.shamir import combine


@dataclass
class Tally:
    """An exchange of these members, who have advertised keys; see `celeba_fl.privacy.party`."""

    run: str
    serial: int
    keys: Mapping[str, Packet]  # what each member has advertised
    min_cohort: int = 0
    near: Mapping[str, list[str]] = field(init=False)  # who holds shares of whom
    shared: dict[str, Packet] = field(default_factory=dict)  # what each made in the first step
    # Words added up, by their layout, and whose they are.
    totals: dict[str, tuple[Words, list[str]]] = field(default_factory=dict)
    seeds: dict[str, dict[int, bytes]] = field(default_factory=dict)  # shares by index, of each
    masks: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.near = holders(self.keys, new_secret())
        self.form = plan(len(self.keys))

    def ask_to_share(self, name: str) -> dict[str, Any]:
        """What a member needs to `share`."""
        peers = {near: self.keys[near] for near in self.near[name]}
        return {"serial": self.serial, "number": len(self.keys), "peers": peers}

    def take_shared(self, name: str, said: Packet) -> None:
        """Note what a member has made; InputError if it is not what was asked for."""
        right = isinstance(said, Mapping) and {*said} == {"key", "sealed", "proof"}
        if not right or {*said["sealed"]} != {*self.near[name]}:
            raise InputError("its shares are not for those that should hold them")
        self.shared[name] = said

    def ask_to_mask(self, name: str) -> dict[str, Any]:
        """What a member that has shared needs to `mask`."""
        peers = {
            near: {"key": self.shared[near]["key"], "sealed": self.shared[near]["sealed"][name]}
            for near in self.near[name]
            if near in self.shared
        }
        return {"serial": self.serial, "peers": peers}

    def take_masked(self, name: str, layout: str, words: Words) -> None:
        """Add a member's masked words to those of the same layout."""
        if name not in self.shared or name in self.answered:
            raise InputError("nobody asked it for words")
        total, names = self.totals.setdefault(layout, (np.zeros(len(words), np.uint64), []))
        if words.dtype != np.uint64 or words.shape != total.shape:
            raise InputError("its words are not of the form that it says")
        np.add(total, words, out=total)
        names.append(name)

    @property
    def answered(self) -> list[str]:
        """All whose words were added to some total."""
        return [name for _, names in self.totals.values() for name in names]

    @property
    def layout(self) -> str:
        """The layout of most members."""
        sizes = Counter({layout: len(names) for layout, (_, names) in self.totals.items()})
        return sizes.most_common(1)[0][0] if sizes else ""

    @property
    def survivors(self) -> list[str]:
        """Those whose words are in the total, sorted."""
        return sorted(self.totals[self.layout][1]) if self.totals else []

    def check_enough(self) -> None:
        """Raise InputError if fewer are in the total than must be."""
        needed, there = least(self.min_cohort, len(self.keys)), len(self.survivors)
        if there < needed:
            raise InputError(
                f"the words of {there} of {len(self.keys)} clients are there, and {needed} must "
                f"be (min-cohort)"
            )

    def ask_to_unmask(self) -> dict[str, Any]:
        """What survivors need to `unmask`."""
        return {"serial": self.serial, "survivors": self.survivors}

    def take_shares(self, name: str, said: Packet) -> None:
        """Note the shares that a survivor gives."""
        there = {*self.survivors}
        for kind, kept in (("seeds", self.seeds), ("keys", self.masks)):
            for owner, share in said[kind].items():
                if name not in self.near[owner] or (owner in there) != (kind == "seeds"):
                    raise InputError(f"nobody asked it for the share of {owner}")
                index = self.near[owner].index(name) + 1
                kept.setdefault(owner, {})[index] = _share(share)

    def open(self) -> Words:
        """The total, once enough shares are there.

        Raises
        ------
        InputError
            If there are fewer of a client's shares than the threshold, or they are wrong.
        """
        total, survivors = self.totals[self.layout][0], self.survivors
        for name in survivors:
            seed = self._combined(name, self.seeds)
            if proof_of(seed) != self.shared[name]["proof"]:
                raise InputError(f"shares of the seed of {name} are wrong")
            add_mask(total, self_key(seed, self.run, self.serial, name), negative=True)
        for name in sorted({*self.shared} - {*survivors}):
            near = [one for one in self.near[name] if one in survivors]
            if not near:
                continue
            private = private_key(self._combined(name, self.masks))
            if public_key(private).hex() != self.shared[name]["key"]:
                raise InputError(f"shares of the mask key of {name} are wrong")
            for one in near:
                secret = agree(private, bytes.fromhex(self.shared[one]["key"]))
                key = mask_key(secret, self.run, self.serial, one, name)
                add_mask(total, key, negative=not name < one)
        return total

    def _combined(self, name: str, shares: Mapping[str, Mapping[int, bytes]]) -> bytes:
        own = shares.get(name, {})
        if len(own) < self.form.threshold:
            raise InputError(
                f"{len(own)} clients gave a share of {name}, and {self.form.threshold} must"
            )
        return combine(own, self.form.threshold)


def _share(said: object) -> bytes:
    share = bytes.fromhex(str(said))
    if len(share) != LENGTH:
        raise InputError("a share is of another length")
    return share
