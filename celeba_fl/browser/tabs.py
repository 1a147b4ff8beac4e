"""Tabs that take part in a deployment of this machine, with partitions of drawn faces."""

import os
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from celeba_fl.browser.connection import SuperLink
from celeba_fl.browser.headless import command
from celeba_fl.browser.serving import PageServer
from celeba_fl.browser.try_out import Tickets
from celeba_fl.deployment.local import LocalDeployment

# Without any of these a browser would be one of text, in this terminal.
DESKTOP = {"DISPLAY", "WAYLAND_DISPLAY", "__CFBundleIdentifier"}


@contextmanager
def open_tabs(
    deployment: LocalDeployment, home: Path, first: int, number: int, headless: bool
) -> Iterator[list[str]]:
    """Serve the page, and open so many tabs, which begin by themselves; gives their addresses.

    Their partitions are those from `first` on, and their names the partitions' numbers, as those of
    SuperNodes are. Headless ones are processes ``tab-3`` and so on of the deployment, and online
    when this is entered; their keys go with the deployment's folder. The others are opened in the
    user's own browser.
    """
    tickets = Tickets(deployment.admit)
    link = SuperLink(deployment.name, deployment.front, deployment.credentials / "ca.crt")
    with PageServer(link, home, tickets=tickets).beside() as page:
        urls = []
        for tab in range(first, first + number):
            name = str(tab)
            query = {"try": f"{tab}/{first + number}", "name": name, "start": "1"}
            urls.append(f"{page}?{urlencode({**query, 'ticket': tickets.issue(name)})}")
        if headless:
            for tab, url in enumerate(urls, first):
                profile = deployment.folder / "tabs" / str(tab)
                deployment.spawn(f"tab-{tab}", *command(url, profile))
            deployment.wait_for(len(deployment.nodes) + number)
            print(f"{number} tabs of Chromium online; the page is at {page}", flush=True)
        else:
            print(f"Tabs, each a site as long as it is open (the page is at {page}):", flush=True)
            for url in urls:
                print(url, flush=True)
                if DESKTOP & {*os.environ}:
                    webbrowser.open(url)
        yield urls
