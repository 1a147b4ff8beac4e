"""ONNX Runtime Web: taken from the npm registry once, pinned, and kept in `home`."""

import base64
import hashlib
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx

from celeba_fl.common.errors import InputError, printable
from celeba_fl.common.files import keep
from celeba_fl.common.log import LOG

VERSION = "1.30.0"
# What `npm view onnxruntime-web@1.30.0 dist.integrity` says of its file.
INTEGRITY = (
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02V"
    "b7QmRMDs1SigqR4CXAfKYQ=="
)
PACKAGE = f"onnxruntime-web-{VERSION}.tgz"
REGISTRY = "https://registry.npmjs.org"
# What the page asks for.
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
MOST_BYTES = 2**26  # of the package, which has 28 MB
SECONDS = 30.0


def runtime_folder(home: Path, package: Path | None = None) -> Path:
    """The folder with the files of ONNX Runtime Web; the first time, they are fetched.

    `package` is what ``npm pack`` has written, for a machine that cannot reach the registry.

    Raises
    ------
    InputError
        If the package cannot be fetched or read, or is not the one of this version.
    """

    def unpack(folder: Path) -> None:
        data = _fetch() if package is None else _read(package)
        source = f"{REGISTRY}: {PACKAGE}" if package is None else f"--runtime {package}"
        digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
        if f"sha512-{digest}" != INTEGRITY:
            raise InputError(
                f"{source}: is not onnxruntime-web {VERSION} as it was published (its SHA-512 is "
                f"another one); get it with: npm pack onnxruntime-web@{VERSION}"
            )
        folder.mkdir()
        with tarfile.open(fileobj=BytesIO(data), mode="r:gz") as tar:
            for name in FILES:
                file = tar.extractfile(f"package/dist/{name}")
                assert file is not None  # its hash says so
                (folder / name).write_bytes(file.read())

    return keep(home / "browser" / f"onnxruntime-web-{VERSION}", unpack)


def _read(package: Path) -> bytes:
    try:
        return package.read_bytes()
    except OSError as error:
        raise InputError(
            f"--runtime {package}: {error.strerror}; it should be {PACKAGE}, as this writes it: "
            f"npm pack onnxruntime-web@{VERSION}"
        ) from None


def _fetch() -> bytes:
    url = f"{REGISTRY}/onnxruntime-web/-/{PACKAGE}"
    LOG.info("Downloading %s, once", url)
    try:
        with httpx.stream("GET", url, timeout=SECONDS) as answer:
            answer.raise_for_status()
            return b"".join(_bounded(answer.iter_bytes(), url))
    except httpx.HTTPError as error:
        raise InputError(
            f"cannot download {url} ({printable(error)}); where there is a network, "
            f"npm pack onnxruntime-web@{VERSION}, and give its file with --runtime {PACKAGE}"
        ) from None


def _bounded(chunks: Iterator[bytes], url: str) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > MOST_BYTES:
            raise InputError(f"{url}: has more than {MOST_BYTES} bytes, so it is another file")
        yield chunk
