"""Files that still hold a client after it has withdrawn: models, checkpoints, sums and scores.

Tables and reports are figures over all clients and stay, but for those of the run that was left.
What was copied elsewhere is not known here.
"""

from collections.abc import Iterator
from pathlib import Path

from celeba_fl.config import RunConfig
from celeba_fl.membership.withdrawals import Withdrawals
from celeba_fl.runs import audit
from celeba_fl.runs.directory import PARTITIONS
from celeba_fl.runs.kept_sums import KeptSums
from celeba_fl.runs.reading import RunInfo, read_runs
from celeba_fl.runs.reopened import FOLDER, HEADS, ReopenedRun
from celeba_fl.runs.tables import read_csv

# Of a whole run; a folder stands for all files in it.
PLACES = (
    *("model.safetensors", "base.safetensors", "sums.safetensors", "closed_form.safetensors"),
    *("checkpoints", FOLDER, "samples", "tensorboard", "test_scores.parquet"),
    *("baseline.json", "baseline_scores.parquet"),
)
# What says which images the client of a partition holds.
DEALING = (
    *("dataset", "seed", "partitioner", "partition-by", "dirichlet-alpha", "dirichlet-order"),
    *("min-partition-size", "partition-size", "public-fraction"),
)


def files_with(run: RunInfo, client: str) -> list[tuple[RunInfo, list[Path]]]:
    """Files that hold a client of a run: in it, and in others beside it of the same images."""
    found = [
        (other, _files(other, client))
        for other in read_runs(run.path.parent)
        if other.path == run.path or _same_client(run, other, client)
    ]
    return [(other, files) for other, files in found if files]


def remove(run: RunInfo, files: list[Path], client: str) -> None:
    """Delete such files of a run; InputError if somebody is writing there."""
    with ReopenedRun(run.path, RunConfig()):
        sums = KeptSums(run.path)
        if sums.path(client) in files:
            sums.remove(client)
        for path in files:
            path.unlink(missing_ok=True)


def _files(run: RunInfo, client: str) -> list[Path]:
    """What holds a client in the directory of a run that it was in."""
    left = Withdrawals(run.path).of(client)
    if left and left.get("head"):  # its head is anew, what is older is not
        older = _heads_with(run.path, client)
        return [*_within(run.path / "checkpoints"), *older]
    sums = KeptSums(run.path)
    own = [sums.path(client)] if sums.exist and client in sums.clients() else []
    places = [path for place in PLACES for path in _within(run.path / place)]
    return [*places, *own, *audit.files_of(run.path, client)]


def _within(place: Path) -> Iterator[Path]:
    """A file, or those in a folder; nothing, if there is none."""
    inside = place.is_dir()
    yield from (
        filter(Path.is_file, sorted(place.rglob("*"))) if inside else filter(Path.exists, [place])
    )


def _heads_with(run: Path, client: str) -> list[Path]:
    """The copies of heads that a client was in, which is in the newest no more."""
    held, found = False, []
    for row in reversed(read_csv(run / HEADS)):
        path = run / FOLDER / f"head-{int(row['head']):04d}.safetensors"
        if held and path.exists():
            found.append(path)
        held = (held or client in row["withdrawn"].split(",")) and client not in row[
            "joined"
        ].split(",")
    return found[::-1]


def _same_client(run: RunInfo, other: RunInfo, client: str) -> bool:
    """Whether a client was in another run with what it has in this one.

    A site is known by its name; a partition by how images were dealt, which its neighbours show.
    """
    if client not in _names(other):
        return False
    if not client.isdecimal():
        return True
    if run.dataset.get("fingerprint") != other.dataset.get("fingerprint"):
        return False
    keys = [{**RunConfig.defaults(), **one.config} for one in (run, other)]
    if any(keys[0].get(key) != keys[1].get(key) for key in DEALING):
        return False
    rows = [{row["client"]: row for row in read_csv(of.path / PARTITIONS)} for of in (run, other)]
    both = rows[0].keys() & rows[1].keys()
    return all(rows[0][name]["num_examples"] == rows[1][name]["num_examples"] for name in both)


def _names(run: RunInfo) -> set[str]:
    """The clients of a run, those that have withdrawn too."""
    tables = ("nodes.csv", PARTITIONS)
    names = {row["client"] for table in tables for row in read_csv(run.path / table)}
    return names | {one["client"] for one in Withdrawals(run.path).all}
