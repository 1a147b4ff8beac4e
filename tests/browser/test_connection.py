"""Which SuperLink a connection of Flower's commands names."""

from pathlib import Path

import pytest

from celeba_fl.browser.connection import SuperLink, superlink
from celeba_fl.common.errors import InputError

CONFIG = """
[superlink]
default = "theirs"
[superlink.theirs]
address = "fl.example.org:443"
root-certificates = "{ca}"
[superlink.plain]
address = "127.0.0.1:8000"
insecure = true
[superlink.local]
options.num-supernodes = 10
[superlink.flower]
address = ":local:"
[superlink.bare]
address = "fl.example.org"
[superlink.url]
address = "https://fl.example.org:443/"
"""


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text(CONFIG.format(ca=tmp_path / "ca.crt"))


def test_a_connection_is_found_by_its_name_or_is_the_default(tmp_path: Path) -> None:
    theirs = SuperLink("theirs", "fl.example.org:443", tmp_path / "ca.crt")
    assert superlink(None) == superlink("theirs") == theirs
    assert theirs.url == "https://fl.example.org:443"
    assert superlink("plain").url == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other", r"connection 'other': is none of Flower's \(theirs, .*\[superlink.other\]"),
        ("default", "connection 'default': is none"),
        ("local", r"simulation.*name a SuperLink .*\(theirs, plain.*--browsers 3"),
        ("flower", "connection 'flower': is a simulation"),
        ("bare", "address = 'fl.example.org': should be a name or an IP address, and a port"),
        ("url", "address = 'https://fl.example.org:443/': should be"),
    ],
)
def test_what_leads_to_no_superlink_is_refused_with_the_cure(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        superlink(name)


def test_a_root_certificate_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ca.crt': No such file.*of whoever runs the SuperLink"):
        superlink("theirs").context()
    (tmp_path / "ca.crt").write_text("no certificate")
    with pytest.raises(InputError, match=r"ca.crt': no certificate"):
        superlink("theirs").context()
