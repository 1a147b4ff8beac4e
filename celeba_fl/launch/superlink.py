"""The local SuperLink, which Flower starts in the background and which outlives what started it."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import psutil

from celeba_fl.common.errors import InputError
from celeba_fl.common.flower import local_superlink_port


def check_local_superlink(environment: Mapping[str, str]) -> None:
    """Raise InputError if there is a local SuperLink whose Python environment is there no more.

    It still takes runs, and cannot start one: with luck the run fails, else it waits for ever.
    """
    port = local_superlink_port(environment)
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []  # None for another user's
        if "--simulation" not in words or ("--port", port) not in pairwise(words):
            continue
        python = Path(words[0])
        if python.is_absolute() and not python.exists():
            raise InputError(
                f"the local SuperLink on port {port} (process {process.pid}) was started with "
                f"{python}, which is there no more; end it with: kill {process.pid}, and run this "
                f"again: that starts a new one"
            )
