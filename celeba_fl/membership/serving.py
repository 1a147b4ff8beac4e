"""A federation that stays open: it waits for new sites, and publishes each new head."""

import time
from typing import Any

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import write_json
from celeba_fl.common.log import LOG
from celeba_fl.membership.joining import Draw, LateComers
from celeba_fl.membership.withdrawals import now
from celeba_fl.rounds.cohort import CohortGrid

POLL_SECONDS = 1.0
# A node that was refused is asked again after so long; one that was offline meanwhile, at once.
AGAIN_SECONDS = 600.0
STOP, STATE = "stop", "serving.json"


def serve(late: LateComers, draw: Draw) -> None:
    """Let clients join whenever they come, until Ctrl-C, or a file named stop in the directory.

    Whatever goes wrong with one of them is logged, and the others are served.
    """
    stop = late.run.path / STOP
    stop.unlink(missing_ok=True)
    served = _Served(late, draw)
    LOG.info("Open to more clients; ends by Ctrl-C, or by a file %s", stop)
    try:
        while not stop.exists():
            served.look()
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        pass
    stop.unlink(missing_ok=True)
    served.write("ended")
    LOG.info("Closed; the head is that of %d clients", len(late.members.clients))


class _Served:
    """The nodes that have been asked, and how it stands."""

    def __init__(self, late: LateComers, draw: Draw) -> None:
        self._late, self._draw = late, draw
        self._since = now()
        self._asked: dict[int, float] = {}  # when each node may be asked again
        self._joined: list[str] = []  # who is not in a head yet
        self._pending = late.run.clients_of_head() != len(late.members.clients)

    def look(self) -> None:
        """Ask the nodes that are new, and publish a head if one of them has joined."""
        late, online, moment = self._late, {*self._late.grid.get_node_ids()}, time.monotonic()
        self._asked = {node: due for node, due in self._asked.items() if node in online}
        late.here = {name: node for name, node in late.here.items() if node in online}
        new = [node for node in sorted(online) if self._asked.get(node, 0.0) <= moment]
        if new:
            self.write("asking")
            self._asked |= dict.fromkeys(new, moment + AGAIN_SECONDS)
            self._ask(new)
        if self._pending:
            self.write("solving")
            self._publish()
        self.write("waiting")

    def _ask(self, new: list[int]) -> None:
        try:
            joined, able = self._late.ask(CohortGrid(self._late.grid, new), 0)
        except (InputError, OSError) as error:
            LOG.error("Nobody has joined: %s", error)
            self._late.reload()
            return
        self._asked |= dict.fromkeys(able, float("inf"))
        self._joined += joined
        self._pending = self._pending or bool(joined)
...
