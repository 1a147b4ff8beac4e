"""The page of several runs: differences to the first, paired on the same test images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from celeba_fl.common.files import write_bytes
from celeba_fl.report.compared.attributes import attributes
from celeba_fl.report.compared.curves import clients, curves
from celeba_fl.report.compared.groups import groups
from celeba_fl.report.compared.results import results, seeds
from celeba_fl.report.compared.runs import name_runs, overview
from celeba_fl.report.heading import notes, title_of
from celeba_fl.report.html import Block, Page
from celeba_fl.report.plots import build_sections
from celeba_fl.report.reading import Run

SECTIONS: Mapping[str, Callable[[Mapping[str, Run]], Sequence[Block]]] = {
    "Runs": overview,
    "Results": results,
    "Seeds": seeds,
    "Learning curves": curves,
    "Attributes": attributes,
    "Groups": groups,
    "Clients": clients,
}


def write_comparison(paths: Sequence[Path], out: Path) -> Path:
    """Write the page of several runs, which are compared to the first, to the HTML file `out`."""
    runs = name_runs([Run.read(path) for path in paths])
    sections = build_sections(SECTIONS, runs)
    page = Page(
        title=f"{len(runs)} runs compared",
        subtitle=f"Differences are to A, {title_of(next(iter(runs.values())))}",
        notes=_notes(runs),
        sections=sections,
    )
    write_bytes(out, page.render().encode())
    return out


def _notes(runs: Mapping[str, Run]) -> list[str]:
    """The warnings of all runs, each with the letters of the runs that it is about."""
    letters: dict[str, list[str]] = {}
    for name, run in runs.items():
        for note in notes(run):
            letters.setdefault(note, []).append(name.partition(":")[0])
    return [f"{', '.join(who)}: {note}" for note, who in letters.items()]
