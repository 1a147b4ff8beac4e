"""Who joined a finished run of the closed form, and who has withdrawn from a run."""

from collections.abc import Mapping
from typing import Any

from celeba_fl.report.html import Block, Table
from celeba_fl.report.reading import Run
from celeba_fl.report.words import UNKNOWN


def membership(run: Run) -> list[Block]:
    """A line for each withdrawal, and the heads that were made since."""
    blocks: list[Block] = [_withdrawal(one) for one in run.withdrawals]
    if heads := run.tables.get(HEADS, ()):
        rows = [
            (
                row["head"],
                row["made"][:16].replace("T", " "),
                row["clients"],
                *(row[key].replace(",", ", ") or UNKNOWN for key in ("joined", "withdrawn")),
            )
            for row in heads
        ]
        header = ("head", "made (UTC)", "clients", "joined", "withdrawn")
        caption = "Each head, and who joined or has withdrawn since the one before"
        blocks.append(Table(caption, header, rows, texts=(1, 3, 4), folded=len(rows) > MOST))
    return blocks


# The table of heads, which is shown here and not among those of the task.
HEADS = "heads"
MOST = 10  # heads that are seen without a click


def _withdrawal(said: Mapping[str, Any]) -> str:
    """What became of it, from an entry of `withdrawals.json`."""
    who, day = str(said.get("client")), str(said.get("begun"))[:10]
    if not said.get("done"):
        return f"The withdrawal of {who}, begun on {day}, is not finished: repeat the command."
    if new := said.get("retrained_as"):
        return (
            f"{who} has withdrawn on {day}. This model still holds it: the one that was trained "
            f"again without it is that of the run {new}."
        )
    text = f"{who} has withdrawn on {day}, and the head was made anew without it."
    if said.get("joined_again"):
        return f"{text} It has joined again since."
    if held := said.get("still_held_by"):
        text += f" {len(held)} older files still hold it; withdrawals.json lists them."
    return text
