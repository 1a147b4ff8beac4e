"""Arrays that a client keeps to itself: on its own disk, by round, so that a run can go on."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from celeba_fl.common.files import pack_arrays, write_bytes
from celeba_fl.common.log import LOG


@dataclass(frozen=True)
class ClientFiles:
    """What one client keeps of one run.

    Parameters
    ----------
    folder : Path
        Where it is.
    keep : int
        How many of the newest stay.
    """

    folder: Path
    keep: int

    @classmethod
    def of(cls, home: Path, task: str, run: str, client: str, checkpoints: int) -> "ClientFiles":
        """In ``home/<task>/<run>/<client>``; enough to go on from each of the run's checkpoints.

        That is one more than there are checkpoints, since the client may have done a round that
        the run has not finished.
        """
        # A dot is quoted too: ".." would be the folder above.
        names = (quote(name, safe="").replace(".", "%2E") for name in (run, client))
        return cls(home.joinpath(task, *names), checkpoints + 1)

    def save(self, number: int, arrays: dict[str, np.ndarray]) -> None:
        """Keep arrays as those after round `number`, and of older ones the newest."""
        write_bytes(self._path(number), pack_arrays(arrays, {}))
        # Later ones are of rounds that the run, which goes on here, has not done.
        past = [old for old in self._rounds() if old <= number]
        for old in set(self._rounds()) - set(past[-self.keep :]):
            self._path(old).unlink()

    def load(self, number: int) -> dict[str, np.ndarray] | None:
        """The newest arrays up to and with round `number`; None without any."""
        for known in reversed([known for known in self._rounds() if known <= number]):
            try:
                return load_file(self._path(known))
            except (SafetensorError, OSError) as error:
                LOG.warning("%s cannot be read: %s", self._path(known), error)
        return None

    def _rounds(self) -> list[int]:
        return sorted(int(path.stem.split("-")[1]) for path in self.folder.glob("round-*"))

    def _path(self, number: int) -> Path:
        return self.folder / f"round-{number:04d}.safetensors"
