"""The code that runs: where it is, its version and its hash, from a checkout or Flower's bundle."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import tomli

PACKAGE = Path(__file__).resolve().parents[1]
PYPROJECT = PACKAGE.parent / "pyproject.toml"


def pyproject() -> dict[str, Any]:
    """The content of the app's `pyproject.toml`."""
    return tomli.loads(PYPROJECT.read_text(encoding="utf-8"))


def app_version() -> str:
    """The app's version; it may run from a bundle, so no package may be installed to ask."""
    return str(pyproject()["project"]["version"])


@cache
def code_hash() -> str:
    """SHA-256 (hex) of this package's code: server and clients must run the same."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
