"""A run, live: how far it is, and all that its report says, as soon as it is in its files."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from celeba_fl.dashboard import jobs, watching
from celeba_fl.dashboard.all_runs import progress_of, status
from celeba_fl.dashboard.blocks import live, part, plain, show, show_chart
from celeba_fl.dashboard.managing import LOG, show_actions, show_log
from celeba_fl.launch.app import app_here
from celeba_fl.report.gaps import ODDS, against_chance, compared, standing
from celeba_fl.report.heading import notes, title_of
from celeba_fl.report.lede import lede
from celeba_fl.report.names import name_of
from celeba_fl.report.pictures.attributes import group_rates
from celeba_fl.report.pictures.curves import client_curves
from celeba_fl.report.reading import MOST_CLIENTS, Run, bounds, floats, number, rows_of
from celeba_fl.report.sections.attributes import attributes
from celeba_fl.report.sections.clients import clients, partitions
from celeba_fl.report.sections.corrections import corrections
from celeba_fl.report.sections.curves import curves
from celeba_fl.report.sections.failures import failures
from celeba_fl.report.sections.fairer import fairer
from celeba_fl.report.sections.groups import groups
from celeba_fl.report.sections.outliers import outliers
from celeba_fl.report.sections.privacy import privacy
from celeba_fl.report.sections.probabilities import probabilities
from celeba_fl.report.sections.results import results
from celeba_fl.report.sections.tables import foundations, settings, task_tables
from celeba_fl.report.words import figure, named, sentence
from celeba_fl.rounds.outliers import COSINE, NORM
from celeba_fl.runs.reading import progress, served

EVERY = 0.5  # seconds; as long as nothing is new, a look costs a tenth of a millisecond
# Seconds between two drawings of the whole page, however quick rounds are: else its charts flicker,
# and what is pressed slips away.
REST = 2.0
PHASES = {
    "query": "asking who is here",
    "train": "evaluating the last model, then training",
    "evaluate": "evaluating",
}
MOST_HIGHLIGHTED = 7  # colours
SERVED = ("valid_accuracy", "valid_loss", "train_loss", "local_loss")
MANY = f" {MOST_CLIENTS} of them have a line of their own here, and any that is highlighted."
LATER = ["This is measured at the end of the run."]


def show_page() -> None:
    """The page."""
    # While it is drawn, nothing draws it anew: on a slow machine with quick rounds, it would never
    # come to its end.
    st.session_state.drawn = None
    began = time.monotonic()
    _show()
    st.session_state.drawn = began, time.monotonic()


def _show() -> None:
    folder = app_here().places().runs_dir
    paths = watching.directories(folder)
    heading = st.container()
    if not paths:
        heading.title("A run")
        st.info(plain(f"There is no run in {folder} yet. Start one on the page Devices."))
        return
    path = folder / _choose(
        [path.name for path in paths], lambda name: watching.label(folder / name)
    )
    live("The state of the run", EVERY, _now, path, _version(path))
    run = watching.watch(path)
    with part("The title"):
        heading.title(plain(title_of(run)))
    show_actions(run.info)
    if run.info.status == "unreadable":
        return
    with part("The run in a sentence"):
        st.markdown(plain(lede(run)))
    with part("The notes"):
        if warnings := notes(run):
            st.info(plain(" ".join(warnings)))
    empty = {"Images": not _samples(path), "Tables": not run.tables}
    empty["Log"] = not (path / LOG).exists()
    empty["Failures"] = not failures(run)
    empty["Probabilities"] = not run.calibration
    empty["Privacy"] = not run.privacy
    over = run.info.status != "running"  # else they may be still to come
    empty["Attributes"], empty["Groups"] = over and not run.attributes, over and not run.groups
    empty["Before and after"] = not (run.corrections or run.teacher)
    parts = [title for title in PARTS if not empty.get(title)]
    chosen = st.segmented_control("Show", parts, default=parts[0], required=True, key="part")
    with part(str(chosen)):
        PARTS[str(chosen)](run)


def _choose(names: list[str], say: Callable[[str], str]) -> str:
    """The run that the address names, which the choice changes: it can be shared and kept."""
    wanted = st.query_params.get("run", names[0])
    if wanted not in names:
        st.warning(plain(f"There is no run {wanted} here; this is the newest one."))
        wanted = names[0]
    st.query_params["run"] = st.session_state.run = wanted

    def follow() -> None:
        st.query_params["run"] = st.session_state.run

    return st.selectbox("Run", names, format_func=say, key="run", on_change=follow)


def _now(path: Path, shown: tuple[Any, ...]) -> None:
    """How the run stands, every half second; then the page anew, if there is more to show."""
    newest = _version(path)
    info = watching.look(path)
    # The sentence below has the reason; of a run that cannot be read, there is none.
    stands = info if info.status == "unreadable" else replace(info, reason="")
    st.markdown(f"**{plain(status(stands))}** · {plain(path.name)}")
    share, rounds = progress_of(info)
    if share is not None:
        st.progress(share, f"{rounds} rounds")
    if info.status == "running":
        st.markdown(plain(_exchange(path)))
    if door := served(path):
        st.markdown(
            f"Open to more clients, now {plain(str(door.get('state')))}: "
            f"{plain(str(door.get('clients')))} are in the model, and "
            f"{plain(str(door.get('online')))} of them are online."
        )
    drawn = st.session_state.drawn
    if newest != shown and drawn and due(newest, shown, drawn[0], drawn[1], time.monotonic()):
        st.rerun()


def due(
    newest: tuple[Any, ...], shown: tuple[Any, ...], began: float, ended: float, now: float
) -> bool:
    """Whether to draw the page anew, which was last drawn from `began` to `ended`.

    It rests for a while, and as long as drawing it takes. What the run does and what it was asked
    for, which buttons depend on, is shown at once.
    """
    urgent = (newest[0], newest[-1]) != (shown[0], shown[-1])
    return urgent or now - ended >= max(REST, ended - began)


def _version(path: Path) -> tuple[Any, ...]:
    """Differs once there is something new to show, or something else to press."""
    return (*watching.version(path), jobs.asked(watching.look(path)))


def _exchange(path: Path) -> str:
    """The exchange in progress, in words."""
    now = progress(path)
    if now is None:
        return "Preparing: data, weights and features are looked up or made."
    if now.under_way is not None:
        return (
            f"Version {now.round - 1}: {now.replied} of {now.asked} answers for the next one are "
            f"here, {now.failed} failed, and {now.under_way} clients are at work."
        )
    return (
        f"Round {now.round}, {PHASES.get(now.phase, now.phase)}: {now.replied} of {now.asked} "
        f"clients have answered, {now.failed} failed, {max(time.time() - now.since, 0):.0f} s "
        f"since they were asked."
    )


def _learning(run: Run) -> None:
    """Headline figures, and how they were reached."""
    cards, *figures = results(run)
    show([cards], "results")
    show(curves(run), "curves")
    if figures:
        with st.expander("All figures beside their reference points"):
            show(figures, "figures")


def _clients(run: Run) -> None:
    """Curves of each client, and how they are served."""
    columns = {
        column: name_of(column.replace("valid_", "validation ").replace("train_", "train "))
        for column in (*SERVED, NORM, COSINE)
        if any(row.get(column) for row in run.clients)
    }
    if not columns:
        st.markdown("No client has been evaluated yet.")
        return
    names = list(dict.fromkeys(row["client"] for row in run.clients))
    left, right = st.columns(2)
    column = left.selectbox(
        "Curves of", list(columns), format_func=columns.__getitem__, key="column"
    )
    chosen = right.multiselect(
        "Highlight clients", names, max_selections=MOST_HIGHLIGHTED, key="highlighted"
    )
    last = max(int(row["round"]) for row in run.clients if row.get(column))
    ends = {r["client"]: r for r in run.clients if int(r["round"]) == last and r.get(column)}
    values = floats(list(ends.values()), column)
    median, low, high = map(figure, (float(np.median(values)), values.min(), values.max()))
    highlighted = [
        f"client {name} {figure(number(ends[name], column))}" for name in chosen if name in ends
    ]
    summary = (
        f"{sentence(columns[column])} of {len(names)} clients by round; after round {last} the "
        f"median is {median}, from {low} to {high}"
        f"{''.join(f'; {one}' for one in highlighted)}."
        f"{MANY if len(names) > MOST_CLIENTS else ''}"
    )
    drawn = client_curves(run.clients, column, set(chosen))
    show_chart(drawn, f"Line chart: {summary}", summary, "client-curves")
    show([*clients(run), *outliers(run)], "clients")


def _groups(run: Run) -> None:
    """Any attribute in the groups of any grouping; then what the report says."""
    rates = rows_of(run.groups)
    if not rates:
        show(groups(run) or LATER, "groups")
        return
    groupings = list(dict.fromkeys(row["grouping"] for row in rates))
    left, right = st.columns(2)
    grouping = left.selectbox("Compare by", groupings, format_func=named, key="grouping")
    rows = [row for row in rates if row["grouping"] == grouping]
    names = sorted({row["attribute"] for row in rows})
    fairness = [r for r in rows_of(run.fairness) if r["grouping"] == grouping]
    gaps, known = {r["attribute"]: r for r in fairness}, compared(fairness, rates)
    first = names.index(known[0]["attribute"]) if known else 0
    attribute = right.selectbox("Attribute", names, first, format_func=named, key="attribute")
    shown = [row for row in rows if row["attribute"] == attribute]
    gap = gaps.get(attribute, {})
    value, low, high = map(figure, (number(gap, ODDS), *bounds(gap, ODDS)))
    title = f"{named(attribute)} by {named(grouping)}"
    against = against_chance(gap, ODDS)
    if gap and gap not in known:
        against = f"not compared: {standing(gap, rates)}"
    summary = (
        f"{title}: true and false positive rates with 95 % intervals; the equalized odds "
        f"difference is {value}, between {low} and {high}{against and f' ({against})'}."
    )
    drawn = group_rates([(named(attribute), shown)])
    show_chart(drawn, f"Dot chart: {summary}", summary, "rates")
    show([*groups(run), *fairer(run)], "groups")


def _samples(path: Path) -> list[Path]:
    """Grids of generated images, the oldest first."""
    return sorted((path / "samples").glob("*.png"))


def _images(run: Run) -> None:
    """A grid of generated images: the newest, or one before it."""
    found = {grid.stem.replace("-", " "): grid for grid in _samples(run.path)}
    names = list(found)
    name = names[-1]
    if len(names) > 1:
        name = st.select_slider("Images after", names, names[-1], key=f"images-{len(names)}")
    st.image(
        found[name].read_bytes(), plain(name), alt=f"Grid of images that the model made, {name}"
    )


PARTS: Mapping[str, Callable[[Run], None]] = {
    "Learning": _learning,
    "Privacy": lambda run: show(privacy(run), "privacy"),
    "Clients": _clients,
    "Failures": lambda run: show(failures(run), "failures"),
    "Data": lambda run: show(partitions(run), "data"),
    "Attributes": lambda run: show(attributes(run) or LATER, "attributes"),
    "Probabilities": lambda run: show(probabilities(run), "probabilities"),
    "Groups": _groups,
    "Before and after": lambda run: show(corrections(run), "corrections"),
    "Images": _images,
    "Tables": lambda run: show(task_tables(run), "tables"),
    "Log": lambda run: show_log(run.path),
    "Settings": lambda run: show([*settings(run), *foundations(run)], "settings"),
}
