"""Fairer heads of the closed form: the path of penalties, and what there is besides."""

from collections.abc import Mapping

from celeba_fl.evaluation.fair_heads import FEWEST, WIDEST
from celeba_fl.report.html import Block, Cell, Picture, Pictures, Table
from celeba_fl.report.pictures import fairer as pictures
from celeba_fl.report.reading import Rows, Run, bounds, number, rows_of
from celeba_fl.report.words import between, difference, figure, named

# Columns of `fairer.csv`, what they are called, and how they are written.
COLUMNS = {
    "accuracy": ("accuracy", figure),
    "accuracy_difference": ("less the plain head's", difference),
    "balanced_accuracy": ("balanced accuracy", figure),
    "equalized_odds_difference": ("gap of all", figure),
    "widest_equalized_odds_difference": ("gap of the widest", figure),
    "widest_ratio": ("as a part of the plain head's", figure),
    "widest_balanced_accuracy": ("balanced accuracy of the widest", figure),
}


def fairer(run: Run) -> list[Block]:
    """How equal odds become, and what it costs."""
    split = "test" if rows_of(run.fairer) else "server_valid"
    rows = rows_of(run.fairer, split)
    if not rows:
        return []
    groups = named(rows[0]["grouping"])
    blocks: list[Block] = [
        f"The closed form can be made to score the groups of {groups} alike: a penalty pulls "
        f"together their mean scores among the images with an attribute, and among those without "
        f"it. All heads here follow from the sums of one round, and each answers yes at a score "
        f"above 0. Here {rows[0]['compared']} attributes count, which are those with {FEWEST} "
        f"images in each cell of group and label. A gap is the mean of their equalized odds "
        f"differences; the widest are those of them, {WIDEST} at most, that are farthest apart by "
        f"the plain head. Chance is in a gap, so it never reaches 0. That is also why more images "
        f"are asked for than in the section Groups, which tests each difference against chance: "
        f"what is picked for being wide would otherwise be what has the fewest images.",
    ]
    if rows[0]["compared"] == "0":
        return blocks
    blocks.append(_cost(rows))
    if any(row["head"] == "thresholds by group" for row in rows):
        blocks.append(
            "Thresholds by group, chosen on the validation split, need to know the group of "
            "whoever is judged; the other heads do not."
        )
    blocks.append(
        "LEACE erases from the features whatever tells the groups by a linear rule; the same "
        "attributes are then learned from what is left."
    )
    if words := _left_out(run):
        blocks.append(words)
    blocks.append(
        Pictures(
            [
                Picture(
                    "fairer",
                    "Gap between groups against the accuracy that it costs, for each penalty, for "
                    "erased features and for thresholds by group; the figures are in the table.",
                    "Numbers are penalties; bars are 95 % intervals over people.",
                    pictures.heads(rows),
                )
            ]
        )
    )
    header = ("head", *(title for title, _ in COLUMNS.values()))
    where = "test" if split == "test" else "the server's validation split"
    return [*blocks, Table(f"Heads by their penalty, on {where}", header, [*map(_row, rows)])]


def _cost(rows: Rows) -> str:
    """What the head of the run costs, or without a penalty, that of the largest."""
    plain = rows[0]
    chosen = [row for row in rows if row["chosen"] and row is not plain]
    path = [row for row in rows if row["penalty"]]
    row = (chosen or path[-1:])[0]
    which = "The head of this run" if chosen else "No penalty was set for this run. The head"
    before, after = (number(one, "widest_balanced_accuracy") for one in (plain, row))
    ratio = between(*bounds(row, "widest_ratio"))
    points = 100 * number(row, "accuracy_difference")
    return (
        f"{which} with a penalty of {float(row['penalty']):g} has "
        f"{figure(number(row, 'widest_ratio'))} {ratio} times the plain head's gap of the widest, "
        f"for {points:+.2f} points of mean accuracy over all attributes. Balanced accuracy is part "
        f"of the price: on the widest it goes from {figure(before)} to {figure(after)}."
    ).replace("-", "\N{MINUS SIGN}")


def _left_out(run: Run) -> str:
    """The attributes that no penalty touches, by the reason."""
    reasons: dict[str, list[str]] = {}
    for row in run.tables.get("fairer_attributes", ()):
        if why := row.get("left_out"):
            reasons.setdefault(why, []).append(named(row["attribute"]))
    found = "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())
    return f"Left as they are: {found}." if found else ""


def _row(row: Mapping[str, str]) -> tuple[Cell, ...]:
    penalty = row["penalty"]
    name = f"penalty {float(penalty):g}" if penalty else row["head"]
    cells: list[Cell] = []
    for column, (_, write) in COLUMNS.items():
        value = number(row, column)
        cells.append((write(value), between(*bounds(row, column), write)))
    return (f"{name}, this run's" if row["chosen"] else name, *cells)
