"""Which clients are switched off, by connection: kept in the home, so that the next visit knows."""

import json
from pathlib import Path

from celeba_fl.common.files import make_folder, write_json

FILE = "devices.json"


def remembered(folder: Path, where: str) -> set[str]:
    """The clients that are off there; a file that is none of ours counts as none."""
    return set(_read(folder).get(where, ()))


def keep(folder: Path, where: str, off: set[str]) -> None:
    """Remember them."""
    make_folder(folder)
    write_json(folder / FILE, {**_read(folder), where: sorted(off)})


def _read(folder: Path) -> dict[str, list[str]]:
    try:
        said = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return {}
    lists = said.items() if isinstance(said, dict) else ()
    return {where: [str(one) for one in off] for where, off in lists if isinstance(off, list)}
