"""How the dashboard is started: on this machine alone, and without asking anything of the net."""

import ipaddress
from pathlib import Path

from celeba_fl.progress import InputError

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
    try:
        alone = ipaddress.ip_address(host).is_loopback
    except ValueError:
        alone = host == "localhost"
    if alone:
        return ""
    return (
        f"This dashboard listens on {host}, and has no password: whoever reaches its port sees all "
        "runs, can start and stop runs with this machine's files and Flower connections, and can "
        "use the models."
    )


def launch(host: str, port: int) -> None:
    """Serve the dashboard until Ctrl-C or SIGTERM.

    Raises
    ------
    InputError
        If the packages that it needs are not installed.
    """
    try:
        import plotly  # noqa: F401
        from streamlit.web.cli import main as streamlit
    except ImportError as error:
        raise InputError(
            f"the dashboard needs {error.name}, which is not installed: pip install "
            f"-e '.[dashboard]'"
        ) from error
    if said := exposure(host):
        print(said, flush=True)
    options = {**OPTIONS, "server.address": host, "server.port": str(port)}
    flags = [word for key, value in options.items() for word in (f"--{key}", value)]
    streamlit(["run", str(APP), *flags])
