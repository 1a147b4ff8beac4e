"""Masks: words that nobody can tell from random ones without the key, added modulo 2^64.

The words of a key are the stream of AES-256 in counter mode (NIST SP 800-38A), from the counter 0,
little-endian, made in native code; browsers have it too.
"""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

Words = NDArray[np.uint64]
START = bytes(16)  # the counter: a key has one stream
# So many words fit into a processor's cache.
BLOCK = 1 << 14


def add_mask(words: Words, key: bytes, *, negative: bool = False) -> None:
    """Add the mask of a key to words, in place; or subtract it, which undoes that."""
    stream = Cipher(AES(key), CTR(START)).encryptor()
    zeros, block = bytes(8 * BLOCK), np.empty(BLOCK, "<u8")
    change = np.subtract if negative else np.add
    for start in range(0, len(words), BLOCK):
        part = words[start : start + BLOCK]
        stream.update_into(zeros[: 8 * len(part)], block.data.cast("B"))
        change(part, block[: len(part)], out=part)
