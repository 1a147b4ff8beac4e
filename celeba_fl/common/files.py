"""Files that are whole or absent: written beside their place, then renamed into it."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# Part of every key; raise it when the files under `home` change their form or meaning.
FORMAT = 1


def write_bytes(path: Path, data: bytes, sync: bool = True) -> None:
    """Write a file so that no reader, and no kill, ever sees a part of it.

    With `sync`, no power cut leaves a part of it either. That costs milliseconds, which is too much
    for a file that changes many times a second.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class RoundFiles:
    """Arrays of which there is a file for each round, written whole or not at all."""

    folder: Path
    keep: int = 2  # how many of the newest stay

    def write(self, server_round: int, data: bytes, best: int | None = None) -> None:
        """Write the file of a round; of the others only the newest before it and the best stay.

        Later ones go: a run that goes on from an earlier round has not done theirs.
        """
        write_bytes(self.path(server_round), data)
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
    """The bytes of a safetensors file.

    Arrays are copied into row-major order, because safetensors 0.8 takes an array's memory as it
    is and would mix up one in column-major order, such as a transpose.
    """
    from safetensors.numpy import save

    return save({key: array.copy(order="C") for key, array in arrays.items()}, metadata)


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
        from filelock import FileLock

        unfinished = path.with_name(f".{path.name}.unfinished")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            if not path.exists():
                if not resume:
                    shutil.rmtree(unfinished, ignore_errors=True)
                create(unfinished)
                unfinished.rename(path)
    return path
