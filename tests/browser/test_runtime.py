"""ONNX Runtime Web from a registry of this machine."""

import base64
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from celeba_fl.browser import runtime
from celeba_fl.browser.runtime import FILES, PACKAGE, VERSION, runtime_folder
from celeba_fl.common.errors import InputError


def packed(names: tuple[str, ...] = FILES) -> bytes:
    """A package with these files, and another that would be written outside of a folder."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name in (*(f"package/dist/{name}" for name in names), "package/../../../evil"):
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    return data.getvalue()


class Registry:
    """A registry that serves one file, and counts how often it is asked for it."""

    def __init__(self) -> None:
        self.data, self.asked, self.url = packed(), list[str](), ""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    served = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            self.send_response(200 if served.data else 503)
            self.end_headers()
            self.wfile.write(served.data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(runtime, "REGISTRY", served.url)
        digest = base64.b64encode(hashlib.sha512(served.data).digest()).decode()
        monkeypatch.setattr(runtime, "INTEGRITY", f"sha512-{digest}")
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield served
        server.shutdown()


def test_it_is_fetched_once_and_only_what_the_page_needs_is_kept(
    registry: Registry, tmp_path: Path
) -> None:
    for _ in range(2):
        folder = runtime_folder(tmp_path / "home")
    assert registry.asked == [f"/onnxruntime-web/-/{PACKAGE}"]
    kept = {file.name: file.read_text() for file in folder.iterdir()}
    assert kept == {name: f"package/dist/{name}" for name in FILES}
    assert VERSION in folder.name


def test_another_file_is_not_unpacked(registry: Registry, tmp_path: Path) -> None:
    registry.data += b"\0"
    with pytest.raises(InputError, match=rf"is not onnxruntime-web {VERSION} as it was published"):
        runtime_folder(tmp_path)
    assert [path.name for path in (tmp_path / "browser").iterdir() if path.suffix != ".lock"] == []


def test_a_registry_that_does_not_answer_is_told_with_the_cure(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.data = b""
    with pytest.raises(InputError, match=r"cannot download .*503.*--runtime onnxruntime-web"):
        runtime_folder(tmp_path)
    monkeypatch.setattr(runtime, "REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"cannot download http://127.0.0.1:9/.*npm pack"):
        runtime_folder(tmp_path)


def test_a_file_without_end_is_not_read_to_it(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "MOST_BYTES", len(registry.data) - 1)
    with pytest.raises(InputError, match="more than"):
        runtime_folder(tmp_path)


def test_it_can_be_given_by_hand(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--runtime .*none.tgz: No such file .*npm pack"):
        runtime_folder(tmp_path, tmp_path / "none.tgz")
    package = tmp_path / PACKAGE
    package.write_bytes(b"else")
    with pytest.raises(InputError, match=r"--runtime .*SHA-512"):
        runtime_folder(tmp_path, package)
    package.write_bytes(registry.data)
    assert {file.name for file in runtime_folder(tmp_path, package).iterdir()} == {*FILES}
    assert registry.asked == []
