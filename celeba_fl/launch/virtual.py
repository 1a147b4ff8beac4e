"""A virtual clock for runs in one process: what clients take is said, not measured.

Then a run with slow and fast clients is over as soon as it is computed, and its times are the same
on every machine.
"""

import csv
import math
from pathlib import Path
from statistics import mean

from celeba_fl.common.errors import InputError
from celeba_fl.common.keys import split_names
from celeba_fl.config import RunConfig
from celeba_fl.rounds.clock import Clock

COLUMNS = ("client", "seconds")


class VirtualClock(Clock):
    """Time that stands still while anybody computes, and passes at once when all wait."""

    def __init__(self) -> None:
        self._now = 0.0
        self._due: dict[str, float] = {}  # the moment of each reply to come, by message

    def now(self) -> float:
        return self._now

    def wait(self, seconds: float, until: float) -> None:
        """Go on to the next reply, but not beyond a moment."""
        self._now = min([until, *(moment for moment in self._due.values() if moment > self._now)])

    def set(self, moment: float) -> None:
        self._now = moment

    def expect(self, message: str, seconds: float) -> None:
        """Have the reply to a message come after so many seconds."""
        self._due[message] = self._now + seconds

    def is_due(self, message: str) -> bool:
        """Whether the reply to a message is there; it is taken then."""
        if self._due.get(message, self._now) > self._now:
            return False
        self._due.pop(message, None)
        return True


def virtual_clock(config: RunConfig) -> VirtualClock | None:
    """The clock of a run in one process, if it has a virtual one."""
    virtual = config.client_seconds or config.scheduler == "asynchronous"
    return VirtualClock() if virtual else None


def client_seconds(text: str) -> tuple[float, dict[str, float]]:
    """The seconds that a client takes for an answer, and those of some clients, by name.

    A file may have several rows of a client, as `clients.csv` of a run: it takes their mean.

    Raises
    ------
    InputError
        If the key is none of what it can be.
    """
    usual, seconds = 1.0, {}
    if text.endswith(".csv"):
        rows = _rows(Path(text).expanduser())
        return usual, {client: mean(of_client) for client, of_client in rows.items()}
    for part in split_names(text):
        name, said, value = part.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 < number < math.inf:
            raise InputError(
                f"client-seconds = {text!r}: {part!r} should be seconds above 0, such as 1 for all "
                f"clients or hospital-a=20 for one, or all of it the path of a .csv file"
            )
        if said:
            seconds[name.strip()] = number
        else:
            usual = number
    return usual, seconds


def _rows(path: Path) -> dict[str, list[float]]:
    """The seconds in a file, by client."""
    found: dict[str, list[float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                found.setdefault(row["client"], []).append(float(row["seconds"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"client-seconds = {str(path)!r}: should be a file with the columns "
            f"{' and '.join(COLUMNS)}: {error!r}"
        ) from error
    if not all(0 < mean(seconds) < math.inf for seconds in found.values()):
        raise InputError(f"client-seconds = {str(path)!r}: seconds should be above 0")
    return found
