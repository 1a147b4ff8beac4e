"""`celeba-fl run` and `celeba-fl runs`."""

from collections.abc import Sequence
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated, Any

import typer

from celeba_fl.cli.printing import Json, described, listed, print_json, told
from celeba_fl.common.errors import InputError
from celeba_fl.launch.app import app_here
from celeba_fl.launch.experiments import SIMULATION, num_supernodes, parse_pair
from celeba_fl.launch.flower import failed, run_flower
from celeba_fl.notebook.running import found_here, named_settings, run_here
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
    settings = named_settings(experiment, dict(map(parse_pair, pairs)), inline)
    raise SystemExit(start(settings, superlink, federation, inline))


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
        settings |= found_here(settings, config)
        federation = federation or SIMULATION
        num_supernodes(federation)  # fails here, and not in Flower
    if not inline:
        return run_flower(app, app.submittable(settings), federation, superlink, stop)
    try:
        run_here(settings, num_supernodes(federation))
    except Exception as error:
        notes = getattr(error, "__notes__", ())
        if not notes:  # there is no run yet whose log says where it came from
            raise
        return failed(str(error) or repr(error), *notes)
    return 0


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
