"""Runs that the dashboard starts and stops, with the commands that a person would type."""

import fcntl
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomli_w

from celeba_fl.common import flower
from celeba_fl.common.errors import InputError
from celeba_fl.common.files import make_folder, write_bytes
from celeba_fl.launch.flower import flower_environment, flower_json
from celeba_fl.runs.reading import RunInfo, keys_read

TAIL_BYTES = 8192
# What runs were asked for here, by their directories: the word, and of which run of Flower's.
_asked: dict[Path, tuple[str, tuple[int, ...]]] = {}
_refused: dict[Path, tuple[str, tuple[int, ...]]] = {}  # and why one was not stopped


@dataclass(frozen=True)
class Job:
    """A run that was started here; its log has the command and its output."""

    log: Path
    command: str  # as in a shell
    text: str  # the end of the output
    run: Path | None  # the run directory, once it is known
    alive: bool  # whether the command, which follows the run, is still there


def connections() -> dict[str, str]:
    """The connections of `flwr` with their addresses, its default in front."""
    known = flower.connections()
    default = known.get("default")
    names = [name for name, options in known.items() if isinstance(options, dict)]
    names.sort(key=lambda name: name != default)
    return {name: str(known[name].get("address", "")) for name in names}


def is_simulation(address: str) -> bool:
    """Whether a connection is the SuperLink that `flwr` starts itself, with simulated nodes."""
    return address.startswith(":")


def supernodes(connection: str) -> list[dict[str, Any]]:
    """The SuperNodes that a SuperLink knows; InputError if it cannot be asked."""
    command = ["flwr", "supernode", "list", connection, "--format", "json"]
    return list(flower_json(command, flower_environment())["nodes"])


def asked(run: RunInfo) -> str:
    """What a run was asked for that has not come about yet: ``stopping``, ``resuming``, or none."""
    word, ids = _asked.get(run.path, ("", ()))
    waits = ids == tuple(run.flwr_run_ids) and (run.status == "running") == (word == "stopping")
    return word if waits else ""


def refused(run: RunInfo) -> str:
    """Why a run was not stopped, as long as it goes on."""
    why, ids = _refused.get(run.path, ("", ()))
    return why if run.status == "running" and ids == tuple(run.flwr_run_ids) else ""


def federation_of(folder: Path, number: int) -> Path:
    """A federation file of so many simulated clients."""
    path = folder / f"simulation-{number}.toml"
    if not path.exists():  # a page asks for it each time that it is drawn
        make_folder(folder)
        write_bytes(path, f"num-supernodes = {number}\nclient-resources-num-cpus = 1\n".encode())
    return path


def resume(folder: Path, run: RunInfo, where: Sequence[str]) -> Path:
    """Start `celeba-fl run` to go on with a run, with the settings that it has; see `start`."""
    settings = {**keys_read(run.config), "name": "", "resume": str(run.path)}
    make_folder(folder)
    experiment = folder / f"{run.path.name}.toml"
    write_bytes(experiment, tomli_w.dumps(settings).encode())
    _asked[run.path] = "resuming", tuple(run.flwr_run_ids)
    return start(folder, [str(experiment), *where], lambda: _asked.pop(run.path, None))


def start(folder: Path, words: Sequence[str], at_end: Callable[[], object] = lambda: None) -> Path:
    """Start `celeba-fl run` with these words, to go on without us; its log in `folder`."""
    command = [str(Path(sys.executable).with_name("celeba-fl")), "run", *words]
    make_folder(folder)
    log = folder / f"{datetime.now(UTC):%Y-%m-%d_%H-%M-%S-%f}.log"
    with log.open("wb") as file:
        file.write(f"$ {shlex.join(['celeba-fl', 'run', *words])}\n".encode())
        file.flush()
        # The command has this lock as long as it has its log open, whatever becomes of us.
        fcntl.flock(file, fcntl.LOCK_EX)
        process = subprocess.Popen(
            command,
            env=flower_environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait() -> None:
        process.wait()  # else it stays a zombie
        at_end()

    threading.Thread(target=wait, daemon=True).start()
    return log


def last_job(folder: Path) -> Job | None:
    """The run that was started last, None without any."""
    logs = sorted(folder.glob("*.log"))
    if not logs:
        return None
    log = logs[-1]
    with log.open("rb") as file:
        command = file.readline(TAIL_BYTES).decode(errors="replace").removeprefix("$ ").strip()
        text = file.read().decode(errors="replace")
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            alive = False
        except BlockingIOError:
            alive = True
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    found = re.search(r"Run directory: (\S.*)", text)
    return Job(log, command, text[-TAIL_BYTES:], Path(found[1]) if found else None, alive)


def ask_to_stop(run: RunInfo, connection: str) -> None:
    """Have a run stopped, without waiting for Flower, who takes seconds; see `refused`."""
    ids = tuple(run.flwr_run_ids)
    _refused.pop(run.path, None)
    _asked[run.path] = "stopping", ids

    def ask() -> None:
        try:
            stop(run, connection)
        except InputError as error:
            _refused[run.path] = str(error), ids
            _asked.pop(run.path, None)

    threading.Thread(target=ask, daemon=True).start()


def stop(run: RunInfo, connection: str) -> None:
    """Ask Flower to stop a run.

    Raises
    ------
    InputError
        If the run does not say which one it is, or the SuperLink does not know it.
    """
    if not run.flwr_run_ids:
        raise InputError(f"{run.path}/run.json names no run of Flower's (flwr_run_ids)")
    command = ["flwr", "stop", str(run.flwr_run_ids[-1]), connection, "--format", "json"]
    try:
        flower_json(command, flower_environment())
    except InputError as error:
        raise InputError(
            f"{run.path.name} was not stopped: {' '.join(str(error).split())} If it was started "
            f"on another connection, choose that one; a run of `--inline`, of a sweep or of a test "
            f"is none of Flower's, and is ended where it was started, with Ctrl-C."
        ) from error
