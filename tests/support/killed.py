"""Runs in processes of their own, which may be killed at any moment."""

import multiprocessing
import time
from multiprocessing.synchronize import Event
from typing import Any

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.rounds import roll_call
from celeba_fl.tasks import attributes, dcgan, lenet

NODES = 3
# Imported once, by the process whose copies run.
PRELOADED = [module.__name__ for module in (attributes, dcgan, lenet, server_app)]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([*PRELOADED, __name__])


def submit(keys: dict[str, Any], kill_after: float | None = None) -> float:
    """Run to the end, or kill the process after so many seconds; how many it took."""
    ready = CONTEXT.Event()
    process = CONTEXT.Process(target=_run, args=(keys, ready))
    process.start()
    assert ready.wait(240), "the process does not start"
    start = time.monotonic()
    if kill_after is not None:
        time.sleep(kill_after)
        process.kill()
    process.join()
    assert kill_after is not None or process.exitcode == 0, "the run has failed"
    return time.monotonic() - start


def _run(keys: dict[str, Any], ready: Event) -> None:
    roll_call.SETTLE_SECONDS = 0
    server_app._draw_report = lambda run: None
    ready.set()
    run_inline(RunConfig.load(keys), NODES, server_app.app, client_app)
