"""All runs, as they go: what they are, how far, how good; and several laid over each other."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import streamlit as st

from celeba_fl.dashboard import jobs, watching
from celeba_fl.dashboard.blocks import live, part, plain
from celeba_fl.dashboard.overlay import show_overlay
from celeba_fl.launch.app import app_here
from celeba_fl.report.heading import partitioning
from celeba_fl.report.lede import subject
from celeba_fl.report.names import name_of
from celeba_fl.runs.reading import RunInfo
from celeba_fl.runs.tables import read_csv

EVERY = 1.0  # seconds
MARKS = {
    "running": "▶",
    "completed": "✔",
    "stopped": "■",
    "failed": "✖",
    "interrupted": "‖",
    "unreadable": "?",
    "stopping": "■",
    "resuming": "▶",
}
SWEEP_WIDTH = 640  # of a picture, where the window has it
# Of the final model, or of the latest one.
SHOWN = ("balanced_accuracy", "auroc", "accuracy")


def show_page() -> None:
    """The page."""
    st.title("Runs")
    folder = app_here().places().runs_dir
    st.caption(plain(f"Run directories in {folder}"))
    left, right = st.columns([2, 3])
    words = left.text_input("Search", key="search", placeholder="a name, a strategy, failed ...")
    live("The list of runs", EVERY, _list, folder, words)
    paths = watching.directories(folder)
    if len(paths) > 1:
        laid = right.multiselect(
            "Lay runs over each other",
            [path.name for path in paths],
            format_func=lambda name: watching.label(folder / name),
            key="laid",
            placeholder="Choose two or more",
        )
        if len(laid) > 1:
            live("The comparison", EVERY, show_overlay, [folder / name for name in laid])
    with part("The sweeps"):
        _sweeps(app_here().places().home_dir / "sweeps")


def status(info: RunInfo) -> str:
    """How a run stands, with a mark besides the word."""
    word = jobs.asked(info) or info.standing
    return f"{MARKS.get(word, MARKS.get(info.status, ''))} {word}".strip()


def progress_of(info: RunInfo) -> tuple[float | None, str]:
    """How far a run is, from 0 to 1, and its rounds in words."""
    done, total = info.rounds, info.config.get("num-server-rounds")
    if not isinstance(done, int) or not isinstance(total, int) or total < 1:
        return None, ""
    if info.status == "completed" and done < total:  # a closed form needs one
        return 1.0, f"{done} of at most {total}"
    return min(round(done / total, 2), 1.0), f"{done} of {total}"


def _list(folder: Path, words: str) -> None:
    paths = watching.directories(folder)
    if left_out := watching.nameless(folder):
        st.warning(f"Not shown, since their names cannot be: {left_out}.")
    if not paths:
        st.info(
            "There is no run yet. Start one on the page Devices, or with "
            "`celeba-fl run drawn-iid`; it is listed here within a second."
        )
        return
    every = [_row(path) for path in paths]
    rows = [row for row in every if _found(row, words)]
    running = sum(row["status"].startswith(MARKS["running"]) for row in every)
    found = f" {len(rows)} are shown." if len(rows) < len(every) else ""
    st.markdown(f"{len(every)} run{'s' * (len(every) != 1)}, {running} running.{found}")
    pressed = st.dataframe(
        rows,
        hide_index=True,
        alt="All runs, the newest first",
        on_select="rerun",
        selection_mode="single-cell",
        key="rows",
        column_config={
            "status": st.column_config.TextColumn(width=110),  # its reason is on the run's page
            "done": st.column_config.ProgressColumn(
                min_value=0, max_value=1, format="percent", width=110
            ),
            **{name_of(metric): st.column_config.NumberColumn(format="%.3f") for metric in SHOWN},
        },
    )
    for number, _ in pressed.selection.cells:
        if number < len(rows):
            run = rows[number]["directory"]
            st.switch_page(st.session_state.pages["one"], query_params={"run": run})
    st.caption("Press a row to open its run.")


def _found(row: Mapping[str, Any], words: str) -> bool:
    """Whether each word is somewhere in a row."""
    text = " ".join(map(str, row.values())).casefold()
    return all(word in text for word in words.casefold().split())


def _sweeps(folder: Path) -> None:
    """The grids of `celeba-fl sweep`, as pictures."""
    for table in sorted(folder.glob("*/sweep.csv")):
        with st.expander(plain(f"Sweep {table.parent.name}")):
            picture = table.with_suffix(".png")
            if picture.exists():
                what = f"The metric that ranks the sweep {table.parent.name}, by its settings"
                st.image(picture.read_bytes(), width=SWEEP_WIDTH, alt=what)
            st.dataframe(read_csv(table), hide_index=True, alt=f"Sweep {table.parent.name}")


def _row(path: Path) -> dict[str, Any]:
    info = watching.look(path)
    config = info.config
    share, rounds = progress_of(info)
    figures: dict[str, float] = {}
    if config:
        with suppress(ValueError, TypeError, KeyError):  # of somebody else's files
            figures = watching.watch(path, whole=False).results().values
    return {
        "status": status(info),
        "run": info.name,
        "started": watching.when(path.name),
        "done": share,
        "rounds": rounds,
        **{name_of(metric): figures.get(metric) for metric in SHOWN},
        "task": subject(config)[0] if config else "",
        "dataset": str(config.get("dataset", "")),
        "who holds what": partitioning(config) if config else "",
        "strategy": str(config.get("strategy", "")),
        "clients": str(info.num_clients or ""),
        "directory": path.name,
    }
