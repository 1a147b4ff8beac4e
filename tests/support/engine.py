"""Flower's commands in a home and on ports of the suite's own."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import tomli_w

APP = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


# Seconds; the longest takes one minute on two idle cores.
HANGS_AFTER = 600


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit status and output of the command, Flower's status, its directory."""

    exit_status: int
    output: str
    status: str
    path: Path | None


class Flower:
    """Flower's commands in a home and on ports of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            # Faulty tasks for the ClientApps of some tests.
            "PYTHONPATH": str(Path(__file__).parent),
            "CELEBA_FL_HOME": str(folder / "home"),
            "FLWR_HOME": str(folder / "flwr"),
            "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(_free_port()),
            "FLWR_LOCAL_CONTROL_API_PORT": str(_free_port()),
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
        }

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, outside of the checkout; one that hangs is an error."""
        return subprocess.run(
            command,
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=HANGS_AFTER,
        )

    def federation(self, nodes: int) -> Path:
        """A file for `--federation-config`."""
        path = self.folder / f"simulation-{nodes}.toml"
        path.write_text(f"num-supernodes = {nodes}\nclient-resources-num-cpus = 1\n")
        return path

    def run(self, settings: Mapping[str, Any], nodes: int) -> Ended:
        """`celeba-fl run` with these run-config keys."""
        experiment = self.folder / "experiment.toml"
        experiment.write_text(tomli_w.dumps(settings))
        federation = str(self.federation(nodes))
        done = self.call("celeba-fl", "run", str(experiment), "--federation", federation)
        output = done.stdout + done.stderr
        run_id = re.search(r"run_id `(\d+)`", output)
        path = re.search(r"Run directory: (\S+)", output)
        return Ended(
            done.returncode,
            output,
            self.status(run_id[1]) if run_id else "",
            Path(path[1]) if path else None,
        )

    def submit(self, settings: Mapping[str, Any], nodes: int) -> str:
        """Plain `flwr run` without waiting; the run's id."""
        config = self.folder / "submitted.toml"
        config.write_text(tomli_w.dumps(settings))
        command = ["flwr", "run", str(APP), "--run-config", str(config)]
        command += ["--federation-config", str(self.federation(nodes)), "--format", "json"]
        done = self.call(*command)
        return str(json.loads(done.stdout[done.stdout.index("{") :])["run-id"])

    def status(self, run_id: str) -> str:
        """The status that Flower reports for a run once it has ended, ``finished:completed``."""
        for _ in range(20):
            done = self.call("flwr", "ls", "--run-id", run_id, "--format", "json")
            said = json.loads(done.stdout[done.stdout.index("{") :])["runs"][0]["status"]
            if said != "running":
                break
        return str(said)

    def kill(self, name: str) -> None:
        """SIGKILL to our processes whose command line has `name` in it."""
        for process in self.processes(name):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def processes(self, name: str) -> list[psutil.Process]:
        """Processes in our environment whose command line has `name` in it, but this one."""
        ours = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if (
                    process.environ().get("FLWR_HOME") == self.env["FLWR_HOME"]
                    and name in " ".join(process.cmdline())
                    and process.pid != os.getpid()
                ):
                    ours.append(process)
        return ours

    def close(self) -> None:
        """End every process that was started here."""
        for _ in range(50):
            self.kill("")
            if not self.processes(""):
                return
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
