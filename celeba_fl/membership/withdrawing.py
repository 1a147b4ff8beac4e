"""A client that withdraws: the head as if it had never taken part, and what still holds it."""

from typing import Any

from flwr.clientapp import ClientApp

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import InlineGrid
from celeba_fl.membership.holders import files_with, remove
from celeba_fl.membership.solving import Members, make_head, why_not
from celeba_fl.membership.withdrawals import Withdrawals, now
from celeba_fl.runs.audit import files_of
from celeba_fl.runs.directory import PARTITIONS
from celeba_fl.runs.reading import RunInfo, check_provenance, config_of
from celeba_fl.runs.reopened import ReopenedRun
from celeba_fl.runs.tables import read_csv
from celeba_fl.task import load_task

DELETED = (
    "its sums, what it said in the roll call, its rows in all tables, and what the audit kept of "
    "it: deleted, not overwritten, so that a disk or a backup may hold them still"
)
MADE_ANEW = (
    "the model with its penalty and its calibration to logits, the base model, the scale of "
    "features, the base rates, every figure on the server's own images, and the report"
)
# Where the server has no validation split, this follows from clients' counts of the new head.
BY_CLIENTS = (
    "thresholds and calibration: they are chosen on the clients' validation images, so scores stay "
    "as they are and 0 decides, until celeba-fl join asks the clients"
)
NOT_MADE_ANEW = (
    "figures on the clients' own images, which are empty: no client was asked; celeba-fl join asks "
    "those that are there"
)


def withdraw(run: RunInfo, client: str) -> dict[str, Any]:
    """Take a client out of a run's model, and delete what there is of it; the record of that.

    The head is that of a run in which it had never taken part, to the last bit. What was cut off is
    done again, and what was done already is not done twice.

    Raises
    ------
    InputError
        If it is not in the model, is the only one in it, or cannot be taken out of it.
    """
    config = config_of(run)
    if why := why_not(config):
        raise InputError(
            f"{run.path.name}: nobody can be taken out of its model: {why}. Only training again "
            f"without {client} forgets it: celeba-fl withdraw {run.path} {client} --retrain"
        )
    with ReopenedRun(run.path, config) as opened:
        withdrawals = Withdrawals(run.path)
        earlier = withdrawals.of(client)
        if earlier and earlier["done"]:
            return earlier
        task = load_task(config)
        module = type(task).__module__
        prepared = task.prepare()
        check_provenance(run, prepared.provenance)
        members = Members(run.path, task, leaving=client)
        if not earlier:
            _check(run, client, members)
        record = withdrawals.begin(client)
        opened.number_first(copy=False)
        members.remove(client)
        for file in files_of(run.path, client):
            file.unlink()
        make_head(task, prepared, opened, members, InlineGrid(ClientApp(), 0, {}), {})
        head = opened.publish(members.clients, (), [client], module)
        withdrawals.note(record, {"head": head, "done": now(), **_said(run, config)})
    return record


def settle(run: RunInfo, client: str, everywhere: bool) -> list[str]:
    """Name what still holds a client that has withdrawn, or with `everywhere` remove it, in lines.

    That is written into `withdrawals.json`, too.
    """
    lines, removed, left = [], [], []
    for other, files in files_with(run, client):
        names = [f"{other.path.name}/{path.relative_to(other.path)}" for path in files]
        why = ""
        if everywhere:
            try:
                remove(other, files, client)
            except InputError as error:
                why = str(error)
        if everywhere and not why:
            removed += names
        else:
            left += names
        lines += [*names, *filter(None, [why])]
    withdrawals = Withdrawals(run.path)
    if record := withdrawals.of(client):
        before = record.get("removed", [])
        withdrawals.note(record, {"removed": [*before, *removed], "still_held_by": left})
    return lines


def _check(run: RunInfo, client: str, others: Members) -> None:
    """Raise InputError unless a client can leave."""
    known = [row["client"] for row in read_csv(run.path / PARTITIONS)]
    if client not in known:
        raise InputError(
            f"{run.path.name}: client {client!r} is not in it; there are {', '.join(known)}"
        )
    if not (run.path / "model.safetensors").exists():
        raise InputError(f"{run.path.name} is {run.status} and has no model; resume it first")
    if not others.clients:
        raise InputError(
            f"{run.path.name}: client {client} is the only one in its model; without it there is "
            f"none: delete {run.path}"
        )


def _said(run: RunInfo, config: RunConfig) -> dict[str, Any]:
    """What was done, in words, for `withdrawals.json`."""
    chosen = config.thresholds != "zero" or config.calibration != "none"
    by_clients = chosen and not run.dataset.get("splits", {}).get("valid")
    left = [NOT_MADE_ANEW, *([BY_CLIENTS] if by_clients else [])]
    return {"deleted": DELETED, "made_anew": MADE_ANEW, "not_made_anew": left}
