"""What each client brought to a finished run of the closed form, from the sums that it has kept.

No client is asked: the head without a client follows from what is left of the total, and is judged
on the server's validation split.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from rich.table import Table
from safetensors import SafetensorError
from safetensors.numpy import load_file

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.evaluation.metrics import Rows
from celeba_fl.models import ridge
from celeba_fl.rounds.checking import difference
from celeba_fl.runs.kept_sums import KeptSums
from celeba_fl.runs.reading import RunInfo, check_provenance, config_of
from celeba_fl.runs.tables import write_csv
from celeba_fl.tasks import closed_form
from celeba_fl.tasks.attributes import Attributes
from celeba_fl.tasks.contributions import Contributions

FILE = "contributions.csv"
# Columns of changes, and what they are called.
SHOWN = {
    "loss_change": ("loss, thousandths", 1000),
    "auroc_change": ("AUROC, points", 100),
    "balanced_accuracy_change": ("balanced accuracy, points", 100),
}


def has_kept_sums(run: RunInfo) -> bool:
    """Whether a run has kept its clients' sums."""
    return KeptSums(run.path).exist


def make_contributions(run: RunInfo) -> Rows:
    """Write `contributions.csv` into the run directory; its rows, by client.

    Raises
    ------
    InputError
        If the run has kept no sums, the server has no validation split, or the data here are not
        the run's.
    """
    each = KeptSums(run.path)
    names = each.clients()
    task = Attributes(config_of(run))
    check_provenance(run, task.prepare().provenance)
    valid = task._central["server_valid"]
    if not len(valid):
        raise InputError(
            f"{run.path.name}: what a client brought is judged on images of the official "
            f"validation split on the server, and {task.config.dataset} has none"
        )
    zeros = task.zero_sums()

    read = partial(each.read, like=zeros)
    total = _total(run, {**zeros, **closed_form.complete(task.config, zeros, valid, {})})
    for name in each.left_out():
        total |= {key: total[key] + array for key, array in read(name).items()}
    judged = Contributions(total, names, read, valid)
    if judged.pulls.sizes.sum() != total["train_xx"][-1] * ridge.STEP:
        raise InputError(
            f"{run.path.name}: its head is of other clients than those whose sums it has, since a "
            f"join or a withdrawal was cut off; repeat that"
        )
    rows = judged.rows()
    write_csv(run.path / FILE, rows)
    return rows


def _total(run: RunInfo, form: Arrays) -> Arrays:
    """The complete sums of a run, see `closed_form.complete`, of the shapes of others."""
    path = run.path / "closed_form.safetensors"
    try:
        total = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}; run it again") from error
    if wrong := difference({key: total[key] for key in form if key in total}, form):
        raise InputError(f"{path}: {wrong}; run it again")
    return total


def contributions_table(rows: Rows) -> Table:
    """What changes on validation when each client leaves, the most harmful leaving first."""
    table = Table("without", "images", *(title for title, _ in SHOWN.values()), "")
    for row in sorted(rows, key=lambda row: -row["loss_change"]):
        table.add_row(
            *(row["client"], str(row["num_examples"])),
            *(_figure(row, name) for name in SHOWN),
            _remark(row),
        )
    return table


def _figure(row: Mapping[str, Any], name: str) -> str:
    _, unit = SHOWN[name.removeprefix("together_")]
    value, low, high = (unit * row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _remark(row: Mapping[str, Any]) -> str:
    if row["accused"]:
        return f"accused: pulls {row['excess']:.3g} times as strongly as the median"
    if row["same_as"]:
        loss = _figure(row, "together_loss_change")
        return f"holds (nearly) the same as {row['same_as']}; without all of these: loss {loss}"
    return ""
