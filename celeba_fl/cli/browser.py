"""A tab of a browser as a site: `celeba-fl browser`."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from celeba_fl.launch.app import app_here


def browser(
    connection: Annotated[
        str | None,
        typer.Argument(help="connection of Flower's commands (default: the default one)"),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="port of the page")] = 8600,
    host: Annotated[
        str, typer.Option(help="address to listen on; any other lets other machines in, by TLS")
    ] = "127.0.0.1",
    ssl_certfile: Annotated[
        Path | None, typer.Option(help="certificate with the names of this machine, as PEM")
    ] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="its private key, as PEM")] = None,
    runtime: Annotated[
        Path | None,
        typer.Option(help="ONNX Runtime Web as `npm pack` writes it, where there is no network"),
    ] = None,
) -> None:
    """Serve a page that makes each tab of a browser a site: pictures stay in it, and train there.

    The page's calls go to the SuperLink of the connection. This needs nothing of whoever opens the
    page but a browser.
    """
    from celeba_fl.browser.connection import superlink
    from celeba_fl.browser.serving import PageServer

    link, home = superlink(connection), app_here().places().home_dir
    server = PageServer(link, home, host, port, ssl_certfile, ssl_keyfile, runtime)
    print(f"Open {server.url} in a browser; its calls go to the SuperLink at {link.address}")
    print("Ctrl-C ends it", flush=True)
    with suppress(KeyboardInterrupt):
        server.run()
