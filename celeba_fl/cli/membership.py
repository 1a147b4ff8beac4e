"""Who is in a model: `celeba-fl withdraw`, `celeba-fl join` and `celeba-fl serve`."""

from pathlib import Path
from typing import Annotated

import typer

from celeba_fl.cli.printing import Json, described, print_json
from celeba_fl.cli.runs import start
from celeba_fl.launch.app import app_here
from celeba_fl.runs.kept_sums import KeptSums
from celeba_fl.runs.reading import RunInfo, find_run, keys_read

STILL = (
    "These files still hold the client (--everywhere removes them; celeba-fl withdraw makes the "
    "head of another run anew, if it has kept its sums):"
)
Run = Annotated[str, typer.Argument(help="a run directory, or its name")]
SuperLink = Annotated[
    str | None, typer.Argument(help="a connection of `flwr`, as for `run` (default: its own)")
]
Federation = Annotated[
    Path | None,
    typer.Option(help="TOML file for --federation-config, that of the run (simulation-50.toml)"),
]
Inline = Annotated[bool, typer.Option(help="run in this process")]
Clients = Annotated[
    list[str] | None,
    typer.Option(
        "--client",
        help="client that may join, repeatable (default: all that are new); one that has withdrawn "
        "must be named",
    ),
]


def withdraw(
    run: Run,
    client: Annotated[str, typer.Argument(help="name of the client that leaves")],
    superlink: SuperLink = None,
    everywhere: Annotated[
        bool, typer.Option(help="remove all files that still hold it, in other runs too")
    ] = False,
    retrain: Annotated[
        bool, typer.Option(help="train anew without it, from the start and with the same seed")
    ] = False,
    federation: Federation = None,
    inline: Inline = False,
    as_json: Json = False,
) -> None:
    """Take a client out of a run's model, as if it had never taken part.

    The head follows from the sums that the run has kept (keep-sums = true), to the last bit, and no
    client is asked. A model that is an average over rounds forgets nobody but by training again:
    with --retrain, for which all other clients must be there.

    Repeat the command if it is interrupted.
    """
    from celeba_fl.membership.retraining import note_retrained, settings_without
    from celeba_fl.membership.withdrawals import Withdrawals
    from celeba_fl.membership.withdrawing import settle
    from celeba_fl.membership.withdrawing import withdraw as take_out
    from celeba_fl.report.page import write_report

    info = find_run(run, app_here().places().runs_dir) if retrain else _find(run)
    if retrain:
        settings = settings_without(info, client)
        if status := start(settings, [*filter(None, [superlink])], federation, inline):
            raise SystemExit(status)
        lines = [f"{note_retrained(info, client, settings)} has been trained without {client}"]
    else:
        record = take_out(info, client)
        lines = [
            f"{client} has left {info.name}, whose head {record['head']} is without it",
            f"Deleted: {record['deleted']}",
            f"Made anew: {record['made_anew']}",
            *(f"Not made anew: {left}" for left in record["not_made_anew"]),
            str(write_report(info.path)),
        ]
    if held := settle(info, client, everywhere):
        lines += ["Removed, since it held the client:" if everywhere else STILL, *held]
    if as_json:
        print_json({"run": described(info), **(Withdrawals(info.path).of(client) or {})})
    else:
        print("\n".join(lines))


def join(
    run: Run,
    superlink: SuperLink = None,
    client: Clients = None,
    federation: Federation = None,
    inline: Inline = False,
) -> None:
    """Let clients that come late join a finished run of the closed form with keep-sums = true.

    They send their sums, and the head is solved anew: it is that of a run in which they were there
    from the start, to the last bit. Clients that are in it already send none; those that are there
    evaluate the new head.
    """
    raise SystemExit(_join(run, superlink, client, federation, inline, stay_open=False))


def serve(
    run: Run,
    superlink: SuperLink = None,
    client: Clients = None,
    federation: Federation = None,
    inline: Inline = False,
) -> None:
    """Keep a finished run open: as `join`, whenever a new site comes, until Ctrl-C.

    Each new head takes the place of model.safetensors in the run directory, and has a numbered copy
    in heads/. A file named stop in the run directory ends it, too.
    """
    raise SystemExit(_join(run, superlink, client, federation, inline, stay_open=True))


def _join(
    run: str,
    superlink: str | None,
    client: list[str] | None,
    federation: Path | None,
    inline: bool,
    stay_open: bool,
) -> int:
    info = _find(run)
    own = {"join": str(info.path), "joining": ",".join(client or []), "stay-open": stay_open}
    settings = {**keys_read(info.config), "clients": "", "resume": "", **own}
    stop = info.path / "stop" if stay_open else None
    return start(settings, [*filter(None, [superlink])], federation, inline, stop)


def _find(run: str) -> RunInfo:
    """The run of this name; the latest is the newest that has kept its clients' sums."""
    return find_run(run, app_here().places().runs_dir, lambda one: KeptSums(one.path).exist)
