import ipaddress
import ssl
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from celeba_fl.common.errors import InputError
from celeba_fl.deployment.client_keys import read_client_keys
from celeba_fl.deployment.credentials import write_credentials
from celeba_fl.privacy.roster import read_roster, read_signing_key

CLIENTS = ["hospital-a", "0"]
HOSTS = ["fl.example.org", "10.0.0.7", "2001:db8::7"]


@pytest.fixture
def folder(tmp_path):
    write_credentials(tmp_path / "credentials", CLIENTS, HOSTS, 30)
    return tmp_path / "credentials"


def certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.mark.parametrize("host", [*HOSTS, "localhost", "127.0.0.1"])
def test_the_ca_vouches_for_the_server_by_each_of_its_names(folder, host):
    subject: x509.IPAddress | x509.DNSName
    try:
        subject = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    store = Store([certificate(folder / "ca.crt")])
    verifier = PolicyBuilder().store(store).build_server_verifier(subject)
    assert len(verifier.verify(certificate(folder / "server.crt"), [])) == 2


def test_not_by_another_name_nor_by_another_ca(folder, tmp_path):
    write_credentials(tmp_path / "other", ["a"], HOSTS, 30)
    for ca, host in ((folder, "example.org"), (tmp_path / "other", HOSTS[0])):
        store = Store([certificate(ca / "ca.crt")])
        verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName(host))
        with pytest.raises(VerificationError):
            verifier.verify(certificate(folder / "server.crt"), [])


def test_the_servers_key_belongs_to_its_certificate(folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")


def test_a_node_has_a_p384_pair_of_its_own(folder):
    keys = [load_ssh_private_key((folder / f"node-{i}.key").read_bytes(), None) for i in (0, 1)]
    for i, key in enumerate(keys):
        assert isinstance(key.curve, ec.SECP384R1)
        assert load_ssh_public_key((folder / f"node-{i}.pub").read_bytes()) == key.public_key()
    assert keys[0].public_key() != keys[1].public_key()


def test_the_list_has_the_name_of_each_key(folder):
    public = [(folder / f"node-{i}.pub").read_text() for i in (0, 1)]
    assert [line.split()[2] for line in public] == CLIENTS
    assert (folder / "client-keys").read_text() == "".join(public)
    keys = [" ".join(line.split()[:2]) for line in public]
    assert read_client_keys(folder / "client-keys") == dict(zip(keys, CLIENTS, strict=True))


def test_the_roster_has_the_public_half_of_what_each_client_signs_with(folder):
    signing = [read_signing_key(folder / f"node-{i}-signing.key") for i in (0, 1)]
    public = [key.public_key() for key in signing]
    assert read_roster(folder / "roster.toml") == dict(zip(CLIENTS, public, strict=True))


@pytest.mark.parametrize(
    ("clients", "reason"),
    [(["a", "a"], "--site a: there are two"), (["a,b"], "--site = 'a,b': a client's name")],
)
def test_each_client_has_a_name_of_its_own(tmp_path, clients, reason):
    with pytest.raises(InputError, match=reason):
        write_credentials(tmp_path / "c", clients, HOSTS, 30)
    assert not (tmp_path / "c").exists()


def test_only_the_owner_reads_any_of_it(folder):
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert {path.suffix for path in folder.iterdir()} == {".key", ".crt", ".pub", ".toml", ""}


def test_the_expiry_that_is_told_is_that_of_both_certificates(tmp_path):
    expiry = write_credentials(tmp_path / "c", ["a"], HOSTS, 30)
    assert abs(expiry - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)
    for name in ("ca.crt", "server.crt"):
        assert certificate(tmp_path / "c" / name).not_valid_after_utc == expiry


def test_nothing_is_overwritten(folder):
    before = (folder / "ca.key").read_bytes()
    with pytest.raises(InputError, match="is there already"):
        write_credentials(folder, CLIENTS, HOSTS, 30)
    assert (folder / "ca.key").read_bytes() == before


@pytest.mark.parametrize("host", ["https://fl.example.org", "fl.example.org:8000", "", "a b"])
def test_a_host_is_a_name_or_an_address(tmp_path, host):
    with pytest.raises(InputError, match="without a port"):
        write_credentials(tmp_path / "c", ["a"], ["localhost", host], 30)
    assert not (tmp_path / "c").exists()
