"""A browser for tests, and waiting for what it shows."""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.service import Service

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SECONDS = 240.0  # for what takes as long as the machine needs
STILL = 120.0  # for which a page may stay as it is before something is wrong
# What a page says when there is nothing more to wait for.
FAILED = re.compile(r"cannot be shown:|celeba-fl: |Traceback|\b(failed|interrupted)(: | ·)")


def open_browser(profile: Path, size: str = "1280,1000") -> Iterator[Chrome]:
    """A browser that keeps what it keeps in a folder, for a fixture; the test skips without one."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no browser here: chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={size}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    with Chrome(options=options, service=Service(executable_path=driver)) as opened:
        yield opened


def until(done: Callable[[], Any], what: str, seen: Callable[[], str] = lambda: "") -> Any:
    """What `done` returns, once that is something.

    It fails with what was `seen` as soon as that tells of a failure, or has stayed the same for
    so long that nothing else can be expected.
    """
    start = since = time.monotonic()
    last, error = "", ""
    while True:
        try:
            if found := done():
                return found
        except Exception as raised:  # an element that has just been replaced, a server that starts
            error = f"; at last {type(raised).__name__}: {raised}".partition("\n")[0]
        try:
            now = seen()
        except Exception:
            now = last
        if now != last:
            last, since = now, time.monotonic()
        waited, still = time.monotonic() - start, time.monotonic() - since
        stuck = last and still > STILL and "Preparing: " not in last
        if waited > SECONDS or stuck or FAILED.search(last):
            raise AssertionError(f"no {what} after {waited:.0f} s{error}; the page says:\n{last}")
        time.sleep(0.1)


def hosts(browser: Chrome, page: str) -> set[str]:
    """Hosts that a page has asked; the browser's own first page is no matter of ours."""
    messages = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]  # type: ignore[no-untyped-call]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    urls = [urlsplit(one["request"]["url"]) for one in sent if one["documentURL"].startswith(page)]
    return {url.netloc for url in urls if url.scheme not in ("data", "blob")}
