"""A finished run whose head is made anew, since clients have joined or withdrawn.

It stays as finished as it was, whatever happens meanwhile: its model is the one before until the
next one is whole. Heads are numbered in the order in which they were made, in `heads.csv`.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.bundle import code_description
from celeba_fl.common.files import hash_file, pack_arrays, write_bytes
from celeba_fl.common.log import LOG
from celeba_fl.config import RunConfig
from celeba_fl.runs.directory import RunDirectory, iso
from celeba_fl.runs.reading import read_json
from celeba_fl.runs.tables import read_csv

HEADS, FOLDER = "heads.csv", "heads"


class ReopenedRun(RunDirectory):
    """The files of a finished run, to be written anew; a context manager that holds its lock.

    Raises
    ------
    InputError
        If somebody else is writing there.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path = path
        super().__init__(config, 0)

    def _open(self, config: RunConfig, flwr_run_id: int) -> None:
        self._hold(
            f"{self.path} is being written by another process; end that first (celeba-fl serve "
            f"ends by Ctrl-C, or by a file named stop in the run directory)"
        )
        self._info = read_json(self.path / "run.json")
        self._before = self._info["seconds"]

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._stop_heart()
        if error:
            LOG.error("The run stays as it was: %s", str(error) or repr(error))
        self._let_go()

    @property
    def seconds(self) -> float:
        """Wall time of the run itself; the time since its end does not count."""
        return self._before

    def keep_sums(self, sums: Arrays) -> Arrays:
        """Write the roll call's sums in the place of the earlier ones."""
        if sums:
            write_bytes(self.path / "sums.safetensors", pack_arrays(sums, {}))
        return sums

    def clients_of_head(self) -> int:
        """How many clients the newest head is of."""
        numbered = read_csv(self.path / HEADS)
        return int(numbered[-1]["clients"] if numbered else self._info["num_clients"])

    def number_first(self, copy: bool) -> None:
        """Give the run's own head the number 1, unless heads have numbers; keep a copy if told."""
        if not (self.path / HEADS).exists():
            made, clients = str(self._info["finished"]), int(self._info["num_clients"])
            code = str(self._info["code"]["sha256"])
            self._add_head(1, made, clients, (), (), code, copy)

    def publish(
        self,
        clients: Collection[str],
        joined: Collection[str],
        withdrawn: Collection[str],
        module: str,
    ) -> int:
        """Give the model that has been written a number, and keep a copy of it; the number.

        One that is as the last has that one's number. It is of these clients, and `module` is that
        of the task, whose code made it. Where not all take part who could, the run config names
        those that do, as in a run of theirs alone.
        """
        code, last = code_description(module), read_csv(self.path / HEADS)[-1]
        number, made = int(last["head"]), iso(datetime.now(UTC))
        if joined or withdrawn or last["model"] != hash_file(self.path / "model.safetensors"):
            number += 1
            self._add_head(number, made, len(clients), joined, withdrawn, code["sha256"], True)
        config = dict(self._info["config"])
        if withdrawn or config["clients"]:
            config["clients"] = ",".join(clients)
        self.update(code=code, num_clients=len(clients), config=config)
        return number

    def close(self, flwr_run_id: int) -> None:
        """Note that a run of Flower's has done what it was for."""
        self.update(flwr_run_ids=[*self._info["flwr_run_ids"], flwr_run_id])

    def head(self, number: int) -> Path:
        """The copy of a head."""
        return self.path / FOLDER / f"head-{number:04d}.safetensors"

    def _add_head(
        self,
        number: int,
        made: str,
        clients: int,
        joined: Collection[str],
        withdrawn: Collection[str],
        code: str,
        copy: bool,
    ) -> None:
        model = self.path / "model.safetensors"
        if copy:
            write_bytes(self.head(number), model.read_bytes())
        row: dict[str, Any] = {
            "head": number,
            "made": made,
            "clients": clients,
            "joined": ",".join(joined),
            "withdrawn": ",".join(withdrawn),
            "model": hash_file(model),
            "code": code,
        }
        self.append(HEADS, [row])
