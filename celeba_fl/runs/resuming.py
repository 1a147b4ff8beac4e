"""Whether a run can go on in its directory."""

from pathlib import Path

from celeba_fl.common.errors import InputError
from celeba_fl.config import RESUMABLE, RunConfig
from celeba_fl.rounds.checkpoints import Checkpoints
from celeba_fl.runs.reading import read_json


def directory_to_resume(config: RunConfig) -> Path:
    """The directory to go on with, after making sure that it is of the same experiment.

    Keys that are newer than the run had their defaults.
    """
    path = Path(config.resume).expanduser().absolute()
    if config.resume == "latest":
        found = sorted(config.runs_dir.glob("*/run.json"))
        if not found:
            raise InputError(f"resume = 'latest': there is no run in {config.runs_dir}")
        path = found[-1].parent
    if not (path / "run.json").exists():
        raise InputError(f"resume = {config.resume!r}: {path} is no run directory")
    info = read_json(path / "run.json")
    before, now = {**config.defaults(), **info["config"]}, config.to_dict()
    changed = [
        f"{key} was {before[key]!r} and is {now[key]!r}"
        for key in now
        if key not in RESUMABLE and before[key] != now[key]
    ]
    if changed:
        raise InputError(
            f"resume = {config.resume!r}: {path.name} is of another experiment: "
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
            f"resume = {config.resume!r}: {path.name} has stopped ({info['reason']}); to go on, "
            f"change the rule"
        )
    return path
