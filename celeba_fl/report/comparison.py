"""The page of several runs: differences to the first, paired on the same test images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from celeba_fl.common.files import write_bytes
from celeba_fl.common.keys import written
from celeba_fl.report.compared.attributes import attributes, groups
from celeba_fl.report.compared.curves import clients, curves
from celeba_fl.report.compared.results import results, seeds
from celeba_fl.report.heading import notes, title_of
from celeba_fl.report.html import Block, Page, Table
from celeba_fl.report.lede import lede
from celeba_fl.report.plots import build_sections
from celeba_fl.report.reading import Run
from celeba_fl.report.sections.privacy import in_brief
from celeba_fl.report.words import UNKNOWN, without_folders
from celeba_fl.runs.names import differing


def overview(runs: Mapping[str, Run]) -> list[Block]:
    """The settings that differ, and facts about the runs."""
    header = ("", *runs)
    these = list(runs.values())
    rows = [
        ("folder", *(run.path.name for run in these)),
        ("note", *(run.info.note or UNKNOWN for run in these)),
        ("status", *(run.info.standing for run in these)),
        ("rounds", *(str(max(run.last_round, 0)) for run in these)),
        ("clients", *(str(run.info.num_clients or UNKNOWN) for run in these)),
        ("dataset fingerprint", *(str(run.info.dataset.get("fingerprint"))[:12] for run in these)),
        ("privacy", *(in_brief(run.privacy) for run in these)),
        ("weights sha256", *(str(run.info.weights.get("sha256"))[:12] for run in these)),
        ("code sha256", *(str(run.info.code.get("sha256"))[:12] for run in these)),
    ]
    settings = [
        (key, *(written(run.info.config.get(key, UNKNOWN)) for run in these))
        for key in differing([run.info.config for run in these])
    ]
    said = [(name, lede(run)) for name, run in runs.items()]
    return [
        Table("Each in a sentence", ("run", "what was done"), said, words=True),
        Table("Settings that differ", header, settings, words=True)
        if settings
        else "All settings are the same.",
        Table("The runs", header, rows, words=True),
    ]


SECTIONS: Mapping[str, Callable[[Mapping[str, Run]], Sequence[Block]]] = {
    "Runs": overview,
    "Results": results,
    "Seeds": seeds,
    "Learning curves": curves,
    "Attributes": attributes,
    "Groups": groups,
    "Clients": clients,
}


def write_comparison(runs: Mapping[str, Run], out: Path) -> Path:
    """Write the page of several runs, which are compared to the first, to the HTML file `out`."""
    page = Page(
        title=f"{len(runs)} runs compared",
        subtitle=f"Differences are to A, {title_of(next(iter(runs.values())))}",
        notes=[*map(without_folders, _notes(runs))],
        sections=build_sections(SECTIONS, runs),
        intervals=any(run.scores for run in runs.values()),
    )
    write_bytes(out, page.render().encode())
    return out


def name_runs(paths: Sequence[Path]) -> dict[str, Run]:
    """Read the runs, each named by a letter, and as people call it."""
    runs = [*map(Run.read, paths)]
    letters = (chr(ord("A") + i) if len(runs) <= 26 else str(i + 1) for i in range(len(runs)))
    return {f"{letter}: {run.info.name}": run for letter, run in zip(letters, runs, strict=True)}


def _notes(runs: Mapping[str, Run]) -> list[str]:
    """The warnings of all runs, each with the letters of the runs that it is about."""
    letters: dict[str, list[str]] = {}
    for name, run in runs.items():
        for note in notes(run):
            letters.setdefault(note, []).append(name.partition(":")[0])
    return [f"{', '.join(who)}: {note}" for note, who in letters.items()]
