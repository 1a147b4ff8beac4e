"""Arrays that a client keeps to itself: on its own disk, by round, so that a run can go on."""

from pathlib import Path
from urllib.parse import quote

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from celeba_fl.common.files import RoundFiles, pack_arrays
from celeba_fl.common.log import LOG


class ClientFiles(RoundFiles):
    """What one client keeps of one run."""

    @classmethod
    def of(cls, home: Path, task: str, run: str, client: str, checkpoints: int) -> "ClientFiles":
        """In ``home/<task>/<run>/<client>``; enough to go on from each of the run's checkpoints.

        That is one more than there are checkpoints, since the client may have done a round that
        the run has not finished.
        """
        # A dot is quoted too: ".." would be the folder above.
        names = (quote(name, safe="").replace(".", "%2E") for name in (run, client))
        return cls(home.joinpath(task, *names), checkpoints + 1)

    def save(self, server_round: int, arrays: dict[str, np.ndarray]) -> None:
        """Keep arrays as those after a round."""
        self.write(server_round, pack_arrays(arrays, {}))

    def load(self, server_round: int) -> dict[str, np.ndarray] | None:
        """The newest arrays up to and with a round; None without any."""
        for past in reversed([past for past in self.rounds() if past <= server_round]):
            try:
                return load_file(self.path(past))
            except (SafetensorError, OSError) as error:
                LOG.warning("%s cannot be read: %s", self.path(past), error)
        return None
