"""All runs, as they go: what they are, how far, how good; and several laid over each other."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import streamlit as st

from celeba_fl.dashboard import watching
from celeba_fl.dashboard.blocks import live, plain, show_chart
from celeba_fl.launch.app import app_here
from celeba_fl.report.heading import partitioning
from celeba_fl.report.names import PARTS, first_metrics, name_of
from celeba_fl.report.pictures.curves import compared_rounds
from celeba_fl.report.reading import Run
from celeba_fl.runs.reading import RunInfo

EVERY = 1.0  # seconds
MARKS = {
    "running": "▶",
    "completed": "✔",
    "stopped": "■",
    "failed": "✖",
    "interrupted": "⏸",
    "unreadable": "?",
}
# Of the final model, or of the latest one.
SHOWN = ("balanced_accuracy", "auroc", "accuracy")


def show_page() -> None:
    """The page."""
    st.title("Runs")
    folder = app_here().places().runs_dir
    st.caption(plain(f"Run directories in {folder}"))
    live("The list of runs", EVERY, _list, folder)
    paths = watching.directories(folder)
    if not paths:
        return
    names = st.multiselect(
        "Choose a run to open it, several to lay them over each other",
        [path.name for path in paths],
        format_func=lambda name: label(folder / name),
        key="laid",
        placeholder="Choose runs",
    )
    if len(names) == 1:
        if st.button("Open this run", type="primary", icon=":material/monitoring:"):
            st.switch_page(st.session_state.pages["one"], query_params={"run": names[0]})
    elif names:
        live("The comparison", EVERY, _overlay, [folder / name for name in names])


def label(path: Path) -> str:
    """A run in a list to choose from: no other's, and the same all along, as Streamlit needs."""
    info = watching.look(path)
    return path.name if info.name == path.name else f"{info.name} · {when(path.name)}"


def when(name: str) -> str:
    """A run's directory in short: when it started, and the last digits of Flower's id."""
    ours = re.fullmatch(r"(\d{4}-\d\d-\d\d)_(\d\d)-(\d\d)-(\d\d)_\d*?(\d{1,4})", name)
    return "{} {}:{}:{} …{}".format(*ours.groups()) if ours else name


def status(info: RunInfo) -> str:
    """How a run stands, with a mark besides the word."""
    return f"{MARKS.get(info.status, '')} {info.standing}".strip()


def _list(folder: Path) -> None:
    paths = watching.directories(folder)
    if left_out := watching.nameless(folder):
        st.warning(f"Not shown, since their names cannot be: {left_out}.")
    if not paths:
        st.info(
            "There is no run yet. Start one on the page Devices, or with "
            "`celeba-fl run drawn-iid`; it is listed here within a second."
        )
        return
    rows = [_row(path) for path in paths]
    running = sum(row["status"].startswith(MARKS["running"]) for row in rows)
    st.markdown(f"{len(rows)} run{'s' * (len(rows) != 1)}, {running} running.")
    st.dataframe(
        rows,
        hide_index=True,
        alt="All runs, the newest first",
        column_config={
            "done": st.column_config.ProgressColumn(
                min_value=0, max_value=1, format="percent", width=110
            ),
            **{name_of(metric): st.column_config.NumberColumn(format="%.3f") for metric in SHOWN},
        },
    )


def _row(path: Path) -> dict[str, Any]:
    info = watching.look(path)
    config = info.config
    done, total = info.rounds, config.get("num-server-rounds")
    share = done / total if isinstance(done, int) and isinstance(total, int) and total else None
    figures: dict[str, float] = {}
    if config:
        with suppress(ValueError, TypeError, KeyError):  # of somebody else's files
            figures = watching.watch(path, whole=False).results().values
    return {
        "run": info.name,
        "started": when(path.name),
        "status": status(info),
        "done": share,
        "rounds": "" if share is None else f"{done} of {total}",
        **{name_of(metric): figures.get(metric) for metric in SHOWN},
        "task": str(config.get("task", "")),
        "dataset": str(config.get("dataset", "")),
        "who holds what": partitioning(config) if config else "",
        "strategy": str(config.get("strategy", "")),
        "clients": str(info.num_clients or ""),
        "directory": path.name,
    }


def _overlay(paths: Sequence[Path]) -> None:
    runs = {label(path): watching.watch(path, whole=False) for path in paths}
    for name, run in runs.items():
        if not run.rounds:
            why = "; ".join(run.problems) or run.info.standing
            st.warning(plain(f"{name} has no rounds to draw: {why}"))
    drawn = {name: run for name, run in runs.items() if run.rounds}
    if not drawn:
        return
    metrics = list(dict.fromkeys(name for run in drawn.values() for name in run.metric_names()))
    left, right = st.columns(2)
    first = first_metrics(metrics, 2)
    chosen = left.multiselect("Metrics", metrics, first, format_func=name_of, key="metrics")
    where = right.selectbox("Measured on", list(PARTS), 3, format_func=PARTS.__getitem__, key="on")
    columns = st.columns(2)
    for number, metric in enumerate(chosen):
        with columns[number % 2]:
            _compare(drawn, where, metric)


def _compare(runs: dict[str, Run], where: str, metric: str) -> None:
    rows = {name: run.rounds for name, run in runs.items()}
    ends = [
        f"{name}: {float(run.rounds[-1][column]):.3f} after round {run.last_round}"
        for name, run in runs.items()
        if run.rounds[-1].get(column := f"{where}_{metric}")
    ]
    what = f"{name_of(metric)}, {PARTS[where]}"
    show_chart(
        compared_rounds(rows, where, metric),
        f"Line chart of {what} over the rounds of {len(runs)} runs.",
        f"{what}. {'; '.join(ends) or 'Not measured'}.",
        f"over-{metric}",
    )
