"""A federation that stays open: it waits for new sites, and publishes each new head."""

import time

from celeba_fl.common.files import write_json
from celeba_fl.common.log import LOG
from celeba_fl.membership.joining import Draw, LateComers
from celeba_fl.membership.withdrawals import now
from celeba_fl.rounds.cohort import CohortGrid

POLL_SECONDS = 1.0
STATE_SECONDS = 5.0
# A node that was refused is asked again after so long; one that was offline meanwhile, at once.
AGAIN_SECONDS = 600.0
STOP, STATE = "stop", "serving.json"


def serve(late: LateComers, draw: Draw) -> None:
    """Let clients join whenever they come, until Ctrl-C, or a file named stop in the directory.

    Whatever goes wrong with one of them is logged, and the others are served.
    """
    stop = late.run.path / STOP
    stop.unlink(missing_ok=True)
    door = _Door(late, draw)
    LOG.info("Open to more clients, until Ctrl-C or a file %s", stop)
    try:
        while not stop.exists():
            door.look()
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        LOG.info("Interrupted")
    stop.unlink(missing_ok=True)
    door.say("ended")
    LOG.info("Closed; the head is that of %d clients", late.run.clients_of_head())


class _Door:
    """Which nodes have been asked, and whether there is a head to be made."""

    def __init__(self, late: LateComers, draw: Draw) -> None:
        self._late, self._draw = late, draw
        self._since, self._said = now(), 0.0
        self._due: dict[int, float] = {}  # when each node is asked again
        self._joined: list[str] = []  # who is in no head yet
        # Who has sent sums before a power cut is in no head either.
        self._pending = late.run.clients_of_head() != len(late.members.clients)
        self._head_due = 0.0

    def look(self) -> None:
        """Ask the nodes that are new, and publish a head if one of them has joined."""
        late, online, moment = self._late, {*self._late.grid.get_node_ids()}, time.monotonic()
        self._due = {node: due for node, due in self._due.items() if node in online}
        late.here = {name: node for name, node in late.here.items() if node in online}
        if new := [node for node in sorted(online) if self._due.get(node, 0.0) <= moment]:
            self.say("asking")
            self._due |= dict.fromkeys(new, moment + AGAIN_SECONDS)
            self._ask(new)
        if self._pending and self._head_due <= moment:
            self.say("solving")
            self._publish()
        if moment - self._said > STATE_SECONDS:
            self.say("waiting")

    def _ask(self, new: list[int]) -> None:
        late = self._late
        try:
            joined, able = late.ask(CohortGrid(late.grid, new), 0)
        except Exception as error:  # of whatever kind: others may still come
            LOG.error("Nobody has joined: %s", error)
            late.reload()
            return
        self._due |= dict.fromkeys(able, float("inf"))
        self._joined += joined
        self._pending = self._pending or bool(joined)

    def _publish(self) -> None:
        try:
            self._late.publish(self._joined, self._draw)
        except Exception as error:  # a full disk, for one: the head before it stays
            LOG.error("The head could not be made: %s", error)
            self._head_due = time.monotonic() + AGAIN_SECONDS
            return
        self._joined, self._pending = [], False

    def say(self, state: str) -> None:
        """Write down how it stands, for the dashboard."""
        self._said = time.monotonic()
        about = {
            "state": state,
            "since": self._since,
            "updated": now(),
            "clients": self._late.run.clients_of_head(),
            "online": len(self._late.here),
        }
        write_json(self._late.run.path / STATE, about, sync=False)
