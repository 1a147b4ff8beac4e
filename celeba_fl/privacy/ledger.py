"""The ledger of a run under a privacy budget: each release, and what all of them add up to.

A release is a sum over clients with Gaussian noise, and says as much of one person as its noise is
small against the most that one person can change it. Releases with the noise multipliers z say
together what one says with the multiplier ``1 / sqrt(sum 1 / z^2)`` (Dong, Roth and Su, "Gaussian
Differential Privacy", JRSS-B 2022, corollary 3.3), and its epsilon at a delta is exact (Balle and
Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018).

What is not in the ledger does not leave a client, see `celeba_fl.privacy.gate`.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import write_json
from celeba_fl.common.log import LOG
from celeba_fl.privacy.noise import accounting
from celeba_fl.rounds.exchange import Replies
from celeba_fl.rounds.messages import SUMS, TRAIN

FILE = "privacy.json"
Send = Callable[..., dict[str, Replies]]
# What binary search leaves of an epsilon: no more is ever promised than so much above the budget.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Release:
    """Something that is made of clients' data and seen by others, with noise in it.

    `sensitivity` is by how much, in the Euclidean norm, one unit of privacy can change it at most,
    and `sigma` the deviation of the noise in each of its numbers, in the same measure.
    """

    name: str  # what is released, in plain words
    mechanism: str  # what the noise is, and who adds it
    sensitivity: float
    sigma: float

    @property
    def noise_multiplier(self) -> float:
        """The noise in terms of what it hides."""
        return self.sigma / self.sensitivity


@dataclass(frozen=True)
class Budget:
    """What a run may let out, and of whom."""

    epsilon: float
    delta: float
    unit: str  # ``person``, ``image`` or ``client``
    noise: str  # who adds it: the ``clients``, or the ``server``
    max_images: int = 0  # that count of a person; 0: it does not matter


@dataclass(frozen=True)
class Data:
    """Data of a site: where they are, and their fingerprint."""

    place: str
    fingerprint: str


def epsilon_of(multipliers: Iterable[float], delta: float) -> float:
    """The epsilon at `delta` of releases with these noise multipliers; 0 of none."""
    together = sum(z**-2 for z in multipliers)
    return float(accounting().get_epsilon_gaussian(together**-0.5, delta)) if together else 0.0


@dataclass
class Ledger:
    """The ledger of a run, kept in `privacy.json`; a run that is resumed goes on with its own.

    Parameters
    ----------
    folder : Path
        The run directory.
    releases : Sequence[Release]
        What a round of training lets out.
    rounds : Collection[int]
        The rounds of training that are to come.
    who : int
        The number of clients, whose total each release is.
    public : Sequence[str]
        In plain words, what is taken for public, and so is not protected.
    assumptions : Sequence[str]
        In plain words, what must hold for the promise to hold.

    Raises
    ------
    InputError
        If there would be more than the budget.
    """

    folder: Path
    budget: Budget
    releases: Sequence[Release]
    rounds: Collection[int]
    who: int
    public: Sequence[str]
    assumptions: Sequence[str]
    spent: list[dict[str, Any]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        path = self.folder / FILE
        if path.exists():
            try:
                self.spent = [{**one} for one in json.loads(path.read_text())["releases"]]
                self.total(())
            except (ValueError, KeyError, TypeError, OSError, ZeroDivisionError) as error:
                raise InputError(
                    f"resume: {path} cannot be read: {error!r}; start a new run"
                ) from error
        self._check(self.rounds)
        self._write()

    def total(self, more: Collection[Release]) -> float:
        """The epsilon of all releases so far, and of some `more`."""
        before = [one["sigma"] / one["sensitivity"] for one in self.spent if one["opened"]]
        return epsilon_of([*before, *(one.noise_multiplier for one in more)], self.budget.delta)

    def spend(self, number: int) -> None:
        """Write down the releases of a round, or of another try of it, before it is asked for.

        Raises
        ------
        InputError
            If the run would exceed its budget.
        """
        self._check([number])
        delta = self.budget.delta
        self.spent += [
            {
                "name": one.name,
                "round": number,
                "who": f"the total of {self.who} clients at most",
                "mechanism": one.mechanism,
                "sensitivity": one.sensitivity,
                "sigma": one.sigma,
                "epsilon": epsilon_of([one.noise_multiplier], delta),
                "opened": True,
            }
            for one in self.releases
        ]
        self._write()
        LOG.info(
            "Privacy: with round %d epsilon %.4g of %.4g at delta %.2g (unit: %s; %s)",
            *(number, self.total(()), self.budget.epsilon, delta, self.budget.unit, FILE),
        )

    def counting(self, send: Send) -> Send:
        """An exchange that is written down, if clients are asked for what is released.

        Where the clients add the noise, a total that was never asked for has said nothing: masked
        words alone are like any others.
        """

        def send_and_count(
            grid: Any, requests: Mapping[str, Any], *args: Any, server_round: int, **options: Any
        ) -> dict[str, Replies]:
            parts = {TRAIN, SUMS} & requests.keys()
            if parts:
                self.spend(server_round)
            done = send(grid, requests, *args, server_round=server_round, **options)
            if parts and self.budget.noise == "clients":
                for one in self.spent[-len(self.releases) :]:
                    one["opened"] = any(done[part].opened for part in parts)
                self._write()
            return done

        return send_and_count

    def _check(self, rounds: Collection[int]) -> None:
        budget, total = self.budget, self.total([*self.releases] * len(rounds))
        if total > budget.epsilon * (1 + TOLERANCE):
            done = sorted({one["round"] for one in self.spent if one["opened"]})
            before = f", and round {', '.join(map(str, done))} has been asked for" if done else ""
            raise InputError(
                f"privacy-epsilon = {budget.epsilon:g}: with round "
                f"{', '.join(map(str, rounds))} it would be {total:.4g} at delta "
                f"{budget.delta:g}{before}; nothing more is asked for. Start a new run, which each "
                f"site counts as another one"
            )

    def _write(self) -> None:
        budget = self.budget
        write_json(
            self.folder / FILE,
            {
                "unit": budget.unit,
                "noise": budget.noise,
                "max_images": budget.max_images or None,
                "epsilon": budget.epsilon,
                "delta": budget.delta,
                "public": [*self.public],
                "releases": self.spent,
                "total": self.total(()),
                "assumptions": [*self.assumptions],
            },
        )
