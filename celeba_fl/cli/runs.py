"""`celeba-fl run` and `celeba-fl runs`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from celeba_fl.common.errors import InputError, encodable, printable
from celeba_fl.launch.app import app_here
from celeba_fl.launch.experiments import SIMULATION, absolute_paths, num_supernodes, read_experiment
from celeba_fl.launch.flower import failed, run_flower
from celeba_fl.runs.reading import dealing, read_runs


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
    raise SystemExit(start(read_experiment(experiment, pairs), superlink, federation, inline))


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
        settings |= absolute_paths(settings, config.keys())
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


def runs() -> None:
    """List the runs in the results directory, the newest first."""
    metrics = {"accuracy": "accuracy", "balanced_accuracy": "balanced", "auroc": "AUROC"}
    keys = ("task", "dataset")
    header = "run", "status", "rounds", *metrics.values(), *keys, "partitioner", "reason"
    rows: list[tuple[object, ...]] = [header]
    for info in read_runs(app_here().places().runs_dir):
        figures = [info.summary.get(f"test_{metric}") for metric in metrics]
        rows.append(
            (
                *(info.path.name, info.status, "" if info.rounds is None else info.rounds),
                *("" if figure is None else f"{figure:.3f}" for figure in figures),
                *(info.config.get(key, "") for key in keys),
                *(dealing(info.config), info.reason),
            )
        )
    # In plain lines, since a table of rich's with hundreds of rows takes longer than reading them.
    cells = [[printable(encodable(str(cell))) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(map(str.ljust, row, widths)).rstrip())
