"""Credentials of a secured federation: a CA, a server certificate, and the keys of each node.

Nodes and users check the server's certificate by the CA's; the SuperLink knows a SuperNode by a
P-384 key in OpenSSH format, whose public half was registered:
https://flower.ai/docs/framework/how-to-authenticate-supernodes.html. Which client's key it is, the
app's own server knows by a list (`client_keys`). By another list the sites know each other, without
trust in the server (`celeba_fl.privacy.roster`).
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import private
from celeba_fl.common.names import check_name
from celeba_fl.privacy.roster import TABLE

CA = "celeba-fl CA"
# The SuperLink's own children call it here, and check its certificate as everyone does.
LOOPBACK = ("localhost", "127.0.0.1", "::1")
CLIENT_KEYS, ROSTER = "client-keys", "roster.toml"


def write_credentials(
    folder: Path, clients: Sequence[str], hosts: Sequence[str], days: int
) -> datetime:
    """Write `ca.crt`, `server.crt` and `node-0.pub`, `node-1.pub`..., each with its `.key`.

    The public key of a node has the name of its client after it, and `client-keys` is the list of
    them all. What a client signs with is `node-0-signing.key` and so on, and `roster.toml` has the
    public halves. The folder is new; only its owner may enter it, or read what is in it. Sites
    reach the server by the names and IP addresses of `hosts`. The certificates expire after so many
    days, at the time that is returned; the nodes' keys do not expire.

    Raises
    ------
    InputError
        If `folder` is there already, a host is neither a name nor an address, or the names of two
        clients are one or cannot be names.
    """
    for client in clients:
        check_name("--site", client)
        if clients.count(client) > 1:
            raise InputError(f"--site {client}: there are two of this name; each needs its own")
    names = [_general_name(host) for host in dict.fromkeys([*hosts, *LOOPBACK])]
    if folder.exists():
        raise InputError(
            f"{folder} is there already; credentials are never overwritten. Name a new folder"
        )
    ca_key = ec.generate_private_key(ec.SECP256R1())
    server_key = ec.generate_private_key(ec.SECP256R1())
    expiry = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    ca = _certificate(CA, ca_key, ca_key, expiry, names=[])
    server = _certificate(hosts[0], server_key, ca_key, expiry, names)

    folder.mkdir(parents=True, mode=0o700)
    for name, key, certificate in (("ca", ca_key, ca), ("server", server_key, server)):
        _write(folder / f"{name}.key", _private(key, PrivateFormat.PKCS8))
        _write(folder / f"{name}.crt", certificate.public_bytes(Encoding.PEM))
    listed, roster = b"", {}
    for node, client in enumerate(clients):
        key = ec.generate_private_key(ec.SECP384R1())
        line = _public(key) + f" {client}\n".encode()
        _write(folder / f"node-{node}.key", _private(key, PrivateFormat.OpenSSH))
        _write(folder / f"node-{node}.pub", line)
        listed += line
        signing = Ed25519PrivateKey.generate()
        _write(folder / f"node-{node}-signing.key", _private(signing, PrivateFormat.OpenSSH))
        roster[client] = _public(signing).decode()
    _write(folder / CLIENT_KEYS, listed)
    _write(folder / ROSTER, tomli_w.dumps({TABLE: roster}).encode())
    return expiry


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", host):
            raise InputError(
                f"--host {host!r}: should be a name such as fl.example.org or an IP address, "
                "without a port"
            ) from None
        return x509.DNSName(host)


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    ca_key: ec.EllipticCurvePrivateKey,
    expiry: datetime,
    names: Sequence[x509.GeneralName],
) -> x509.Certificate:
    """The server's, for its names; without any, the CA's own (RFC 5280)."""
    is_ca = not names
    usage = x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(CA))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks of sites are not all alike.
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(expiry)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), True)
        .add_extension(usage, True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(authority, False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    return builder.sign(ca_key, SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def _public(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def _private(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey, form: PrivateFormat) -> bytes:
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def _write(path: Path, data: bytes) -> None:
    with open(path, "xb", opener=private) as file:
        file.write(data)
