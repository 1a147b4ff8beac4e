"""Files that are whole or absent: written beside their place, then renamed into it.

What is written is on the disk, with its name, before the next thing can rely on it.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from filelock import BaseFileLock

# Part of every key; raise it when the files under `home` change their form or meaning.
FORMAT = 1
# The name of a file while it is being written.
HALF_WRITTEN = re.compile(r"\..+\.\w+\.[a-z0-9_]{8}")
UNFINISHED = ".unfinished"
# The folder of those that the next try goes on with.
DOWNLOADS = "hub"


def write_bytes(path: Path, data: bytes, sync: bool = True, mode: int = 0o644) -> None:
    """Write a file so that no reader, and no kill, ever sees a part of it.

    With `sync`, no power cut leaves a part of it either. That costs milliseconds, which is too much
    for a file that changes many times a second. Before it has its mode, only its owner reads it.
    """
    make_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with _naming(path), os.fdopen(handle, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # for `clean_up`: somebody is at it
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
            os.chmod(name, mode)
            os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if sync:
        to_disk(path.parent)


def private(path: str, flags: int) -> int:
    """Open a new file for its owner alone, from the start; an `opener` of `open`."""
    return os.open(path, flags, 0o600)


def append_bytes(path: Path, data: bytes) -> None:
    """Add to the end of a file, which is created if it does not exist."""
    is_new = not path.exists()
    with _naming(path), path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        to_disk(path.parent)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have an error of writing, such as a full disk, name the file as one of opening it does."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, unless they exist."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        to_disk(folder.parent)


def clean_up(folder: Path) -> None:
    """Remove what killed processes have left half made in `folder`, and up to three folders below.

    Whoever is alive holds a lock on what he makes. What a download can go on with is kept.
    """
    for depth in range(4):
        for path in folder.glob("*/" * depth + ".*"):
            if HALF_WRITTEN.fullmatch(path.name) and path.is_file():
                with suppress(OSError), path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
            elif UNFINISHED in path.name and path.parent.name != DOWNLOADS:
                with suppress(OSError), _lock(path, path.name.partition(UNFINISHED)[0], timeout=0):
                    _remove(path)


def to_disk(path: Path) -> None:
    """Have the content of a file, or the names in a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class RoundFiles:
    """Arrays of which there is a file for each round, written whole or not at all."""

    folder: Path
    keep: int = 2  # how many of the newest stay

    def write(self, server_round: int, data: bytes, best: int | None = None) -> None:
        """Write the file of a round, and remove those that are no longer kept."""
        write_bytes(self.path(server_round), data)
        self.prune(server_round, best)

    def prune(self, server_round: int, best: int | None = None) -> None:
        """Keep the newest files up to that of a round, and the best.

        Later ones go: a run that goes on from an earlier round has not done theirs.
        """
        past = [old for old in self.rounds() if old <= server_round]
        for old in set(self.rounds()) - {*past[-self.keep :], best}:
            self.path(old).unlink()

    def rounds(self) -> list[int]:
        """The rounds that have a file, ascending."""
        return sorted(int(path.stem.split("-")[1]) for path in self.folder.glob("round-*"))

    def path(self, server_round: int) -> Path:
        """The file of a round."""
        return self.folder / f"round-{server_round:04d}.safetensors"


def pack_arrays(arrays: Mapping[str, "np.ndarray"], metadata: dict[str, str]) -> bytes:
    """The bytes of a safetensors file; the same for the same arrays and metadata.

    Arrays are copied into row-major order, because safetensors 0.8 takes an array's memory as it
    is and would mix up one in column-major order, such as a transpose. It also writes metadata in
    random order, so the header is written anew.
    """
    from safetensors.numpy import save

    packed = save({key: array.copy(order="C") for key, array in arrays.items()})
    start = 8 + int.from_bytes(packed[:8], "little")
    header = json.loads(packed[8:start])
    if metadata:
        header = {"__metadata__": dict(sorted(metadata.items())), **header}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays are aligned
    return len(text).to_bytes(8, "little") + text + packed[start:]


def write_json(path: Path, value: Any, sync: bool = True) -> None:
    """Write JSON for people and programs: indented, and without NaN, which is not JSON."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode(), sync)


def hash_key(*parts: object) -> str:
    """Name for a file that depends on `parts`; equal parts must have an equal `repr`."""
    return hashlib.sha256(repr((FORMAT, *parts)).encode()).hexdigest()[:32]


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp_key(files: Iterable[Path]) -> str:
    """Name for something derived from `files`; it changes with any path, size or time."""
    stamps = [(str(path.resolve()), path.stat()) for path in files]
    return hash_key(*((path, stat.st_size, stat.st_mtime_ns) for path, stat in stamps))


def keep(path: Path, create: Callable[[Path], object], resume: bool = False) -> Path:
    """Create `path` unless it exists: once, and whole or not at all.

    `create` is called with another path, beside it, to write to; with `resume`, it can use what a
    killed process has left there. Other processes that want the same file wait until it exists.
    """
    if not path.exists():
        unfinished = path.with_name(f".{path.name}{UNFINISHED}")
        make_folder(path.parent)
        with _lock(path, path.name):
            if not path.exists():
                if not resume:
                    _remove(unfinished)
                create(unfinished)
                for part in (unfinished, *unfinished.rglob("*")):
                    to_disk(part)
                unfinished.rename(path)
                to_disk(path.parent)
    return path


def _lock(path: Path, name: str, timeout: float = -1) -> "BaseFileLock":
    """The lock on what `keep` makes of this name, beside `path`; with a `timeout`, or OSError."""
    from filelock import FileLock

    return FileLock(path.with_name(f".{name.lstrip('.')}.lock"), timeout=timeout)


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
