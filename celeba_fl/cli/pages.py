"""What people look at: `celeba-fl report`, `celeba-fl compare`, and `celeba-fl dashboard`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from celeba_fl.cli.printing import Json, described, print_json
from celeba_fl.common.errors import InputError
from celeba_fl.launch.app import app_here
from celeba_fl.runs.names import differing
from celeba_fl.runs.reading import find_directory, read_run


def report(
    run: Annotated[
        str, typer.Argument(help="a run directory, or the name of a run, or how it begins")
    ] = "latest",
    png: Annotated[
        bool, typer.Option("--png", help="write the charts as PNG too, for slides")
    ] = False,
    faces: Annotated[
        bool,
        typer.Option(
            "--faces",
            help="show mistakes and hits as pictures of people, too: CelebA's are for research "
            "alone, and may not be passed on",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the report of a run, finished or not: report.html, and its charts in plots/ as SVG."""
    from celeba_fl.report.page import write_report

    path = find_directory(run, app_here().places().runs_dir)
    page = write_report(path, png, faces)
    if as_json:
        print_json({"run": described(read_run(path)), "report": page})
    else:
        print(page)


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN RUN [...]", help="as for report; the first is the reference"),
    ],
    out: Annotated[Path, typer.Option(help="the page to write")] = Path("comparison.html"),
    as_json: Json = False,
) -> None:
    """Put several runs side by side on one page, with their differences to the first."""
    from celeba_fl.report.compared.results import figures_of, models_of
    from celeba_fl.report.comparison import name_runs, write_comparison

    if len(runs) < 2:
        raise InputError("compare needs two runs or more")
    folder = app_here().places().runs_dir
    named = name_runs([find_directory(run, folder) for run in runs])
    page = write_comparison(named, out)
    if not as_json:
        print(page)
        return
    infos = [run.info for run in named.values()]
    settings = {
        key: [run.config.get(key) for run in infos]
        for key in differing([run.config for run in infos])
    }
    results = [
        {"model": name, "figures": {metric: asdict(one) for metric, one in figures.items()}}
        for name, figures in figures_of(models_of(named))
    ]
    said = {"runs": [*map(described, infos)], "settings": settings, "results": results}
    print_json({**said, "page": page})


def dashboard(
    port: Annotated[int, typer.Option(min=1, max=65535, help="port of the page")] = 8501,
    host: Annotated[
        str, typer.Option(help="address to listen on; any other lets other machines in")
    ] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="name under which browsers reach it through a reverse proxy"),
    ] = None,
) -> None:
    """Watch, start and stop runs, and try their models, in a browser."""
    from celeba_fl.dashboard.launch import launch

    launch(host, port, allow_host or [])
