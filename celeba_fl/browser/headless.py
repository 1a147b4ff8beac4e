"""Tabs in a Chromium without a window: for a try, and for tests."""

import os
import shutil
from pathlib import Path

from celeba_fl.common.errors import InputError

# As distributions and vendors call it.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    "--headless",
    "--no-first-run",
    "--disable-gpu",
    # It asks nothing of the network but the page.
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    # The page's messages go to the log.
    "--enable-logging=stderr",
    "--log-level=0",
)


def command(url: str, profile: Path) -> list[str]:
    """The command that opens a page in a browser of its own, and stays until it is ended.

    What a page keeps, such as its key, is in the folder `profile`.

    Raises
    ------
    InputError
        If there is no Chromium on this machine.
    """
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        raise InputError(
            f"--headless: needs Chromium, and none of {', '.join(NAMES)} is on the PATH; install "
            f"it (Debian: apt install chromium), or leave --headless out and open the pages in a "
            f"browser"
        )
    # Its sandbox refuses to work for root, as in a container.
    alone = ["--no-sandbox"] if os.geteuid() == 0 else []
    return [chromium, *OPTIONS, *alone, f"--user-data-dir={profile}", url]
