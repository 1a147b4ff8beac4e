"""Tickets: each has one key registered, under one name."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from page_server import Page

from celeba_fl.common.errors import InputError
from celeba_fl.deployment.client_keys import read_client_keys
from celeba_fl.deployment.local import LocalDeployment


def openssh(private: object = None) -> str:
    key = (private or generate_private_key(SECP384R1())).public_key()  # type: ignore[attr-defined]
    return str(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def test_a_ticket_is_for_one_key_and_a_tab_that_was_reloaded_has_it_still(page: Page) -> None:
    client, ticket, key = page.client(), page.tickets.issue("2"), openssh()
    for _ in range(2):
        said = {"ticket": ticket, "key": key}
        assert client.post("/try/node", content=json.dumps(said)).status_code == 204
    assert page.admitted == [("2", key)]
    other = client.post("/try/node", content=json.dumps({"ticket": ticket, "key": openssh()}))
    assert (other.status_code, "another key already" in other.json()["error"]) == (400, True)
    assert page.admitted == [("2", key)]


def test_without_a_ticket_nobody_is_registered(page: Page) -> None:
    page.tickets.issue("2")
    client = page.client()
    bodies = [b"", b"[]", b"no JSON", b'{"key": "k"}', b"\xff"]
    for body in (*bodies, json.dumps({"ticket": "2", "key": openssh()}).encode()):
        assert client.post("/try/node", content=body).status_code == 400
    assert client.post("/try/node", content=bytes(2**20 + 1)).status_code == 413
    assert page.admitted == []


@pytest.mark.parametrize(
    "key",
    [
        "ecdsa-sha2-nistp384 AAAA",
        openssh(generate_private_key(SECP256R1())),
        openssh(Ed25519PrivateKey.generate()),
        f"{openssh()} hospital-a",
        f"{openssh()}\n{openssh()}",
        "",
    ],
    ids=["cut", "P-256", "Ed25519", "named", "two", "none"],
)
def test_a_key_is_one_that_flower_knows(page: Page, key: str) -> None:
    with pytest.raises(InputError, match="key: should be ecdsa-sha2-nistp384"):
        page.tickets.use({"ticket": page.tickets.issue("2"), "key": key})
    assert page.admitted == []


def test_a_deployment_registers_it_and_lists_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(LocalDeployment, "_flwr", lambda self, *words: asked.append(words))
    deployment, keys = LocalDeployment(tmp_path / "here", "mine", []), [openssh(), openssh()]
    deployment.credentials.mkdir(parents=True)
    for name, key in zip("34", keys, strict=True):
        deployment.admit(name, key)
    owners = dict(zip(keys, "34", strict=True))
    assert read_client_keys(deployment.credentials / "client-keys") == owners
    for key, (verb, what, file, connection) in zip(keys, asked, strict=True):
        assert (verb, what, connection) == ("supernode", "register", "mine")
        assert Path(file).read_text().startswith(key)
