"""A site's own ledger: what its data have said in all runs, whoever asked, and where that ends.

It lies in the site's home, `privacy/<client>.jsonl`, a line for each answer that has noise in it or
that a server has promised to add it to. An answer is written down before it is computed: what was
on the way when a run failed has been said. Answers count together if they are of the same data, by
their fingerprint, or of data at the same place: a picture more does not make new people of the old
ones. Two keys of a node config set the limit, and a third the unit that is to be protected::

    privacy-limit = 4.0
    privacy-delta = 1e-6
    privacy-unit = "person"
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import make_folder, write_bytes
from celeba_fl.privacy.ledger import TOLERANCE, Data, epsilon_of

FOLDER = "privacy"
LIMIT, DELTA, UNIT = "privacy-limit", "privacy-delta", "privacy-unit"  # keys of a node config
# From the weakest promise to the strongest, each of which has those before it in it.
UNITS = ("image", "person", "client")


@dataclass(frozen=True)
class Limit:
    """How much a site lets out in all, of each of what it protects."""

    epsilon: float
    delta: float
    unit: str = "person"

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> "Limit | None":
        """The limit in a node config, if there is one; InputError if it is none."""
        if LIMIT not in node:
            return None
        numbers = {LIMIT: node[LIMIT], DELTA: node.get(DELTA, 0)}
        for key, value in numbers.items():
            below = 1.0 if key == DELTA else math.inf
            if type(value) not in (int, float) or not 0 < value < below:
                raise InputError(
                    f"{key} = {value!r}: in a node config with {LIMIT}, should be a number above 0 "
                    f"and below {below:g}, such as {4.0 if key == LIMIT else 1e-6:g}"
                )
        unit = node.get(UNIT, "person")
        if unit not in UNITS:
            raise InputError(f"{UNIT} = {unit!r}: in a node config, should be {', '.join(UNITS)}")
        return cls(float(numbers[LIMIT]), float(numbers[DELTA]), str(unit))


@dataclass(frozen=True)
class Asked:
    """An answer that a run asks for, as its config describes it.

    The multiplier is that of the noise in the total over clients; `whole` is that of all answers
    together which the run may ask for.
    """

    run: str
    round: int
    unit: str
    noise_multiplier: float
    whole: float


@dataclass(frozen=True)
class SiteLedger:
    """The ledger of a client in its home, for some data."""

    home: Path
    client: str
    data: Data
    limit: Limit | None

    @property
    def path(self) -> Path:
        """Its file, for all data of the client."""
        return self.home / FOLDER / f"{quote(self.client, safe=' ')}.jsonl"

    def check(self, asked: Asked) -> None:
        """Raise InputError if all that a run may ask for would be beyond the limit."""
        self._check(asked, lambda own: max(own, asked.whole**-2))

    def spend(self, asked: Asked) -> None:
        """Write an answer down; InputError if it would be beyond the limit."""
        make_folder(self.path.parent)
        with FileLock(f"{self.path}.lock"):
            self._check(asked, lambda own: own + asked.noise_multiplier**-2)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            line = json.dumps({"when": now, **asdict(asked), **asdict(self.data)})
            before = self.path.read_text() if self.path.exists() else ""
            write_bytes(self.path, f"{before}{line}\n".encode())

    def _check(self, asked: Asked, to_come: Callable[[float], float]) -> None:
        """Check the answers of all runs together, of which this one's are `to_come`.

        That is a sum of 1 / z^2 over its noise multipliers, given that of those so far: a run that
        goes on has some of the whole behind it.
        """
        if (limit := self.limit) is None:
            return
        if UNITS.index(asked.unit) < UNITS.index(limit.unit):
            raise InputError(
                f"{UNIT} = {asked.unit!r}: this site protects a {limit.unit} ({UNIT} of its node "
                f"config); set {UNIT} = {limit.unit!r}",
                open_to_all=True,
            )
        others, own = [], 0.0
        for run, unit, z in self._answers():
            if UNITS.index(unit) < UNITS.index(limit.unit):
                raise InputError(
                    f"{LIMIT} = {limit.epsilon:g}: these data have answered before under "
                    f"{UNIT} = {unit!r}, and what that said of a {limit.unit} is not known; with "
                    f"other data, or with {UNIT} = {unit!r} in its node config, it can take part",
                    open_to_all=True,
                )
            if run == asked.run:
                own += z**-2
            else:
                others.append(z)
        together = epsilon_of([*others, to_come(own) ** -0.5], limit.delta)
        if together > limit.epsilon * (1 + TOLERANCE):
            raise InputError(
                f"{LIMIT} = {limit.epsilon:g}: after this run the data of this site would have "
                f"said epsilon {together:.4g} at delta {limit.delta:g} (unit: {limit.unit}), "
                f"{epsilon_of(others, limit.delta):.4g} of it in other runs; it refuses more, "
                f"whoever asks. Set privacy-epsilon lower",
                open_to_all=True,
            )

    def _answers(self) -> list[tuple[str, str, float]]:
        """Run, unit and noise multiplier of what these data have said, under whatever name.

        Raises
        ------
        InputError
            If the file cannot be read: then nobody knows what was said.
        """
        try:
            files = sorted(self.path.parent.glob("*.jsonl"))
            lines = [line for file in files for line in file.read_text().splitlines()]
            said = [json.loads(line) for line in lines]
            return [
                (str(one["run"]), UNITS[UNITS.index(one["unit"])], float(one["noise_multiplier"]))
                for one in said
                if one["fingerprint"] == self.data.fingerprint or one["place"] == self.data.place
            ]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise InputError(
                f"{self.path.parent} cannot be read: {error!r}; so nobody knows what this site has "
                f"said before. Mend the files"
            ) from error
