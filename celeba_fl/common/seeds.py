"""Seeds that follow from names, so that what is random can be repeated."""

import hashlib


def derived_seed(*parts: object) -> int:
    """A seed (63 bits) that is a function of `parts` alone, on every machine."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
