"""Forgetting by training again: the run from the start, with the same seed, without a client."""

from typing import Any

from celeba_fl.common.errors import InputError
from celeba_fl.membership.solving import why_not
from celeba_fl.membership.withdrawals import Withdrawals, now
from celeba_fl.rounds.exchange import TOTAL
from celeba_fl.runs.directory import PARTITIONS
from celeba_fl.runs.reading import RunInfo, config_of, keys_read, read_runs
from celeba_fl.runs.tables import read_csv

RETRAINED = "nothing here: the model of another run is the one without it"


def settings_without(run: RunInfo, client: str) -> dict[str, Any]:
    """The run-config keys of a run without a client.

    Raises
    ------
    InputError
        If it was not in the run, or alone, or can be taken out of the model as it is.
    """
    names = [row["client"] for row in read_csv(run.path / "nodes.csv")]
    others = [name for name in names if name != client]
    why = ""
    if client not in names:
        why = f"client {client!r} was not in it; there are {', '.join(names)}"
    elif not others:
        why = f"client {client} was the only one in it; without it there is no run"
    elif not why_not(config_of(run)):
        why = f"it has kept its clients' sums, so that {client} can leave without --retrain"
    if why:
        raise InputError(f"{run.path.name}: {why}")
    return {
        **keys_read(run.config),
        "clients": ",".join(others),
        "resume": "",
        "name": "",
        "results-dir": str(run.path.parent),
    }


def note_retrained(run: RunInfo, client: str, settings: dict[str, Any]) -> str:
    """Write down that a run with `settings_without` a client has ended; its name.

    Raises
    ------
    InputError
        If there is none, or its clients hold other examples than they did.
    """
    made = [
        one
        for one in read_runs(run.path.parent)
        if one.path != run.path and one.started > run.started
        if one.config.get("clients") == settings["clients"]
        if one.status in ("completed", "stopped")
    ]
    if not made:
        raise InputError(f"there is no finished run of {settings['clients']} beside {run.path}")
    new = made[0]
    before = {row["client"]: row for row in read_csv(run.path / PARTITIONS)}
    for row in read_csv(new.path / PARTITIONS):
        if row["client"] == TOTAL:  # of others than before
            continue
        if row["client"] in before and row != before[row["client"]]:
            raise InputError(
                f"{new.path}: client {row['client']} holds {row['num_examples']} examples, and "
                f"held {before[row['client']]['num_examples']}, or others; start as many nodes "
                f"with the same data as in {run.path.name} (--federation)"
            )
    withdrawals = Withdrawals(run.path)
    record = withdrawals.begin(client)
    said = {"deleted": RETRAINED, "retrained_as": new.path.name}
    withdrawals.note(record, {"done": now(), **said})
    return new.path.name
