"""Names bound to keys."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from celeba_fl.common.errors import InputError
from celeba_fl.deployment.client_keys import name_check, read_client_keys

KEYS = [ec.generate_private_key(ec.SECP384R1()).public_key() for _ in range(3)]
LINES = [key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() for key in KEYS]


class Grid:
    """A grid of three nodes with these keys, and of one that has none."""

    def get_nodes(self) -> list[Any]:
        form = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        pems = [*(key.public_bytes(*form) for key in KEYS), b""]
        return [SimpleNamespace(node_id=i, public_key=pem) for i, pem in enumerate(pems)]


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "client-keys"
    path.write_text(f"# of 2026\n{LINES[0]} hospital-a\n\n{LINES[1]}  St. Mary (B)\n")
    monkeypatch.setenv("CELEBA_FL_CLIENT_KEYS", str(path))
    return path


def test_a_client_has_the_name_of_its_key(listed: Path) -> None:
    check = name_check(Grid())
    check(0, "hospital-a")
    check(1, "St. Mary (B)")


def test_the_name_of_another_key_is_refused_with_the_cure(listed: Path) -> None:
    check = name_check(Grid())
    cure = rf"it has the key of hospital-a; set site = 'hospital-a' .*, or correct {listed}"
    for name in ("St. Mary (B)", "hospital-z", "Hospital-a", "hospital-a "):
        with pytest.raises(InputError, match=cure):
            check(0, name)


@pytest.mark.parametrize("node_id", [2, 3, 9], ids=["not listed", "no key", "no such node"])
def test_a_key_that_is_not_listed_has_no_name(listed: Path, node_id: int) -> None:
    check = name_check(Grid())
    for name in ("hospital-a", "hospital-z"):
        with pytest.raises(InputError, match=f"not listed; if it is the key of {name}, add it to"):
            check(node_id, name)


@pytest.mark.parametrize("unset", [True, False])
def test_without_a_list_every_name_is_right(
    unset: bool, listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if unset:
        monkeypatch.delenv("CELEBA_FL_CLIENT_KEYS")
    else:
        monkeypatch.setenv("CELEBA_FL_CLIENT_KEYS", "")
    name_check(None)(9, "anybody")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hospital-a", "line 1: should be a public key as OpenSSH writes it"),
        (f"{LINES[0]} a\necdsa-sha2-nistp384 AAAA b\n", "line 2: should be a public key"),
        (LINES[0], "line 1 = '': a client's name has"),
        (f"{LINES[0]} =a\n", "line 1 = '=a': a client's name has"),
        (f"{LINES[0]} a\n{LINES[0]} b\n", "line 2: the key or the name of b has another line"),
        (f"{LINES[0]} a\n{LINES[1]} a\n", "line 2: the key or the name of a has another line"),
    ],
)
def test_a_list_that_says_nothing_clear_is_refused(text: str, reason: str, listed: Path) -> None:
    listed.write_text(text)
    with pytest.raises(InputError, match=reason):
        read_client_keys(listed)


def test_a_list_that_is_not_there_is_refused(listed: Path) -> None:
    listed.unlink()
    with pytest.raises(InputError, match=r"CELEBA_FL_CLIENT_KEYS = .*: No such file"):
        name_check(Grid())
