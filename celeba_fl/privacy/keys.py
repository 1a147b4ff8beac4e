"""Keys of one run, and what follows from them.

Elliptic curve Diffie-Hellman over X25519 (RFC 7748), HKDF with SHA-256 (RFC 5869), and sealing by
AES-256-GCM (NIST SP 800-38D): what Python and browsers both have in native code. Whatever a key is
for is part of its derivation: run, exchange, and the names of both ends. So no key is used twice;
should one be all the same, as on a machine that was set back to an earlier state, the nonce is
another, for it is random.
"""

import json
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from celeba_fl.common.errors import InputError

LENGTH = 32
NONCE = 12  # random bytes in front of what is sealed


def new_secret() -> bytes:
    """32 random bytes from the operating system."""
    return secrets.token_bytes(LENGTH)


def derive(secret: bytes, *context: object) -> bytes:
    """A secret of 32 bytes for one purpose, which the context tells apart from all others."""
    info = json.dumps(["celeba-fl secure sums 1", *map(str, context)]).encode()
    return HKDF(hashes.SHA256(), LENGTH, salt=None, info=info).derive(secret)


def private_key(secret: bytes) -> X25519PrivateKey:
    """The private key that a secret of 32 bytes makes."""
    return X25519PrivateKey.from_private_bytes(secret)


def public_key(private: X25519PrivateKey) -> bytes:
    """The public key of a private one, 32 bytes."""
    return private.public_key().public_bytes_raw()


def agree(private: X25519PrivateKey, public: bytes) -> bytes:
    """The secret that two share, each by its own private key and the other's public one.

    Raises
    ------
    InputError
        If the public one is no key, or one that makes the secret known to all.
    """
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise InputError(f"not a public key: {error}", open_to_all=True) from error


def seal(key: bytes, content: bytes, bound: bytes) -> bytes:
    """Content for whoever has the key, 28 bytes longer, along with what it is `bound` to."""
    nonce = secrets.token_bytes(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, content, bound)


def unseal(key: bytes, sealed: bytes, bound: bytes) -> bytes:
    """Undo `seal`.

    Raises
    ------
    InputError
        If it was sealed with another key, bound to something else, or changed on the way.
    """
    try:
        return AESGCM(key).decrypt(sealed[:NONCE], sealed[NONCE:], bound)
    except (InvalidTag, ValueError) as error:
        raise InputError("it was changed on the way", open_to_all=True) from error
