"""The code that runs: where it is, its version and its hash, from a checkout or Flower's bundle."""

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tomli

PACKAGE = Path(__file__).resolve().parents[1]
PYPROJECT = PACKAGE.parent / "pyproject.toml"


def pyproject() -> dict[str, Any]:
    """The content of the app's `pyproject.toml`."""
    return tomli.loads(PYPROJECT.read_text(encoding="utf-8"))


def app_version() -> str:
    """The app's version: of the `pyproject.toml` in a checkout or bundle, else of the wheel."""
    return str(pyproject()["project"]["version"]) if PYPROJECT.exists() else version("celeba-fl")


@cache
def code_hash() -> str:
    """SHA-256 (hex) of this package's code: server and clients must run the same."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
