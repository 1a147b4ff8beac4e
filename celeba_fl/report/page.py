"""The report of a run: `report.html` and `plots/` in its directory, made from its files alone."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from celeba_fl.common.files import write_bytes
from celeba_fl.report.front import take_front
from celeba_fl.report.heading import notes, subtitle_of, title_of
from celeba_fl.report.html import Block, Page
from celeba_fl.report.lede import lede
from celeba_fl.report.plots import build_sections
from celeba_fl.report.reading import Run
from celeba_fl.report.sections.attributes import attributes
from celeba_fl.report.sections.clients import clients, partitions
from celeba_fl.report.sections.contributions import contributions
from celeba_fl.report.sections.corrections import corrections
from celeba_fl.report.sections.curves import curves
from celeba_fl.report.sections.faces import faces
from celeba_fl.report.sections.failures import failures
from celeba_fl.report.sections.fairer import fairer
from celeba_fl.report.sections.groups import groups
from celeba_fl.report.sections.membership import membership
from celeba_fl.report.sections.outliers import outliers
from celeba_fl.report.sections.privacy import privacy
from celeba_fl.report.sections.probabilities import probabilities
from celeba_fl.report.sections.results import results
from celeba_fl.report.sections.samples import samples
from celeba_fl.report.sections.tables import foundations, settings, task_tables
from celeba_fl.report.words import without_folders

Build = Callable[[Run], Sequence[Block]]
# In their order; one without blocks is left out.
SECTIONS: Mapping[str, Build] = {
    "Results": results,
    "Privacy": privacy,
    "Learning curves": curves,
    "Generated pictures": samples,
    "Attributes": attributes,
    "Mistakes and hits": faces,
    "Probabilities": probabilities,
    "Before and after": corrections,
    "Who holds which data": partitions,
    "Groups": groups,
    "Fairer heads": fairer,
    "Clients": clients,
    "Joined and withdrawn": membership,
    "Contributions": contributions,
    "Clients that stand out": outliers,
    "Failures": failures,
    "Tables of the task": task_tables,
    "Settings": settings,
    "What the figures rest on": foundations,
}


def write_report(path: Path, png: bool = False, people: bool = False) -> Path:
    """Write `report.html` and `plots/` into a run directory, whatever state the run is in.

    Charts lie in `plots/` as SVG; with `png`, as PNG too. With `people`, the page shows faces also
    of people, and not only drawn ones.
    """
    run = Run.read(path)
    first = {"Failures": failures} if run.info.status == "failed" else {}
    parts: dict[str, Build] = {**first, **SECTIONS}
    parts["Mistakes and hits"] = partial(faces, asked=people)
    built = build_sections(parts, run, path / "plots", png)
    front, sections = take_front(built, run.last_round)
    page = Page(
        title=title_of(run),
        subtitle=subtitle_of(run),
        status=run.info.status,
        lede=without_folders(lede(run)),
        notes=[*map(without_folders, notes(run))],
        front=front,
        sections=sections,
        intervals=run.scores is not None,
    )
    write_bytes(path / "report.html", page.render().encode())
    return path / "report.html"
