"""`withdrawals.json`: who has left a run, and what was done about it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from celeba_fl.common.bundle import code_description
from celeba_fl.common.errors import InputError
from celeba_fl.common.files import write_json
from celeba_fl.runs.directory import iso
from celeba_fl.runs.reading import read_json

FILE = "withdrawals.json"


class Withdrawals:
    """The withdrawals from a run, the oldest first, as they are in its directory."""

    def __init__(self, run: Path) -> None:
        self._path = run / FILE
        self.all: list[dict[str, Any]] = []
        if self._path.exists():
            said = read_json(self._path).get("withdrawals")
            if not isinstance(said, list) or not all(isinstance(one, dict) for one in said):
                raise InputError(f"{self._path} cannot be read: it holds no list of withdrawals")
            self.all = said

    def of(self, client: str) -> dict[str, Any] | None:
        """The newest withdrawal of a client, unless it has joined again; None without any."""
        for one in reversed(self.all):
            if one.get("client") == client:
                return None if one.get("joined_again") else one
        return None

    def begin(self, client: str) -> dict[str, Any]:
        """Note that a client withdraws, before anything is done; or the entry that is there."""
        found = self.of(client)
        if found is None:
            found = {"client": client, "begun": now(), "done": None}
            self.all.append(found)
        self.note(found, {"code": code_description()})
        return found

    def note(self, withdrawal: dict[str, Any], more: Mapping[str, Any]) -> None:
        """Write down more about a withdrawal."""
        withdrawal.update(more)
        write_json(self._path, {"withdrawals": self.all})


def now() -> str:
    """Say what time it is, as it stands in the files of a run."""
    return iso(datetime.now(UTC))
