"""Flower's own commands, as this app calls them."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import tomli_w

from celeba_fl.common.errors import InputError
from celeba_fl.launch.app import FlowerApp
from celeba_fl.launch.superlink import check_local_superlink

# Packages are installed where this command is, so Flower need not install them again for a run;
# and what needs no network must not use it.
FLOWER_ENVIRONMENT = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}
# Ray puts sockets there, of names of 66 characters, and Linux takes paths of 107.
MAX_TMPDIR = 40
# The first and the last line of a run's own.
DIRECTORY = re.compile(r"Run directory: (.+)")
ENDED = ("completed", "stopped", "failed")
# A SuperLink that does not answer is asked so often, with a pause in between.
TRIES, PAUSE_SECONDS = 30, 2.0
# Lines of the simulation engine that say nothing of a run.
NOISE = re.compile(r"FutureWarning: .*Ray|Manually terminating ClientAppActor")


def flower_environment() -> dict[str, str]:
    """Environment for Flower's commands, with this interpreter's `bin` first on PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # What it prints is read as UTF-8 here, and has more in it than ASCII.
    ours = {"PATH": path, "PYTHONIOENCODING": "utf-8"}
    if len(os.environ.get("TMPDIR", "")) > MAX_TMPDIR:
        ours["RAY_TMPDIR"] = os.environ.get("RAY_TMPDIR", "/tmp")
    return {**FLOWER_ENVIRONMENT, **os.environ, **ours}


def flower_json(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """The JSON that a `flwr` command prints, after other lines; InputError if the command fails."""
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    start = done.stdout.find("{")
    answer: dict[str, Any] = json.loads(done.stdout[start:]) if start >= 0 else {}
    if not answer.get("success"):
        reason = answer.get("error-message") or f"{done.stdout}{done.stderr}".strip()
        raise InputError(f"{' '.join(command[:2])}: {reason}")
    return answer


def run_flower(
    app: FlowerApp,
    settings: Mapping[str, Any],
    federation: Path | None,
    superlink: Sequence[str],
    stop: Path | None = None,
) -> int:
    """Submit a run, follow its log, and return the exit status: 0 only for one that completed.

    `settings` override the app's, `federation` is the file for `--federation-config`, and
    `superlink` has the name of a connection, or nothing for Flower's default. A run that a file
    `stop` ends gets it by Ctrl-C.
    """
    environment = flower_environment()
    if not superlink:
        check_local_superlink(environment)
    command = ["flwr", "run", str(app.folder), *superlink, "--format", "json"]
    with tempfile.TemporaryDirectory() as folder:
        if settings:
            merged = Path(folder) / "run-config.toml"
            merged.write_text(tomli_w.dumps(settings), encoding="utf-8")
            command += ["--run-config", str(merged)]
        if federation is not None:
            command += ["--federation-config", str(federation)]
        run_id = flower_json(command, environment)["run-id"]
    where = [run_id, *superlink]
    listing = ["flwr", "ls", *superlink, "--run-id", run_id, "--format", "json"]
    log = RunLog(["flwr", "log", *where, "--stream"], environment, int(run_id))
    try:
        while True:
            if directory := log.follow():
                return _told(run_id, directory)
            if run := _ended(listing, environment):
                break
            print(f"The log of run {run_id} broke off; it goes on", file=sys.stderr)
            time.sleep(PAUSE_SECONDS)
    except KeyboardInterrupt:
        if stop:
            stop.touch()
            print(f"\nThe run ends in a moment, by {stop}")
            return 0
        print(f"\nThe run goes on; stop it with: flwr stop {' '.join(where)}")
        return 130
    print(f"Run {run_id}: {run['status']} {run['status-details']}".rstrip())
    if run["status"] == "finished:failed":
        return failed(run["status-details"], f"flwr log {' '.join(where)} has all that is known")
    return 0 if run["status"] == "finished:completed" else 1


def failed(reason: str, *more: str) -> int:
    """Say that a run failed, why, and where to read of it; the exit status of that."""
    print(f"celeba-fl: the run failed: {'; '.join([reason, *more])}", file=sys.stderr)
    return 1


def without_noise(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a log but those of `NOISE`, and the line of code that follows a warning."""
    warned = False
    for line in lines:
        noise = NOISE.search(line)
        if not noise and not (warned and line.strip() == "warnings.warn("):
            yield line
        warned = noise is not None and "FutureWarning" in noise[0]


class RunLog:
    """The log of a run, printed as it comes.

    Parameters
    ----------
    command : Sequence[str]
        Prints the log from its beginning, and then what is added to it.
    environment : Mapping[str, str]
        Of the command.
    run_id : int
        Of the run.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], run_id: int) -> None:
        self._command, self._run_id = command, run_id
        self._environment = {**environment, "PYTHONUNBUFFERED": "1"}
        self._read = 0  # lines
        self._named: set[str] = set()

    def follow(self) -> Path | None:
        """Print what is new in it, until it ends or a run on this machine is done.

        Then the run's directory says how: it is returned, if it is here. What Flower tidies up
        after that takes seconds, and of a run that failed it shows its own code. A log that ends
        too early, since a busy SuperLink breaks it off, may be followed again.
        """
        with subprocess.Popen(
            self._command,
            env=self._environment,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        ) as process:
            for line in without_noise(self._new(process.stdout or ())):
                print(line, end="", flush=True)
                if found := DIRECTORY.search(line):
                    if found[1] in self._named and _is_over(Path(found[1]), self._run_id):
                        process.terminate()
                        return Path(found[1])
                    self._named.add(found[1])
        return None

    def _new(self, lines: Iterable[str]) -> Iterator[str]:
        for line in islice(lines, self._read, None):
            self._read += 1
            yield line


def _ended(listing: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any] | None:
    """What Flower says of a run that has ended; None if it goes on."""
    tries = 0
    while True:
        try:
            run: dict[str, Any] = flower_json(listing, environment)["runs"][0]
            break
        except InputError:
            if (tries := tries + 1) == TRIES:
                raise
            time.sleep(PAUSE_SECONDS)
    return run if run["status"].startswith("finished") else None


def _told(run_id: str, directory: Path) -> int:
    """Say what a run's directory tells of its end; the exit status of that."""
    info = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    print(f"Run {run_id}: {info['status']}")
    if info["status"] != "failed":
        return 0
    return failed(info["reason"], f"{directory / 'log.txt'} has all that is known of it")


def _is_over(directory: Path, run_id: int) -> bool:
    """Whether a run's directory says that it has ended."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        info = json.loads((directory / "run.json").read_text(encoding="utf-8"))
        return info["flwr_run_ids"][-1] == run_id and info["status"] in ENDED
    return False
