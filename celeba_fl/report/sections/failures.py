"""What failed, how often, and why."""

from celeba_fl.report.html import Block, Table
from celeba_fl.report.reading import Rows, Run
from celeba_fl.report.words import in_short

SHOWN = 20  # reasons
NAMED = 5  # clients of one
PHASES = {
    "query": "the roll call",
    "train": "training",
    "evaluate": "evaluation",
    "final evaluation": "evaluation of the last model",
}


def failures(run: Run) -> list[Block]:
    """Why the run ended, if the sentence on top cuts that off, and why clients were left out."""
    info, blocks = run.info, _left_out(run)
    reason = " ".join(info.reason.split()).rstrip(".")
    if info.status == "unreadable" or in_short(info.reason) == reason:
        return blocks
    return [f"The run {info.status}, and the reason in full is: {reason}.", *blocks]


def _left_out(run: Run) -> list[Block]:
    """The reasons for which clients were left out, the most frequent first."""
    if not run.failures:
        return []
    of: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in run.failures:
        of.setdefault((row["phase"], row["reason"]), []).append(dict(row))
    reasons = sorted(of, key=lambda one: -len(of[one]))
    text = (
        f"{len(run.failures)} replies of {len({row['client'] for row in run.failures}):,} clients "
        f"were left out, each for one round; failures.csv has them one by one, and log.txt where "
        f"in the code an error came from, if it was raised on this machine."
    )
    caption = "Why replies were left out"
    if len(reasons) > SHOWN:
        caption += f": the {SHOWN} most frequent of {len(reasons)} reasons"
    rows = [
        (reason, PHASES.get(phase, phase), str(len(of[phase, reason])), *_where(of[phase, reason]))
        for phase, reason in reasons[:SHOWN]
    ]
    header = ("reason", "in", "replies", "rounds", "clients")
    return [text, Table(caption, header, rows, texts=(1, 3, 4))]


def _where(rows: Rows) -> tuple[str, str]:
    """The rounds and the clients of some failures, in brief."""
    numbers = sorted({int(row["round"]) for row in rows})
    rounds = str(numbers[0])
    if len(numbers) > 1:
        rounds = f"{len(numbers)} from {numbers[0]} to {numbers[-1]}"
    names = list(dict.fromkeys(row["client"] for row in rows))
    more = len(names) - NAMED
    return rounds, ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
