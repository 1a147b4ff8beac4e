"""Runs about runs: `celeba-fl baseline` and `celeba-fl sweep`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from celeba_fl.cli.printing import Json, described, print_json
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.launch.app import app_here
from celeba_fl.launch.experiments import num_supernodes, parse_pair, read_experiment
from celeba_fl.runs.reading import find_run, read_run


def baseline(
    run: Annotated[str, typer.Argument(help="a run directory, or its name")] = "latest",
    as_json: Json = False,
) -> None:
    """Compare a run with reference points: central training, each client alone, the majority.

    They use the data, the features and the settings of the run. The central model of attributes is
    logistic regression, its L2 chosen on validation; for other tasks it trains for as many epochs
    as the run, and the best on validation is taken. A client alone trains for as many epochs as it
    did in the run.
    """
    from celeba_fl.report.page import write_report
    from celeba_fl.studies.baseline import baseline_table, make_baseline

    info = find_run(run, app_here().places().runs_dir)
    points = make_baseline(info)
    report = write_report(info.path)
    if as_json:
        print_json({"run": described(info), **points, "report": report})
        return
    Console().print(baseline_table(info.summary, points))
    print(report)


def fairer(
    run: Annotated[str, typer.Argument(help="a run directory, or its name")] = "latest",
    penalty: Annotated[
        float | None, typer.Option(min=0, help="fairness-penalty of the new head")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(min=0, help="or the points of mean accuracy on validation that it may cost"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make another head of a finished run with strategy = 'closed-form' and fair-groups.

    It follows from the sums that the run has kept, and no client is asked. The head gets a run
    directory of its own, which `predict`, `report` and `compare` take like any other.
    """
    from celeba_fl.report.page import write_report
    from celeba_fl.studies.fairer import can_be_fairer, fairer_table, make_fairer

    if (penalty is None) == (budget is None):
        raise InputError("fairer: give either --penalty or --budget, such as --penalty 3")
    info = find_run(run, app_here().places().runs_dir, can_be_fairer)
    made = make_fairer(info, penalty or 0.0, budget or 0.0)
    if as_json:
        report = write_report(made)
        print_json(
            {"made_from": described(info), "run": described(read_run(made)), "report": report}
        )
        return
    if table := fairer_table(info.path, made):
        Console().print(table)
    print(write_report(made))


def contributions(
    run: Annotated[str, typer.Argument(help="a run directory, or its name")] = "latest",
    as_json: Json = False,
) -> None:
    """Say what each client brought to a finished run with keep-sums, and who spoils it.

    For each client, the head without it: what its leaving does to loss, AUROC and balanced accuracy
    on validation. No client is asked. A client whose sums are unlike all others' and do harm beyond
    chance is accused; robust = 'leave-out' makes the head without such clients.
    """
    from celeba_fl.report.page import write_report
    from celeba_fl.studies.contributions import (
        contributions_table,
        has_kept_sums,
        make_contributions,
    )

    info = find_run(run, app_here().places().runs_dir, has_kept_sums)
    rows = make_contributions(info)
    report = write_report(info.path)
    if as_json:
        print_json(rows)
        return
    Console().print(contributions_table(rows))
    print("Accused:", ", ".join(row["client"] for row in rows if row["accused"]) or "nobody")
    print(report)


def sweep(
    experiment: Annotated[str, typer.Argument(help="as for `run`")],
    pairs: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE[,VALUE...] ...",
            help="run-config keys, with one value or several to try",
        ),
    ],
    metric: Annotated[
        str | None,
        typer.Option(help="validation column of rounds.csv (server_valid_ or valid_ + `watch`)"),
    ] = None,
    federation: Annotated[
        Path | None, typer.Option(help="TOML file with num-supernodes (simulation-50.toml)")
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="number of clients, instead of a file")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="directory; runs that it holds are not repeated (home/sweeps/...)"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Try all combinations of settings, rank them on validation, and test the best one.

    Values are separated by commas: learning-rate=1e-3,3e-3. One that has a comma in it needs
    quotes, and the word others around it for the shell: 'partition-by="Male,Young",Male'.

    All runs are in this process, one after the other. If interrupted, the same command continues.
    With several values of `seed`, settings are ranked by their mean.
    """
    from celeba_fl.studies.sweep import run_sweep, split_values

    grid: dict[str, list[Any]] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"{pair!r}: must be key=value, or key=value,value")
        grid[key] = [parse_pair(f"{key}={value}")[1] for value in split_values(text)]
    fixed = {**app_here().config, **read_experiment(experiment)}
    first = {key: values[0] for key, values in grid.items()}
    home = RunConfig.load({**fixed, **first}).home_dir
    out = (out or home / "sweeps" / Path(experiment).resolve().stem).expanduser().absolute()
    done = run_sweep(fixed, grid, nodes or num_supernodes(federation), out, metric)
    if as_json:
        print_json({**done.found(), "file": out / "sweep.csv"})
    else:
        Console().print(done.table())
        for line in done.verdict():
            print(line)
        print(out / "sweep.csv")
    if any(setting.reasons for setting in done.settings):
        raise SystemExit(1)
