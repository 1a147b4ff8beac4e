"""A secret in shares: as many as a threshold give it back, fewer say nothing of it.

Shamir, "How to share a secret", Communications of the ACM, 1979; over GF(2^128), by pycryptodome,
which takes 16 bytes at once. A secret of 32 is two such halves.
"""

from collections.abc import Mapping

from Crypto.Protocol.SecretSharing import Shamir

HALF = 16


def split(secret: bytes, threshold: int, number: int) -> dict[int, bytes]:
    """Shares of a secret of 32 bytes, 32 bytes each, by their index from 1."""
    halves = [Shamir.split(threshold, number, part, ssss=False) for part in _halves(secret)]
    return {index: one + dict(halves[1])[index] for index, one in halves[0]}


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret of at least so many shares; of fewer, or of wrong ones, something else."""
    used = sorted(shares.items())[:threshold]
    halves = zip(*(_halves(share) for _, share in used), strict=True)
    indices = [index for index, _ in used]
    return b"".join(Shamir.combine([*zip(indices, of, strict=True)], ssss=False) for of in halves)


def _halves(whole: bytes) -> tuple[bytes, bytes]:
    return whole[:HALF], whole[HALF:]
