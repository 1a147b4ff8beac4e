"""The check that a run may be resumed in its directory."""

from pathlib import Path

from celeba_fl.common.errors import InputError
from celeba_fl.config import RESUMABLE, RunConfig
from celeba_fl.rounds.checkpoints import Checkpoints
from celeba_fl.runs.reading import as_today, find_directory, read_json


def directory_to_resume(config: RunConfig) -> Path:
    """The directory of the run to resume, once it is certain that this is the same experiment.

    Keys that are newer than the run had the values that `as_today` gives them.

    Raises
    ------
    InputError
        If there is no such run, it is of another experiment, or nothing is left to do in it.
    """
    try:
        path = find_directory(config.resume, config.runs_dir)
    except InputError as error:
        raise InputError(f"resume = {config.resume!r}: {error}") from error
    info = read_json(path / "run.json")
    before, now = {**config.defaults(), **as_today(info["config"])}, config.to_dict()
    changed = [
        f"{key} was {before[key]!r} and is {now[key]!r}"
        for key in now
        if key not in RESUMABLE and before[key] != now[key]
    ]
    if changed:
        raise InputError(
            f"resume = {config.resume!r}: {path.name} is another experiment: "
            f"{'; '.join(changed)}. Only {', '.join(RESUMABLE[1:])} may change"
        )
    completed = info["status"] == "completed"
    saved = Checkpoints(path / "checkpoints").rounds()
    done = before["num-server-rounds"] if completed else max(saved, default=0)
    if config.num_server_rounds < done + completed:
        raise InputError(
            f"resume = {config.resume!r}: {path.name} has done {done} rounds already; "
            f"num-server-rounds = {config.num_server_rounds} must be more"
        )
    if info["status"] == "stopped" and all(before[key] == now[key] for key in RESUMABLE[1:]):
        raise InputError(
            f"resume = {config.resume!r}: {path.name} has stopped ({info['reason']}); change the "
            f"rule to continue it"
        )
    return path
