"""How the dashboard is started: on this machine alone, and without asking anything of the net."""

import re
from collections.abc import Sequence
from pathlib import Path

from celeba_fl.common.errors import InputError
from celeba_fl.common.names import is_private

APP = Path(__file__).with_name("app.py")
MAX_UPLOAD_MB = 20
OPTIONS = {
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "server.fileWatcherType": "none",
    "server.headless": "true",
    "server.maxUploadSize": str(MAX_UPLOAD_MB),
    "theme.light.primaryColor": "#0072B2",
    "theme.dark.primaryColor": "#56B4E9",
}


def exposure(host: str) -> str:
    """What listening on `host` means to others; nothing if it is this machine alone."""
    if is_private(host):
        return ""
    return (
        f"This dashboard listens on {host}, and has no password: whoever reaches its port sees all "
        "runs, can start, stop and delete runs with this machine's files and Flower connections, "
        "and can use the models."
    )


def launch(host: str, port: int, allowed: Sequence[str] = ()) -> None:
    """Serve the dashboard until Ctrl-C or SIGTERM.

    Behind a reverse proxy, browsers come in under the names in `allowed`.

    Raises
    ------
    InputError
        If the packages that it needs are not installed, it cannot listen there, or what is allowed
        is no name.
    """
    try:
        from streamlit.web.cli import main as streamlit
    except ImportError as error:
        raise InputError(
            f"the dashboard needs {error.name}, which is not installed: pip install "
            f"-e '.[dashboard]'"
        ) from error
    from starlette.formparsers import MultiPartParser  # Streamlit brings it

    for name in allowed:
        if not re.fullmatch(r"[A-Za-z0-9.-]+", name):
            raise InputError(f"--allow-host {name}: give a name alone, such as faces.example.org")
    if warning := exposure(host):
        print(warning, flush=True)
    # A larger upload than this would be put into a file.
    MultiPartParser.spool_max_size = (MAX_UPLOAD_MB + 1) * 2**20
    options = [*OPTIONS.items(), ("server.address", host), ("server.port", str(port))]
    # A proxy may ask for this address where the browser asked for the name.
    options += [("server.corsAllowedOrigins", f"https://{name}") for name in allowed]
    if is_private(host):
        # Else any web site could come in, under a name of its own that leads to this address.
        names = dict.fromkeys((host, "127.0.0.1", "localhost", *allowed))
        options += [("server.allowedHosts", name) for name in names]
    try:
        streamlit(["run", str(APP), *(w for key, value in options for w in (f"--{key}", value))])
    except OSError as error:
        raise InputError(f"--host {host} --port {port}: {error.strerror or error}") from error
