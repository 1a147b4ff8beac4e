"""Another head of a finished run of the closed form, from the sums that it has kept.

No client is asked: a penalty is chosen after the round, and the head is judged on the server's own
splits. It becomes a run of its own, so that everything that reads runs reads it.
"""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.table import Table
from safetensors import SafetensorError
from safetensors.numpy import load

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.rounds.checking import difference
from celeba_fl.rounds.exchange import Replies
from celeba_fl.rounds.messages import to_record
from celeba_fl.runs.directory import RunDirectory
from celeba_fl.runs.reading import RunInfo, check_provenance, config_of
from celeba_fl.runs.recorder import Recorder
from celeba_fl.runs.tables import read_csv
from celeba_fl.tasks import closed_form
from celeba_fl.tasks.attributes import Attributes

# Columns of `fairer.csv` that are shown before and after, and what they are called.
SHOWN = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "equalized_odds_difference": "equalized odds difference",
    "widest_equalized_odds_difference": "the same, of the widest",
    "widest_balanced_accuracy": "balanced accuracy of the widest",
}


def can_be_fairer(run: RunInfo) -> bool:
    """Whether a run has kept its sums, with those of groups."""
    has_groups = bool(run.config.get("fair-groups"))
    return has_groups and (run.path / "closed_form.safetensors").exists()


def make_fairer(run: RunInfo, penalty: float, budget: float) -> Path:
    """Solve for the head of another penalty, or of what a budget pays for; its run directory.

    It lies beside that of the run.

    Raises
    ------
    InputError
        If the run has kept no sums, or the data here are not the run's.
    """
    config = _changed(run, penalty, budget)
    arrays = _kept(run, "closed_form")
    task = Attributes(config)
    prepared = task.prepare()
    parts = closed_form.zero_sums(task.features.view.dim, ("train", "valid"), config.fair)
    if wrong := difference({key: arrays[key] for key in parts if key in arrays}, parts):
        raise InputError(f"{run.path / 'closed_form.safetensors'}: {wrong}; run it again")
    check_provenance(run, prepared.provenance)
    with RunDirectory(config, secrets.randbits(62)) as new:
        new.update(made_from=run.path.name)
        new.set_provenance(prepared.provenance)
        held = read_csv(run.path / "partitions.csv")
        new.set_partitions(held)
        counts = np.array([sum(int(row[name]) for row in held) for name in task.count_names])
        task.instruct(counts, sum(int(row["num_examples"]) for row in held))
        new.keep_closed_form(arrays)
        task.instruct_from_sums(new.keep_sums(_kept(run, "sums")))
        head = task.solve_again(arrays)
        Recorder(task, new, {}).finish(to_record(head), Replies())
        new.end("")
    return new.path


def fairer_table(before: Path, after: Path) -> Table | None:
    """Figures of two runs on the server's test split, or its validation split; None without both.

    Both are of the heads that were chosen.
    """
    rows = [_chosen(path) for path in (before, after)]
    for split in ("test", "server_valid"):
        if all(split in of for of in rows):
            one, other = (of[split] for of in rows)
            table = Table(
                split, f"before (rho {one['penalty']})", f"after (rho {other['penalty']})"
            )
            for name, title in SHOWN.items():
                table.add_row(title, *(_figure(row, name) for row in (one, other)))
            return table
    return None


def _changed(run: RunInfo, penalty: float, budget: float) -> RunConfig:
    config = config_of(run)
    if not config.fair:
        raise InputError(
            f"{run.path.name} has kept no sums of groups; run it again with strategy = "
            f"'closed-form' and fair-groups = 'Male', and its head can be made fairer afterwards"
        )
    return replace(
        config,
        fairness_penalty=penalty,
        fairness_budget=budget,
        results_dir=str(run.path.parent),
        resume="",
        name="",
    )


def _kept(run: RunInfo, name: str) -> Arrays:
    """The sums of a file in a run directory; the roll call's may have been none."""
    path = run.path / f"{name}.safetensors"
    if name == "sums" and not path.exists():
        return {}
    try:
        return load(path.read_bytes())
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} cannot be read: {error}; the head of a run of which it is missing cannot be "
            f"made fairer: run it again"
        ) from error


def _chosen(path: Path) -> dict[str, Mapping[str, str]]:
    """The row of the run's own head, by split."""
    rows = read_csv(path / "fairer.csv")
    return {row["split"]: row for row in rows if row["chosen"]}


def _figure(row: Mapping[str, str], name: str) -> str:
    """A figure and its interval."""
    cells = [row.get(f"{name}{end}") for end in ("", "_low", "_high")]
    value, low, high = (f"{float(cell):.3f}" if cell else "" for cell in cells)
    return f"{value} [{low}, {high}]"
