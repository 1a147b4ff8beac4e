"""A run, live: how far it is, and all that its report says, as soon as it is in its files."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from celeba_fl.config import RunConfig
from celeba_fl.dashboard import charts, watching
from celeba_fl.dashboard.all_runs import EVERY, label, status
from celeba_fl.dashboard.blocks import Charts, part, plain, show, show_chart
from celeba_fl.report import page
from celeba_fl.report.groups import groups
from celeba_fl.report.html import figure, named, sentence
from celeba_fl.report.reading import Run, floats, name_of, rows_of
from celeba_fl.report.results import results

PHASES = {"query": "asking who is here", "train": "training", "evaluate": "evaluating"}
MOST_HIGHLIGHTED = 7  # colours


def show_page() -> None:
    """The page."""
    folder = RunConfig.load().runs_dir
    paths = watching.directories(folder)
    heading = st.container()
    if not paths:
        heading.title("A run")
        st.info(plain(f"There is no run in {folder} yet. Start one on the page Devices."))
        return
    name = st.selectbox(
        "Run",
        [path.name for path in paths],
        format_func=lambda name: label(folder / name),
        key="run",
        bind="query-params",
    )
    path = folder / name
    with part("The state of the run"):
        st.fragment(run_every=EVERY)(_now)(path, watching.version(path))
    run = watching.watch(path)
    with part("The title"):
        heading.title(plain(sentence(page.title_of(run))))
    if run.info["status"] == "unreadable":
        return
    with part("The notes"):
        if notes := page.notes(run):
            st.info(plain(" ".join(notes)))
    album = Charts()
    parts: Mapping[str, Callable[[], None]] = {
        "Learning": partial(_learning, run, album),
        "Clients": partial(_clients, run, album),
        "Data": lambda: show(page.partitions(run, album), "data"),
        "Attributes": lambda: show(page.attributes(run, album) or _later(), "attributes"),
        "Groups": partial(_groups, run, album),
        "Images": partial(_images, path),
        "Settings": lambda: show([*page.settings(run), *page.foundations(run)], "settings"),
    }
    if not _samples(path):
        parts = {title: build for title, build in parts.items() if title != "Images"}
    chosen = st.segmented_control(
        "Show", list(parts), default="Learning", required=True, key="part"
    )
    with part(str(chosen)):
        parts[str(chosen)]()


def _now(path: Path, shown: tuple[Any, ...]) -> None:
    """How the run stands; drawn again every second, the page only when there is more to show."""
    if watching.version(path) != shown:
        st.rerun()
    info = watching.look(path)
    st.markdown(f"**{plain(status(info))}** · {plain(path.name)}")
    done, total = info.get("rounds"), info["config"].get("num-server-rounds")
    if not isinstance(done, int) or not isinstance(total, int) or total < 1:
        return
    st.progress(min(done / total, 1.0), f"{done} of {total} rounds")
    now = watching.waiting(path)
    if info["status"] != "running":
        return
    if now is None:
        st.markdown("Preparing: data, weights and features are looked up or made.")
        return
    what = PHASES.get(now.phase, now.phase)
    st.markdown(
        plain(
            f"Round {now.round}, {what}: {now.replied} of {now.asked} clients have answered, "
            f"{now.failed} failed, {max(time.time() - now.since, 0):.0f} s since they were asked."
        )
    )


def _learning(run: Run, album: Charts) -> None:
    show(results(run)[:1], "results")
    show(page.curves(run, album), "curves")
    with st.expander("All figures beside their reference points"):
        show(results(run)[1:], "figures")


def _clients(run: Run, album: Charts) -> None:
    """Curves of each client, and how they are served."""
    columns = {
        column: name_of(column.replace("valid_", "validation ").replace("train_", "train "))
        for column in ("valid_accuracy", "valid_loss", "train_loss", "local_loss")
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
    said = [
        f"client {name} {figure(floats([ends[name]], column)[0])}"
        for name in chosen
        if name in ends
    ]
    summary = (
        f"{sentence(columns[column])} of {len(names)} clients by round; after round {last} the "
        f"median is {median}, from {low} to {high}"
        f"{''.join(f'; {one}' for one in said)}."
    )
    drawn = charts.client_curves(run.clients, column, set(chosen))
    show_chart(drawn, f"Line chart: {summary}", summary, "client-curves")
    show(page.clients(run, album), "clients")


def _groups(run: Run, album: Charts) -> None:
    """Any attribute in the groups of any grouping; then what the report says."""
    rates = rows_of(run.groups)
    if not rates:
        show(groups(run, album) or _later(), "groups")
        return
    groupings = list(dict.fromkeys(row["grouping"] for row in rates))
    left, right = st.columns(2)
    grouping = left.selectbox("Compare by", groupings, format_func=named, key="grouping")
    rows = [row for row in rates if row["grouping"] == grouping]
    names = sorted({row["attribute"] for row in rows})
    gaps = {r["attribute"]: r for r in rows_of(run.fairness) if r["grouping"] == grouping}
    widest = max(names, key=lambda n: np.nan_to_num(_gap(gaps.get(n, {}), "_low"), nan=-1.0))
    attribute = right.selectbox(
        "Attribute", names, names.index(widest), format_func=named, key="attribute"
    )
    shown = [row for row in rows if row["attribute"] == attribute]
    gap = gaps.get(attribute, {})
    value, low, high = (figure(_gap(gap, end)) for end in ("", "_low", "_high"))
    title = f"{named(attribute)} by {named(grouping)}"
    summary = (
        f"{title}: true and false positive rates with 95 % intervals; the equalized odds "
        f"difference is {value}, between {low} and {high}."
    )
    drawn = charts.group_rates([(named(attribute), shown)])
    show_chart(drawn, f"Dot chart: {summary}", summary, "rates")
    show(groups(run, album), "groups")


def _gap(row: Mapping[str, str], end: str) -> float:
    return float(floats([row], f"equalized_odds_difference{end}")[0])


def _samples(path: Path) -> list[Path]:
    """Grids of generated images, the oldest first."""
    return sorted((path / "samples").glob("*.png"))


def _images(path: Path) -> None:
    """A grid of generated images: the newest, or one before it."""
    found = {grid.stem.replace("-", " "): grid for grid in _samples(path)}
    names = list(found)
    name = names[-1]
    if len(names) > 1:
        name = st.select_slider("Images after", names, names[-1], key=f"images-{len(names)}")
    st.image(found[name].read_bytes(), name, alt=f"Grid of images that the model made, {name}")


def _later() -> list[str]:
    return ["This is measured at the end of the run."]
