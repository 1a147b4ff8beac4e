"""Several runs laid over each other: their curves, and the settings that tell them apart."""

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from celeba_fl.common.keys import written
from celeba_fl.dashboard import watching
from celeba_fl.dashboard.blocks import plain, show_chart
from celeba_fl.report.names import PARTS, first_metrics, name_of
from celeba_fl.report.pictures.curves import MINUTES, compared_rounds
from celeba_fl.report.reading import Run
from celeba_fl.report.words import UNKNOWN
from celeba_fl.runs.names import differing

MOST_SMOOTHED = 0.95


def show_overlay(paths: Sequence[Path]) -> None:
    """The curves of these runs, as they are or smoothed, by round or by time."""
    names = [watching.look(path).name for path in paths]
    runs = {
        name if names.count(name) == 1 else watching.label(path): watching.watch(path, whole=False)
        for path, name in zip(paths, names, strict=True)
    }
    for name, run in runs.items():
        if not run.rounds:
            why = "; ".join(run.problems) or run.info.standing
            st.warning(plain(f"{name} has no rounds to draw: {why}"))
    drawn = {name: run for name, run in runs.items() if run.rounds}
    if not drawn:
        return
    _settings(drawn)
    metrics = list(dict.fromkeys(name for run in drawn.values() for name in run.metric_names()))
    left, right = st.columns(2)
    first = first_metrics(metrics, 2)
    chosen = left.multiselect("Metrics", metrics, first, format_func=name_of, key="metrics")
    where = right.selectbox("Measured on", list(PARTS), 3, format_func=PARTS.__getitem__, key="on")
    by = left.segmented_control("By", ["round", MINUTES], default="round", required=True, key="by")
    smoothing = right.slider("Smoothing", 0.0, MOST_SMOOTHED, 0.0, 0.05, key="smoothing")
    columns = st.columns(2)
    for number, metric in enumerate(chosen):
        with columns[number % 2]:
            _compare(drawn, where, metric, str(by), smoothing)


def _settings(runs: dict[str, Run]) -> None:
    """A row for each setting that is not the same in all of them."""
    configs = {name: run.info.config for name, run in runs.items()}
    rows = [
        {
            "setting": key,
            **{name: written(config.get(key, UNKNOWN)) for name, config in configs.items()},
        }
        for key in differing(list(configs.values()))
    ]
    if rows:
        st.dataframe(rows, hide_index=True, alt="Settings in which these runs differ")
    else:
        st.markdown("All settings are the same.")


def _compare(runs: dict[str, Run], where: str, metric: str, by: str, smoothing: float) -> None:
    rows = {name: run.rounds for name, run in runs.items()}
    ends = [
        f"{name}: {float(run.rounds[-1][column]):.3f} after round {run.last_round}"
        for name, run in runs.items()
        if run.rounds[-1].get(column := f"{where}_{metric}")
    ]
    what = f"{name_of(metric)}, {PARTS[where]}"
    smooth = f" Curves are smoothed by {smoothing:g}; these figures are not." if smoothing else ""
    show_chart(
        compared_rounds(rows, where, metric, by, smoothing),
        f"Line chart of {what} of {len(runs)} runs by {by}.",
        f"{what}. {'; '.join(ends) or 'Not measured'}.{smooth}",
        f"over-{metric}",
    )
