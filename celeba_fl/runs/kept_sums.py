"""Each client's own sums for the closed form, kept in a run directory for its owner alone.

The total is `closed_form.safetensors`; what a client added to it is a file in `sums/`, which also
holds what the client summed up in the roll call. So any client can be taken out of the model, or
put into it, exactly. `sums/clients.json` says whose the files are. It is written when the round
counts, once all of them are on the disk: without it there are no kept sums. `sums/left_out.json`
names those of them that are not in the total, since robust = leave-out has accused them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError, OwnError
from celeba_fl.common.files import hash_key, pack_arrays, to_disk, write_bytes, write_json
from celeba_fl.rounds.checking import difference
from celeba_fl.runs.reading import read_json

FOLDER, TABLE, LEFT_OUT = "sums", "clients.json", "left_out.json"
ROLL_CALL = "roll_call/"  # before the names of a client's sums in the roll call


class KeptSums:
    """The sums of each client in a run directory, written as they arrive and read one by one.

    A file is named by the hash of its client's name, since a name may be anything that can be
    printed.
    """

    def __init__(self, run: Path, roll_call: Mapping[str, Arrays] | None = None) -> None:
        self.folder = run / FOLDER
        self._roll_call = roll_call or {}  # what clients say there, by name, for `put`
        self._names: list[str] = []  # of those put that are not in the table yet

    def clear(self) -> None:
        """Delete all of them, such as those of a round that did not count."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        for path in sorted(self.folder.glob("*.*"), key=lambda path: path.name != TABLE):
            path.unlink()
        self._names = []

    def put(self, client: str, sums: Arrays) -> None:
        """Keep the sums of a client."""
        said = {f"{ROLL_CALL}{key}": a for key, a in self._roll_call.get(client, {}).items()}
        path = self.path(client)
        try:
            write_bytes(path, pack_arrays({**sums, **said}, {}), sync=False, mode=0o600)
        except OSError as error:
            raise OwnError(
                f"{path}, the sums of client {client}, cannot be written: {error.strerror}; make "
                f"room there, then resume the run or repeat the command"
            ) from error
        self._names.append(client)

    def finish(self) -> None:
        """Write down whose sums there are, now that they count."""
        self._write_table(self._names)

    def leave_out(self, clients: Sequence[str]) -> None:
        """Write down whose sums are not in the total."""
        write_json(self.folder / LEFT_OUT, {"clients": [*clients]})

    def left_out(self) -> list[str]:
        """The clients whose sums are not in the total, though they are kept."""
        path = self.folder / LEFT_OUT
        names = read_json(path).get("clients", []) if path.exists() else []
        return sorted({*names} & {*self.clients()})

    @property
    def exist(self) -> bool:
        """Whether the run has kept its clients' sums."""
        return (self.folder / TABLE).exists()

    def clients(self) -> list[str]:
        """The clients whose sums there are, sorted; InputError without any."""
        if not self.exist:
            raise InputError(
                f"{self.folder.parent.name} has kept no client's sums; run it again with strategy "
                f"= 'closed-form' and keep-sums = true"
            )
        return sorted(read_json(self.folder / TABLE))

    def read(self, client: str, like: Arrays) -> Arrays:
        """The sums of a client, as it sent them.

        Raises
        ------
        InputError
            If they cannot be read, or are not of the shapes of others that they are to be `like`.
        """
        return self._load(client, "", like)

    def read_roll_call(self, client: str, like: Arrays) -> Arrays:
        """What the client summed up in the roll call; see `read`."""
        return self._load(client, ROLL_CALL, like)

    def add(self, client: str, sums: Arrays) -> None:
        """Keep the sums of a client beside those that are there, in the place of its earlier."""
        others = self.clients()
        self.put(client, sums)
        self._write_table([*others, client])

    def remove(self, client: str) -> None:
        """Delete the sums of a client."""
        self._write_table([name for name in self.clients() if name != client])
        self.path(client).unlink(missing_ok=True)

    def path(self, client: str) -> Path:
        """The file of a client's sums."""
        return self.folder / f"{hash_key(client)}.safetensors"

    def _write_table(self, clients: list[str]) -> None:
        for path in (*map(self.path, self._names), self.folder):
            to_disk(path)
        self._names = []
        write_json(self.folder / TABLE, {name: self.path(name).name for name in sorted(clients)})

    def _load(self, client: str, prefix: str, like: Arrays) -> Arrays:
        path = self.path(client)
        cure = f"withdraw {client} and let it join again, or run all anew"
        try:
            with safe_open(path, "numpy") as file:
                sums = {key: file.get_tensor(f"{prefix}{key}") for key in like}
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{path}, the sums of client {client}, cannot be read: {error}; {cure}"
            ) from error
        if wrong := difference(sums, like):
            raise InputError(f"{path}, the sums of client {client}: {wrong}; {cure}")
        return sums
