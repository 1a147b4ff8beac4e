"""What each client brought to a head in closed form, and whose sums spoil it.

Everything is judged on the server's validation split, by the plain head of the ratio that is best
for the clients whom nobody accuses. That ratio is kept: chosen anew it would jump by half a decade
for a hair, and hide what the client did.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.common.threads import one_thread
from celeba_fl.config import RunConfig
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.evaluation.changes import FIGURES, Judged, change, columns
from celeba_fl.evaluation.intervals import Estimate
from celeba_fl.evaluation.metrics import Rows
from celeba_fl.models import ridge
from celeba_fl.models.heads import scores
from celeba_fl.models.leave_out import Pulls, Together, head_of, side_by_side
from celeba_fl.tasks.closed_form import part_of
from celeba_fl.tasks.examples import Examples

# The chance, over people, that any of the suspected clients is accused whose sums do no harm.
ALPHA = 0.05
# The change where nobody leaves.
NOTHING = Estimate(*(np.full(len(FIGURES), np.nan) for _ in range(3)))


def check_jury(config: RunConfig, num_valid: int) -> None:
    """Raise InputError if clients are to be left out, and nothing tells whether that helps."""
    if config.robust != "none" and not num_valid:
        raise InputError(
            f"robust = {config.robust!r}: is judged on images of the official validation split on "
            f"the server, and {config.dataset} has none; set it to none"
        )


class Contributions:
    """Clients judged by the head without each of them.

    A client is accused if its sums are suspected, see `celeba_fl.models.leave_out`, and also do
    harm beyond chance: beside those of the others whom nobody suspects, they raise the loss on
    validation, with an interval over people that is wide enough for so many clients (Bonferroni).
    Suspected clients that do no harm one by one are accused if they do so together.

    Parameters
    ----------
    sums : Arrays
        The complete sums of all clients, see `closed_form.complete`.
    names, read
        The clients, and what gives the sums of one.
    valid : Examples
        The server's validation split.
    """

    def __init__(
        self, sums: Arrays, names: Iterable[str], read: Callable[[str], Arrays], valid: Examples
    ) -> None:
        self._valid, self._labels = part_of(sums, "valid"), valid.labels
        self._people = valid.celeb_id
        self._features = np.asarray(valid.features[np.arange(len(valid))])
        total, factor = _plain(sums), sums.get("factor")
        self.clients = Together(tuple(names), total, lambda one: _plain(read(one)), factor)
        self._held_out = ridge.matrices(self._valid, self.clients.scale)

    @cached_property
    def pulls(self) -> Pulls:
        """How the sums of each client pull at the head."""
        with one_thread():
            return Pulls.of(self.clients, self._valid)

    @cached_property
    def accused(self) -> list[str]:
        """The clients whose sums are suspected and do harm."""
        pulls = self.pulls
        suspected = [n for n, so in zip(pulls.names, pulls.suspected, strict=True) if so]
        if not suspected:
            return []
        left = self.clients.without(suspected)
        with one_thread():
            ratio = self._ratio(left)
            before = self._judged(left, ratio)

            def harmful(names: Sequence[str]) -> bool:
                there = self._judged(self.clients.joined(left, names), ratio)
                harm = change(before, there, self._people)
                low, _ = harm.interval(1 - 2 * ALPHA / len(pulls.names))
                return bool(low[FIGURES.index("loss")] > 0)

            accused = [name for name in suspected if harmful([name])]
            others = [name for name in suspected if name not in accused]
            # What each of many does may be too little to be seen, and together it is not.
            if others and harmful(others):
                accused = suspected
        return accused

    def rows(self) -> Rows:
        """A row for each client: what changes when it leaves those whom nobody accuses.

        `same_as` names clients that hold the same, or nearly, and ``together_`` are the changes
        when all of these leave.
        """
        pulls, accused = self.pulls, set(self.accused)
        alike = [names for names in pulls.alike() if not accused & {*names}]
        left = self.clients.without(sorted(accused))
        with one_thread():
            ratio = self._ratio(left)
            all_there = self._judged(left, ratio)
            together: dict[str, tuple[list[str], Estimate]] = {}
            for names in alike:
                without = self._judged(self.clients.without(names, left), ratio)
                gone = change(all_there, without, self._people)
                together |= dict.fromkeys(names, (names, gone))

            def row(i: int) -> dict[str, Any]:
                name = pulls.names[i]
                if name in accused:
                    other = self._judged(self.clients.joined(left, [name]), ratio)
                    changed = change(other, all_there, self._people)
                else:
                    other = self._judged(self.clients.without([name], left), ratio)
                    changed = change(all_there, other, self._people)
                names, gone = together.get(name, ([], NOTHING))
                return {
                    "client": name,
                    "num_examples": round(pulls.sizes[i]),
                    "accused": "yes" if name in accused else "",
                    "excess": pulls.excess[i],
                    **columns(changed),
                    "same_as": ", ".join(one for one in names if one != name),
                    **columns(gone, "together_"),
                }

            return side_by_side(row, range(len(pulls.names)))

    def _ratio(self, left: Arrays) -> float:
        return ridge.choose(left, self._valid, self.clients.factor).ratio

    def _judged(self, sums: Arrays, ratio: float) -> Judged:
        head = head_of(sums, self._held_out, ratio, self.clients.scale)
        return Judged.of(scores(head, self._features), self._labels)


def accuse(contributions: Contributions) -> list[str]:
    """The clients to leave out, named in the log."""
    pulls, accused = contributions.pulls, contributions.accused
    excess = dict(zip(pulls.names, pulls.excess, strict=True))
    for name in accused:
        LOG.warning(
            "robust = 'leave-out': client %s is left out: its sums pull at the head %.3g times as "
            "strongly as those of the median client, and raise the loss on validation",
            *(name, excess[name]),
        )
    return accused


def _plain(sums: Arrays) -> Arrays:
    """The train sums without those of groups."""
    train = part_of(sums, "train")
    return {"xx": train["xx"], "xy": train["xy"][:, : len(ATTRIBUTES)]}
