import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from celeba_fl.common.errors import InputError, for_others
from celeba_fl.deployment.credentials import write_credentials
from celeba_fl.privacy import roster
from celeba_fl.privacy.roster import Identity, identity_of, read_roster

A, B = "hospital-a", 'Klinik "Nord" 北京.1'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Credentials of two sites, whose roster has both."""
    write_credentials(tmp_path / "c", [A, B], ["localhost"], 1)
    return tmp_path / "c"


def node(folder: Path, number: int, site: str) -> dict[str, str]:
    return {
        "site": site,
        "roster": str(folder / "roster.toml"),
        "signing-key": str(folder / f"node-{number}-signing.key"),
    }


def identities(folder: Path) -> tuple[Identity, Identity]:
    a, b = identity_of(node(folder, 0, A)), identity_of(node(folder, 1, B))
    assert a is not None
    assert b is not None
    return a, b


def test_a_site_knows_what_another_has_signed(folder: Path) -> None:
    a, b = identities(folder)
    assert (a.name, b.name) == (A, B)
    b.check(A, b"keys", a.sign(b"keys"))
    a.check(B, b"keys", b.sign(b"keys"))


@pytest.mark.parametrize(
    "forge",
    [
        lambda a, b: (A, b"other keys", a.sign(b"keys")),
        lambda a, b: (A, b"keys", b.sign(b"keys")),  # under another's name
        lambda a, b: (A, b"keys", a.sign(b"keys")[:-1]),
        lambda a, b: (A, b"keys", b"\0" * 64),
        lambda a, b: (A, b"keys", a.own.sign(b"keys")),  # signed for something else
    ],
)
def test_what_its_owner_has_not_signed_is_refused(folder: Path, forge: Callable[..., Any]) -> None:
    a, b = identities(folder)
    with pytest.raises(InputError, match=f"client {A} are not signed .* renew the rosters"):
        b.check(*forge(a, b))


def test_who_does_not_sign_and_who_is_not_listed(folder: Path) -> None:
    a, b = identities(folder)
    with pytest.raises(InputError, match=f"client {A} has not signed .* node config of {A}"):
        b.check(A, b"keys", b"")
    with pytest.raises(InputError, match=r"client x is not in the roster .* or leave it out"):
        b.check("x", b"keys", a.sign(b"keys"))


def test_the_server_reads_who_was_refused(folder: Path) -> None:
    a, _ = identities(folder)
    with pytest.raises(InputError) as refused:
        a.check("c", b"keys", b"")
    assert for_others(refused.value) == str(refused.value)


def test_the_log_says_once_that_the_server_is_trusted(caplog: pytest.LogCaptureFixture) -> None:
    roster._say_that_the_server_is_trusted.cache_clear()
    with caplog.at_level(logging.INFO):
        assert identity_of({"partition-id": 0}) is identity_of({"partition-id": 1}) is None
    (said,) = [record.getMessage() for record in caplog.records]
    assert "trust the server" in said


@pytest.mark.parametrize("key", ["roster", "signing-key"])
def test_one_without_the_other(folder: Path, key: str) -> None:
    half = node(folder, 0, A)
    del half[key]
    with pytest.raises(InputError, match=f"needs {key} too"):
        identity_of(half)


def test_a_roster_without_the_site_itself(folder: Path) -> None:
    with pytest.raises(InputError, match="has no key of hospital-c, this site itself"):
        identity_of(node(folder, 0, "hospital-c"))


def test_a_key_that_fits_another_name_or_none(folder: Path) -> None:
    with pytest.raises(InputError, match=f"it is the key of {A}, and this site is"):
        identity_of(node(folder, 0, B))
    write_credentials(folder / "new", [A], ["localhost"], 1)
    other = {**node(folder / "new", 0, A), "roster": str(folder / "roster.toml")}
    with pytest.raises(InputError, match=f"it is the key of nobody, and this site is {A}"):
        identity_of(other)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read(folder: Path, mode: int) -> None:
    (folder / "node-0-signing.key").chmod(mode)
    with pytest.raises(InputError, match=rf"others .* \(mode {mode:o}\); chmod 600"):
        identity_of(node(folder, 0, A))


@pytest.mark.parametrize("file", ["node-0.key", "node-0.pub", "ca.crt", "roster.toml", "nothing"])
def test_a_file_that_is_no_signing_key(folder: Path, file: str) -> None:
    wrong = {**node(folder, 0, A), "signing-key": str(folder / file)}
    with pytest.raises(InputError, match=rf"signing-key = '.*{file}': (should be|No such)"):
        identity_of(wrong)


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICNC3KnLnYg99087QfAxp0oQkN68MmB8/fMWQNexa4Be"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[keys", "is not a TOML file"),
        (b"\xff\xfe", "is not a TOML file"),
        (b"", r"one table, \[keys\]"),
        (b"keys = 3", r"one table, \[keys\]"),
        (b"[keys]\n[other]", r"one table, \[keys\]"),
        (b'[keys]\na = "ssh-ed25519 AAAA"', "a = 'ssh-ed25519 AAAA': should be a public key"),
        (b"[keys]\na = 3", "a = 3: should be a public key"),
        (f'[keys]\n"a,b" = "{KEY}"'.encode(), "client = 'a,b': a client's name has"),
        (f'[keys]\na = "{KEY}"\nb = "{KEY}"'.encode(), "b: has the key of another client"),
    ],
)
def test_a_broken_roster(tmp_path: Path, text: bytes, reason: str) -> None:
    path = tmp_path / "roster.toml"
    path.write_bytes(text)
    with pytest.raises(InputError, match=f"{path}.*{reason}"):
        read_roster(path)


def test_no_roster_at_the_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing.toml': No such file"):
        read_roster(tmp_path / "nothing.toml")


def test_a_private_key_is_not_shown(folder: Path) -> None:
    a, _ = identities(folder)
    assert Ed25519PrivateKey.__name__ not in repr(a)
