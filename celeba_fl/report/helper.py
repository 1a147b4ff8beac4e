"""A process beside this one that answers requests, a line of JSON each, with lines of JSON."""

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from sysconfig import get_path
from threading import Lock
from typing import Any

from celeba_fl.common.bundle import PACKAGE


class Helper:
    """The process, as seen by the one that asks; it runs a module of ours that calls `serve`."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the run
        )
        self._lock = Lock()
        atexit.register(self._end)

    def _end(self) -> None:
        """Kill it: the way in which a process ends by itself takes a tenth of a second."""
        self._process.kill()
        self._process.wait()

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to a request; ValueError with what went wrong there."""
        told, answers = self._process.stdin, self._process.stdout
        assert told is not None
        assert answers is not None
        with self._lock:
            with suppress(BrokenPipeError):  # then there is no answer
                told.write(json.dumps(request) + "\n")
                told.flush()
            line = answers.readline()
        if not line:
            raise ValueError(f"the process of {self._module} has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer


def _environment() -> dict[str, str]:
    """With this package on the path, which may lie in a bundle; one that is installed is found."""
    root, path = str(PACKAGE.parent), os.environ.get("PYTHONPATH")
    if root == get_path("purelib"):  # whose modules must not come before Python's own
        return {**os.environ}
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}


def serve(answer: Callable[..., Mapping[str, Any]]) -> None:
    """Answer the requests, which are its arguments, until there are no more."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            said = dict(answer(**json.loads(line)))
        except Exception as error:
            said = {"error": repr(error)}
        print(json.dumps(said), file=answers, flush=True)
