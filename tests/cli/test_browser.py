"""`celeba-fl browser`, and what `celeba-fl deploy local` says of tabs."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from celeba_fl.browser.runtime import VERSION
from celeba_fl.cli.app import app
from celeba_fl.common.errors import InputError
from celeba_fl.deployment.local import free_ports


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["deploy", "local", "--headless"], "say how many with --browsers"),
        (["deploy", "local", "--nodes", "0"], "--nodes 0: a federation has a node"),
        (["browser", "none"], "connection 'none': is none of Flower's"),
    ],
)
def test_what_cannot_be_is_refused(
    words: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, InputError)
    assert reason in str(done.exception)


def test_the_page_is_served_until_it_is_ended(tmp_path: Path) -> None:
    (tmp_path / "home" / "browser" / f"onnxruntime-web-{VERSION}").mkdir(parents=True)
    (tmp_path / "config.toml").write_text(
        '[superlink]\ndefault = "mine"\n'
        '[superlink.mine]\naddress = "127.0.0.1:9"\ninsecure = true\n'
    )
    # Where tests run in the background, children ignore it.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from celeba_fl import cli; cli.main()"
    (port,) = free_ports(1)
    with subprocess.Popen(
        [sys.executable, "-c", code, "browser", "--port", str(port)],
        env={"FLWR_HOME": str(tmp_path), "CELEBA_FL_HOME": str(tmp_path / "home"), "PATH": ""},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith(f"Open http://127.0.0.1:{port}/ in a browser; its calls go to")
        assert "127.0.0.1:9" in said
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
