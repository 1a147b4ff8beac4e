"""Time as the rounds see it, so that a simulation can have one of its own."""

import time

from flwr.serverapp import Grid


class Clock:
    """Time as it passes."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def wait(self, seconds: float, until: float) -> None:
        """Wait before one looks again: so long, or, on a clock that can tell, for the next reply.

        Nothing else happens before the moment `until`.
        """
        time.sleep(seconds)

    def set(self, moment: float) -> None:
        """Go on from a moment, where time can be set: this one cannot."""


def clock_of(grid: Grid) -> Clock:
    """The clock by which the nodes of a grid work: its own, if it has one."""
    return getattr(grid, "clock", None) or Clock()
