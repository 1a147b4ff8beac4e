"""Flower's own commands, as this app calls them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from celeba_fl.common.errors import InputError

# Packages are installed where this command is, so Flower need not install them again for a run;
# and what needs no network must not use it.
FLOWER_ENVIRONMENT = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}


def flower_environment() -> dict[str, str]:
    """Of Flower's commands: those beside this Python come first, as Flower looks for them."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**FLOWER_ENVIRONMENT, **os.environ, "PATH": path}


def flower_json(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """What a `flwr` command says in JSON; other lines that it prints come before.

    Raises
    ------
    InputError
        If it was in vain.
    """
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    start = done.stdout.find("{")
    said: dict[str, Any] = json.loads(done.stdout[start:]) if start >= 0 else {}
    if not said.get("success"):
        reason = said.get("error-message") or f"{done.stdout}{done.stderr}".strip()
        raise InputError(f"{' '.join(command[:2])}: {reason}")
    return said
