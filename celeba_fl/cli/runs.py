"""`celeba-fl run` and `celeba-fl runs`."""

from collections.abc import Sequence
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated, Any

import typer

from celeba_fl.cli.printing import Json, described, listed, print_json, told
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.launch.app import app_here
from celeba_fl.launch.experiments import (
    SIMULATION,
    absolute_paths,
    num_supernodes,
    read_experiment,
    read_toml,
)
from celeba_fl.launch.flower import failed, run_flower
from celeba_fl.runs.names import default_name
from celeba_fl.runs.naming import give_name
from celeba_fl.runs.reading import find_directory, read_run, read_runs


def run(
    experiment: Annotated[
        str,
        typer.Argument(
            help="TOML file of run-config keys, the name of one of ours, or . for no file"
        ),
    ],
    rest: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE ...] [SUPERLINK]",
            help="run-config keys to override; a connection of `flwr` (default: its own)",
        ),
    ] = None,
    federation: Annotated[
        Path | None,
        typer.Option(help="TOML file for --federation-config (default: simulation-50.toml)"),
    ] = None,
    inline: Annotated[bool, typer.Option(help="run in this process, to debug")] = False,
) -> None:
    """Run an experiment with `flwr run`, follow its log, and exit with its true status.

    The app is the one in the current directory if it depends on celeba-fl, else celeba-fl itself.
    """
    pairs = [word for word in rest or [] if "=" in word]
    superlink = [word for word in rest or [] if "=" not in word]
    if len(superlink) > 1:
        raise InputError(f"{superlink}: one SuperLink at most; overrides are written key=value")
    settings = read_experiment(experiment, pairs)
    own = Path(experiment).expanduser()
    if own.is_file() and not settings.keys() & {"name", "resume", "join"}:
        settings |= _named_after(own, settings, inline)
    raise SystemExit(start(settings, superlink, federation, inline))


def _named_after(file: Path, settings: dict[str, Any], inline: bool) -> dict[str, str]:
    """The name of a run of somebody's own experiment, which only this command knows.

    An app that was made before runs had names is not asked by Flower to give one.
    """
    usual = app_here().config
    if not inline and "name" not in usual:
        return {}
    of_file = {file.stem: read_toml(file)}
    return {"name": default_name(settings, {**RunConfig.defaults(), **usual}, of_file)}


def start(
    settings: dict[str, Any],
    superlink: Sequence[str],
    federation: Path | None,
    inline: bool,
    stop: Path | None = None,
) -> int:
    """Run the app here with settings, by Flower or in this process; the exit status.

    With `stop`, Ctrl-C ends a run of Flower's too: by a file of that name.
    """
    app = app_here()
    config = app.load(settings)
    if not superlink:
        settings |= {**absolute_paths(settings, config.keys()), **_runs_named(config)}
        federation = federation or SIMULATION
        num_supernodes(federation)  # fails here, and not in Flower
    if not inline:
        return run_flower(app, app.submittable(settings), federation, superlink, stop)
    from celeba_fl.client_app import app as client_app
    from celeba_fl.launch.inline import run_inline
    from celeba_fl.server_app import app as server_app

    try:
        run_inline(app.load(settings), num_supernodes(federation), server_app, client_app)
    except Exception as error:
        notes = getattr(error, "__notes__", ())
        if not notes:  # there is no run yet whose log says where it came from
            raise
        return failed(str(error) or repr(error), *notes)
    return 0


def _runs_named(config: RunConfig) -> dict[str, str]:
    """The directories of the runs that a config names, found before anything starts.

    In a deployment they are the server's, which finds them before it asks a client.
    """
    found = {}
    if config.resume:
        from celeba_fl.runs.resuming import directory_to_resume

        found["resume"] = str(directory_to_resume(config))
    if config.join:
        from celeba_fl.membership.joining import run_to_join

        found["join"] = str(run_to_join(config).path)
    return found


def runs(
    run: Annotated[
        str | None, typer.Argument(help="a run, to be told of in full: its directory, or its name")
    ] = None,
    name: Annotated[str | None, typer.Option(help="call the run so from now on")] = None,
    note: Annotated[str | None, typer.Option(help="what there is to say of the run")] = None,
    as_json: Json = False,
) -> None:
    """List the runs in the results directory, the newest first, or tell of one.

    Wherever a command takes a RUN, its name will do, or how the name begins if no other does.
    """
    folder, width = app_here().places().runs_dir, get_terminal_size().columns
    if run is None:
        if name is not None or note is not None:
            raise InputError("--name, --note: say of which run, as in celeba-fl runs RUN --name A")
        infos = read_runs(folder)
        if as_json:
            print_json([described(info) for info in infos])
        elif infos:
            print("\n".join(listed(infos, width)))
        else:
            print(f"There is no run in {folder} yet; start one: celeba-fl run drawn-iid")
        return
    path = find_directory(run, folder)
    if name is not None or note is not None:
        give_name(path, read_run(path).name if name is None else name, note)
    info = read_run(path)
    if as_json:
        print_json({**described(info), "config": info.config})
    else:
        print("\n".join(told(info, width)))
