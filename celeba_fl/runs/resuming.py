"""The checks that a run may be resumed in its directory, and from where."""

from collections import Counter
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from celeba_fl.common.errors import InputError
from celeba_fl.common.log import LOG
from celeba_fl.config import RESUMABLE, RunConfig
from celeba_fl.keys.naming import LABELS
from celeba_fl.rounds.checkpoints import Checkpoints
from celeba_fl.runs.reading import RunInfo, find_run, keys_read
from celeba_fl.runs.tables import read_csv


def directory_to_resume(config: RunConfig) -> Path:
    """The directory of the run to resume, once it is certain that this is the same experiment.

    ``latest`` is the newest that has checkpoints and something left to do. Keys that are newer than
    the run are as `keys_read` says.

    Raises
    ------
    InputError
        If there is no such run, it is of another experiment, or nothing is left to do in it.
    """
    try:
        run = find_run(config.resume, config.runs_dir, partial(_can_go_on, config))
    except InputError as error:
        raise InputError(f"resume = {config.resume!r}: {error}") from error
    path, before = run.path, _before(config, run)
    changed = settings_changed(config, run, RESUMABLE)
    if changed:
        raise InputError(
            f"resume = {config.resume!r}: {path.name} is another experiment: "
            f"{'; '.join(changed)}. Only {', '.join(RESUMABLE[1:])} may change"
        )
    if why := _nothing_left(config, run, before):
        raise InputError(f"resume = {config.resume!r}: {path.name} {why}")
    if config.task == "attributes" and "calibration" not in run.config:
        LOG.warning(
            "%s was begun when histograms of scores ended at 8: in its rounds until now, AUROC on "
            "the clients' images may be too low",
            path.name,
        )
    return path


def settings_changed(config: RunConfig, run: RunInfo, free: Collection[str]) -> list[str]:
    """In words, what is otherwise than in a run, but for what is `free` to be."""
    before, now = _before(config, run), config.to_dict()
    return [
        f"{key} was {before[key]!r} and is {now[key]!r}"
        for key in now
        if key not in (*free, *LABELS) and before[key] != now[key]
    ]


def _before(config: RunConfig, run: RunInfo) -> dict[str, Any]:
    """The run config of a run, with today's defaults for keys that are newer."""
    return {**config.defaults(), **keys_read(run.config)}


def _nothing_left(config: RunConfig, run: RunInfo, before: Mapping[str, Any]) -> str:
    """Why there is nothing to do in a run with these keys; empty if there is something."""
    if (run.path / "heads.csv").exists():
        return "has a head that was made anew since its end; celeba-fl join goes on with it"
    now, completed = config.to_dict(), run.status == "completed"
    saved = Checkpoints(run.path / "checkpoints").rounds()
    done = before["num-server-rounds"] if completed else max(saved, default=0)
    if config.num_server_rounds < done + completed:
        return (
            f"has done {done} rounds already; num-server-rounds = {config.num_server_rounds} must "
            f"be more"
        )
    if run.status == "stopped" and all(before[key] == now[key] for key in RESUMABLE[1:]):
        return f"has stopped ({run.reason}); change the rule to continue it"
    return ""


def _can_go_on(config: RunConfig, run: RunInfo) -> bool:
    before = {**config.defaults(), **run.config}
    begun = bool(Checkpoints(run.path / "checkpoints").rounds())
    return begun and not _nothing_left(config, run, before)


def last_recorded(path: Path) -> int:
    """The round up to which the rows of a run are whole; -1 without any.

    A power cut can take rows whose checkpoint is there, in a run of a version that did not wait
    for the disk.
    """
    last = -1
    clients = read_csv(path / "clients.csv")
    present = Counter(row["round"] for row in clients)
    trained = {row["round"] for row in clients if row.get("local_loss")}
    epochs = {row["round"] for row in read_csv(path / "epochs.csv")}
    has_epochs = (path / "epochs.csv").exists()
    for row in read_csv(path / "rounds.csv"):
        name = row["round"]
        complete = name == str(last + 1) and row["clients"] and row["failures"]
        if not complete or present[name] < int(row["clients"]) - int(row["failures"]):
            break
        if has_epochs and name in trained and name not in epochs:
            break
        last += 1
    return last


def last_losses(path: Path) -> dict[str, float]:
    """The train loss of each client in the last round of which a run has rows."""
    rows = read_csv(path / "clients.csv")
    return {
        row["client"]: float(row.get("train_loss") or "nan")
        for row in rows
        if row["round"] == rows[-1]["round"]
    }
