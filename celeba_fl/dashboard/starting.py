"""The next run, started, and what becomes of it."""

import json
from pathlib import Path

import streamlit as st

from celeba_fl.common.errors import InputError
from celeba_fl.dashboard import jobs, watching
from celeba_fl.dashboard.all_runs import status
from celeba_fl.dashboard.blocks import plain
from celeba_fl.dashboard.managing import folder
from celeba_fl.launch.app import app_here
from celeba_fl.launch.experiments import EXPERIMENTS, read_experiment


def show_start(connection: str, federation: Path | None, clients: list[str] | None) -> None:
    """An experiment, its settings, and the button."""
    ours = sorted(path.stem for path in EXPERIMENTS.glob("*.toml"))
    experiment = st.selectbox(
        "Experiment",
        ours,
        ours.index("drawn-iid") if "drawn-iid" in ours else 0,
        accept_new_options=True,
        help="one of ours, or the path of a TOML file of run-config keys",
        key="experiment",
        persist_state="session",
    )
    text = st.text_area(
        "Settings that override it, one key=value a line",
        key="settings",
        persist_state="session",
        placeholder="num-server-rounds=5",
        height=100,
    )
    pressed = st.button(
        "Start the run", type="primary", icon=":material/play_arrow:", disabled=clients == []
    )
    if clients == []:
        st.markdown("Switch some clients on first.")
    if pressed:
        pairs = [line.strip() for line in text.splitlines() if line.strip()]
        words = command(experiment, pairs, clients)
        where = [connection] if federation is None else ["--federation", str(federation)]
        jobs.start(folder(), [*words, *where])


def command(experiment: str, pairs: list[str], clients: list[str] | None) -> list[str]:
    """The words of `celeba-fl run`, its settings checked.

    Raises
    ------
    InputError
        If a setting, or the experiment, would be refused, or if it chooses clients, too.
    """
    wrong = next((pair for pair in pairs if "=" not in pair), None)
    if wrong:
        raise InputError(f"{wrong!r}: settings are written key=value")
    pairs = ["=".join(word.strip() for word in pair.split("=", 1)) for pair in pairs]
    settings = read_experiment(experiment, pairs)
    if settings.get("clients"):
        raise InputError(
            f"clients = {settings['clients']!r}: they are chosen with the switches here; take it "
            f"out of the settings, or of {experiment}"
        )
    if clients:
        pairs = [*pairs, f"clients={json.dumps(','.join(clients), ensure_ascii=False)}"]
    app_here().load(read_experiment(experiment, pairs))
    return [experiment, *pairs]


def show_last() -> None:
    """The last start, in the words of its log."""
    job = jobs.last_job(folder())
    if job is None:
        return
    st.header("The last start")
    st.code(job.command, language=None, wrap_lines=True)
    if job.run and job.run in watching.directories(app_here().places().runs_dir):
        st.markdown(f"{plain(status(watching.look(job.run)))} · {plain(job.run.name)}")
        if st.button("Watch this run", icon=":material/monitoring:"):
            st.switch_page(st.session_state.pages["one"], query_params={"run": job.run.name})
    elif job.run:
        st.markdown(plain(f"Its run directory is {job.run}, which this dashboard does not show."))
    elif job.alive:
        st.markdown("It is being started; the first run on a machine takes longest.")
    else:
        st.error("It has ended before there was a run directory; its log says why.")
    with st.expander("Log", expanded=not job.alive and job.run is None):
        st.code(job.text or "Nothing yet.", language=None, wrap_lines=True, height=240)
        st.caption(plain(job.log))
