"""What each client brought to the closed form: the head without it, and who is left out."""

from collections.abc import Mapping
from contextlib import suppress

from celeba_fl.common.errors import InputError
from celeba_fl.report.html import Block, Cell, Picture, Pictures, Table
from celeba_fl.report.pictures import contributions as pictures
from celeba_fl.report.reading import Run, bounds, number
from celeba_fl.report.words import between
from celeba_fl.runs.kept_sums import KeptSums

# Columns of `contributions.csv`, what they are called, and in what unit they are shown.
COLUMNS = {
    "loss_change": ("loss (thousandths)", 1000),
    "auroc_change": ("AUROC (points)", 100),
    "balanced_accuracy_change": ("balanced accuracy (points)", 100),
}


def contributions(run: Run) -> list[Block]:
    """What changes on validation when each client leaves, in words that say what that is not."""
    blocks: list[Block] = []
    with suppress(InputError):
        if left_out := KeptSums(run.path).left_out():
            blocks.append(
                f"The head of this run was made without {', '.join(left_out)}, since robust = "
                f"leave-out: sums unlike those of all others, which raise the loss on validation."
            )
    rows = sorted(run.contributions, key=lambda row: -number(row, "loss_change"))
    if not rows:
        return blocks
    blocks += [
        "For each client, the head that all others would have made without it: exactly, since the "
        "closed form is a sum over clients. A loss that rises when a client leaves is what the "
        "client was worth here. Intervals are 95 % over the people of the server's validation "
        "split, for each client by itself; among many clients some miss 0 by chance.",
        "It is what this client adds to these others, for these attributes and these validation "
        "images. It is not how good or how much its data are: a client with few examples of a rare "
        "group can matter more than a large one, whoever comes first or last counts alike, and the "
        "figures of all clients do not add up to what all together are worth. What others hold, "
        "too, counts for nobody: when one of two that hold the same leaves, little changes. "
        "Whoever pays by these figures should look at such sets together.",
    ]
    if accused := [row["client"] for row in rows if row["accused"]]:
        blocks.append(
            f"Accused: {', '.join(accused)}. Their sums pull at the head of the others far more "
            f"strongly than those of the median client of the same size, and joining the others "
            f"they raise the loss beyond chance. That is a reason to ask; it proves no intent."
        )
    for names, row in _sets(run).items():
        loss = _cell(row, "together_loss_change", 1000)
        blocks.append(
            f"{', '.join(names)} hold the same, or nearly. Each alone counts for less than it "
            f"should; when all of these leave, the loss changes by {' '.join(loss)} thousandths."
        )
    blocks.append(
        Pictures(
            [
                Picture(
                    "contributions",
                    "Change of the loss on validation when each client leaves; the figures are in "
                    "the table.",
                    "To the right of 0 the client is missed; bars are 95 % intervals over people.",
                    pictures.changes(rows),
                )
            ]
        )
    )
    header = ("without", "images", *(title for title, _ in COLUMNS.values()), "pull")
    table = Table("Changes when a client leaves", header, [*map(_row, rows)], folded=True)
    return [*blocks, table]


def _sets(run: Run) -> dict[tuple[str, ...], Mapping[str, str]]:
    """The sets of clients that hold the same, with a row of each."""
    rows = [row for row in run.contributions if row["same_as"]]
    return {tuple(sorted([row["client"], *row["same_as"].split(", ")])): row for row in rows}


def _row(row: Mapping[str, str]) -> tuple[Cell, ...]:
    cells = [_cell(row, name, unit) for name, (_, unit) in COLUMNS.items()]
    excess = number(row, "excess")
    pull = f"{excess:.3g}" if excess == excess else ""
    return (row["client"], row["num_examples"], *cells, pull)


def _cell(row: Mapping[str, str], name: str, unit: float) -> tuple[str, str]:
    low, high = (unit * end for end in bounds(row, name))
    return _signed(unit * number(row, name)), between(low, high, _signed)


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
