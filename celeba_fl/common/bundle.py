"""The code that runs: where it is, its version and its hash, from a checkout or Flower's bundle."""

import hashlib
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import tomli

PACKAGE = Path(__file__).resolve().parents[1]
PYPROJECT = PACKAGE.parent / "pyproject.toml"


def app_version() -> str:
    """The app's version: of the `pyproject.toml` in a checkout or bundle, else of the wheel."""
    if not PYPROJECT.exists():
        return version("celeba-fl")
    return str(tomli.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["version"])


def code_path(module: str) -> Path | None:
    """The package of an imported module: its folder, or the file of a module that stands alone.

    None for this package's own modules, and for one that has no file.
    """
    root = module.partition(".")[0]
    if root == PACKAGE.name:
        return None
    package = sys.modules.get(root)
    folders = list(getattr(package, "__path__", ()))
    file = folders[0] if folders else getattr(package, "__file__", None)
    return Path(file).resolve() if file else None


@cache
def code_hash(module: str = "") -> str:
    """SHA-256 (hex) of this package's code: server and clients must run the same.

    If `module`, that of a task, is of another package, that one's code is hashed too.
    """
    digest = hashlib.sha256()
    for package in filter(None, (PACKAGE, code_path(module))):
        for path in sorted(package.rglob("*.py")) if package.is_dir() else [package]:
            place = path.relative_to(package if package == PACKAGE else package.parent)
            digest.update(place.as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def code_description(module: str = "") -> dict[str, str]:
    """Version, hash and place of the code for `run.json`; `module` as in `code_hash`."""
    own = code_path(module)
    about = {"version": app_version(), "sha256": code_hash(module), "path": str(PACKAGE)}
    return about | ({"task_path": str(own)} if own else {})
