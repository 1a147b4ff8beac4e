"""A disk whose power is cut: of what was written, only what was synced is there."""

import os
import stat
from pathlib import Path
from typing import Any


class Disk:
    """Records what each `os.fsync` makes safe: the content of a file, or the names in a folder.

    It is stricter than any file system: a file whose folder was not synced is not there, and one
    that was not synced itself is empty. What is in `folder` when this starts is safe.
    """

    def __init__(self, monkeypatch: Any, folder: Path) -> None:
        self.folder = folder
        self.contents: dict[int, bytes] = {}
        self.names: dict[int, dict[str, int]] = {}
        self.held: dict[int, int] = {}  # open, so that no other file gets the same number
        fsync = os.fsync

        def recorded(handle: int) -> None:
            fsync(handle)
            self._record(f"/proc/self/fd/{handle}")

        monkeypatch.setattr(os, "fsync", recorded)
        for path in (folder, *folder.rglob("*")):
            self._record(str(path))

    def _record(self, path: str) -> None:
        about = os.stat(path)
        if about.st_ino not in self.held:
            self.held[about.st_ino] = os.open(path, os.O_RDONLY)
        if stat.S_ISDIR(about.st_mode):
            with os.scandir(path) as entries:
                self.names[about.st_ino] = {entry.name: entry.inode() for entry in entries}
            for name in self.names[about.st_ino]:
                child = f"{path}/{name}"
                if os.stat(child).st_ino not in self.held:
                    self.held[os.stat(child).st_ino] = os.open(child, os.O_RDONLY)
        else:
            self.contents[about.st_ino] = Path(path).read_bytes()

    def after_a_cut(self, target: Path) -> Path:
        """Write into `target` what a cut of the power at this moment would leave of the folder."""
        self._restore(os.stat(self.folder).st_ino, target)
        return target

    def _restore(self, number: int, target: Path) -> None:
        if stat.S_ISDIR(os.fstat(self.held[number]).st_mode):
            target.mkdir()
            for name, child in self.names.get(number, {}).items():
                self._restore(child, target / name)
        else:
            target.write_bytes(self.contents.get(number, b""))

    def close(self) -> None:
        """Let go of the files."""
        for handle in self.held.values():
            os.close(handle)
