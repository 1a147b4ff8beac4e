"""The report of a run: `report.html` and `plots/` in its directory, made from its files alone."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from celeba_fl.common.files import write_bytes
from celeba_fl.report.heading import notes, subtitle_of, title_of
from celeba_fl.report.html import Block, Page
from celeba_fl.report.plots import build_sections
from celeba_fl.report.reading import Run
from celeba_fl.report.sections.attributes import attributes
from celeba_fl.report.sections.clients import clients, partitions
from celeba_fl.report.sections.contributions import contributions
from celeba_fl.report.sections.corrections import corrections
from celeba_fl.report.sections.curves import curves
from celeba_fl.report.sections.failures import failures
from celeba_fl.report.sections.fairer import fairer
from celeba_fl.report.sections.groups import groups
from celeba_fl.report.sections.outliers import outliers
from celeba_fl.report.sections.privacy import privacy
from celeba_fl.report.sections.probabilities import probabilities
from celeba_fl.report.sections.results import results
from celeba_fl.report.sections.samples import samples
from celeba_fl.report.sections.tables import foundations, settings, task_tables

# In their order; one without blocks is left out.
SECTIONS: Mapping[str, Callable[[Run], Sequence[Block]]] = {
    "Results": results,
    "Privacy": privacy,
    "Learning curves": curves,
    "Generated pictures": samples,
    "Attributes": attributes,
    "Probabilities": probabilities,
    "Before and after": corrections,
    "Who holds which data": partitions,
    "Groups": groups,
    "Fairer heads": fairer,
    "Clients": clients,
    "Contributions": contributions,
    "Clients that stand out": outliers,
    "Failures": failures,
    "Tables of the task": task_tables,
    "Settings": settings,
    "What the figures rest on": foundations,
}


def write_report(path: Path, png: bool = False) -> Path:
    """Write `report.html` and `plots/` into a run directory, whatever state the run is in.

    Charts lie in `plots/` as SVG; with `png`, as PNG too.
    """
    run = Run.read(path)
    first = {"Failures": failures} if run.info.status == "failed" else {}
    page = Page(
        title=title_of(run),
        subtitle=subtitle_of(run),
        status=run.info.standing,
        notes=notes(run),
        sections=build_sections({**first, **SECTIONS}, run, path / "plots", png),
    )
    write_bytes(path / "report.html", page.render().encode())
    return path / "report.html"
