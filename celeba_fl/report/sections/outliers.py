"""Which clients stand out of their cohort, by what, and how often."""

from celeba_fl.report.html import Block, Table
from celeba_fl.report.reading import Rows, Run, number
from celeba_fl.report.words import UNKNOWN
from celeba_fl.rounds.outliers import BEYOND, FEWEST, SIGNS, SUSPECTED

SHOWN = 20  # clients
NAMES = {sign.name: sign.words for sign in SIGNS}


def outliers(run: Run) -> list[Block]:
    """The clients that are suspected in some round, the most often suspected first."""
    trained = [row for row in run.clients if row.get("update_norm")]
    judged = [row for row in trained if any(row.get(f"{sign}_z") for sign in NAMES)]
    if not trained:
        return []
    if not judged:
        return [
            f"No round has {FEWEST} clients that train. What is usual among fewer cannot be said, "
            f"so no client is said to stand out."
        ]
    rounds = len({row["round"] for row in judged})
    text = (
        f"In {rounds} rounds, each client was compared with its cohort: the norm of its update "
        f"with those of clients of its size, the cosine of its update to the step that the model "
        f"took, and the loss of the model before the round on its train examples. Beyond a robust "
        f"z-score of {BEYOND:g}, from median and MAD, it stands out. "
    )
    of: dict[str, list[dict[str, str]]] = {}
    for row in judged:
        of.setdefault(row["client"], []).append(dict(row))
    times = {name: sum(bool(row.get(SUSPECTED)) for row in rows) for name, rows in of.items()}
    suspected = sorted((name for name in of if times[name]), key=lambda name: -times[name])
    if not suspected:
        return [text + "None does."]
    text += (
        f"{len(suspected)} of {len(of):,} clients do. That proves nothing: an update stands out "
        f"when a client means harm, when its labels or its program are wrong, and when it is the "
        f"only one to hold what it holds. Ask, before you leave it out."
    )
    rows = [_row(name, of[name], times[name]) for name in suspected[:SHOWN]]
    caption = "Clients that stand out"
    if len(suspected) > SHOWN:
        caption += f": the first {SHOWN} of {len(suspected)}; clients.csv has all"
    header = ("client", "rounds", "by what", "norm, z", "cosine, z", "loss before, z")
    return [text, Table(caption, header, rows, texts=(2,))]


def _row(name: str, rows: Rows, times: int) -> list[str]:
    found = {sign for row in rows for sign in (row.get(SUSPECTED) or "").split()}
    words = "; ".join(words for sign, words in NAMES.items() if sign in found)
    ends = []
    for sign in SIGNS:
        known = [z for row in rows if (z := number(row, f"{sign.name}_z")) == z]
        ends.append(f"{(max if sign.up else min)(known):.1f}" if known else UNKNOWN)
    return [name, f"{times} of {len(rows)}", words, *ends]
