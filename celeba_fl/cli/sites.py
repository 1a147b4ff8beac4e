"""Real sites, or those of this machine: `celeba-fl credentials` and `celeba-fl deploy local`."""

import shlex
import signal
import time
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from celeba_fl.cli.printing import Json, print_json
from celeba_fl.common.errors import InputError
from celeba_fl.launch.app import app_here


def credentials(
    host: Annotated[list[str], typer.Option(help="name or IP address of the server; repeatable")],
    out: Annotated[Path, typer.Option(help="a new folder")],
    site: Annotated[
        list[str] | None,
        typer.Option(
            help="name of a site with images of its own, as in its node config; repeatable"
        ),
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option(
            min=1, help="number of SuperNodes; those beside the sites have a partition-id from 0 on"
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="validity of the certificates, in days")] = 365,
    as_json: Json = False,
) -> None:
    """Make a CA, the server's certificate, and two key pairs for each SuperNode, with its name."""
    from celeba_fl.deployment.credentials import write_credentials

    sites = site or []
    partitions = (nodes or len(sites)) - len(sites)
    if partitions < 0 or not (nodes or sites):
        raise InputError(
            f"{nodes or 'no'} --nodes and {len(sites)} --site: there is a node for each site, and "
            f"one at least"
        )
    clients = [*sites, *map(str, range(partitions))]
    expiry = write_credentials(out, clients, host, days)
    if as_json:
        keys_of = {
            name: [f"node-{i}.key", f"node-{i}-signing.key"] for i, name in enumerate(clients)
        }
        print_json(
            {"folder": out, "hosts": host, "valid_until": f"{expiry:%Y-%m-%d}", "keys": keys_of}
        )
        return
    print(f"{out}: ca.crt and server.crt for {', '.join(host)}, valid until {expiry:%Y-%m-%d}")
    keys = [f"node-{i}.key, node-{i}-signing.key (client {name})" for i, name in enumerate(clients)]
    print(f"Copy to each node: ca.crt, roster.toml and its own keys: {'; '.join(keys)}")
    print("Copy to the server: ca.crt, server.crt, server.key, client-keys and all .pub")
    print("Copy to nowhere: ca.key; and no key of a node to the server")


def check_site(
    node_config: Annotated[Path, typer.Argument(help="the node config of this site, a TOML file")],
    superlink: Annotated[str | None, typer.Option(help="HOST:PORT of the server")] = None,
    root_certificates: Annotated[Path | None, typer.Option(help="the ca.crt")] = None,
    auth_supernode_private_key: Annotated[Path | None, typer.Option(help="this site's key")] = None,
    as_json: Json = False,
) -> None:
    """Try all that this site needs, before it joins: each line is right, or says what to do."""
    from celeba_fl.config import RunConfig
    from celeba_fl.deployment.site_check import Server, check_site

    server = Server(superlink, root_certificates, auth_supernode_private_key) if superlink else None
    answers = []
    for answer in check_site(node_config, RunConfig().home_dir, server):
        answers.append(answer)
        if not as_json:
            what, right, words = answer
            print(f"{'right' if right else 'WRONG'}  {what:<12} {words}", flush=True)
    if as_json:
        print_json([answer._asdict() for answer in answers])
    elif not superlink:
        print("       server       not tried: name it with --superlink HOST:PORT")
    if not all(answer.right for answer in answers):
        raise SystemExit(1)


class By(StrEnum):
    """By what images are dealt to sites."""

    IDENTITY, IID, DIRICHLET = "identity", "iid", "dirichlet"


def split(
    folder: Annotated[str, typer.Argument(help="what the key dataset may be, such as a folder")],
    sites: Annotated[int, typer.Option(min=1, help="number of sites")],
    out: Annotated[Path, typer.Option(help="a new folder")],
    by: Annotated[By, typer.Option(help="by what images are dealt")] = By.IDENTITY,
    alpha: Annotated[float, typer.Option(min=1e-3, help="of dirichlet: small is unlike")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="the same seed deals alike")] = 42,
    as_json: Json = False,
) -> None:
    """Make folders of sites from one data set, by links, to try a federation."""
    from celeba_fl.config import RunConfig
    from celeba_fl.data import splitting

    home = RunConfig().home_dir
    made = splitting.split(folder, sites, by, out, alpha=alpha, seed=seed, home=home)
    if as_json:
        print_json([{"folder": out / name, "images": number} for name, number in made.items()])
        return
    for name, number in made.items():
        print(f"{out / name}: {number} images")
    data = " ".join(f"--data {shlex.quote(str(out / name))}" for name in made if name != "server")
    print(f"Try them:  celeba-fl deploy local {data}")
    judged = shlex.quote(str(out / "server")) if splitting.SERVER in made else "none"
    print(f"and in another terminal:  celeba-fl run celeba-iid local-sites dataset={judged}")


def local(
    nodes: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="number of SuperNodes (default: one for each --data; else 3, beside --browsers 0)",
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="folder with the images of one node, repeatable; other nodes get partitions"
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(help="name of the connection, for `flwr run`")
    ] = "local-sites",
    browsers: Annotated[
        int,
        typer.Option(
            min=0, help="number of tabs of a browser that take part, with partitions of drawn faces"
        ),
    ] = 0,
    headless: Annotated[
        bool, typer.Option("--headless", help="open the tabs in Chromium without a window")
    ] = False,
) -> None:
    """Run SuperLink and SuperNodes on this machine, secured, until Ctrl-C or SIGTERM."""
    from celeba_fl.deployment.local import LocalDeployment, node_configs

    if headless and not browsers:
        raise InputError("--headless: says how tabs are opened; say how many with --browsers")
    configs = node_configs(nodes, data or [], browsers)
    if not configs and not browsers:
        raise InputError("--nodes 0: a federation has a node; give it --nodes or --browsers")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app = app_here()
    folder = app.places().home_dir / "deployments" / name
    print(f"Starting; everything is in {folder}", flush=True)
    try:
        with ExitStack() as stack:
            deployment = LocalDeployment(folder, name, configs, rosters=not browsers)
            stack.enter_context(deployment)
            print(
                f"SuperLink on {deployment.address}; {len(configs)} SuperNodes online", flush=True
            )
            if browsers:
                from celeba_fl.browser.tabs import open_tabs

                first = sum("partition-id" in node for node in configs)
                home = app.places().home_dir
                stack.enter_context(open_tabs(deployment, home, first, browsers, headless))
            print(f"Sites reach it by {deployment.front}, which takes what a SuperNode asks alone")
            config, key, experiment = "", "", "drawn-iid" if app.is_ours else "."
            if browsers:
                key = f" min-available-clients={len(configs) + browsers}"
                config = f" --run-config '{key.strip()}'"
            elif all("data-path" in node for node in configs):
                weights = ' weights="imagenet"' if app.is_ours else ""
                config, key = f" --run-config 'dataset=\"none\"{weights}'", " dataset=none"
                experiment = "celeba-iid" if app.is_ours else "."
            print(f"In another terminal:  flwr run . {name} --stream{config}")
            print(f"or:                   celeba-fl run {experiment} {name}{key}", flush=True)
            reported: set[str] = set()
            while not reported & {"superlink", "front"}:  # without which no site can work
                time.sleep(1)
                for process, words in deployment.ended().items():
                    if process not in reported:
                        print(words, flush=True)
                    reported.add(process)
            raise SystemExit(1)
    except KeyboardInterrupt:
        print("Ended.")
