"""What can be done with a run: stopped, resumed, named, deleted, and its files taken away.

Each is asked once more before it happens, in a small window that opens at its button.
"""

import shutil
from pathlib import Path

import streamlit as st

from celeba_fl.common.errors import InputError
from celeba_fl.dashboard import jobs
from celeba_fl.dashboard.blocks import part, plain
from celeba_fl.launch.app import app_here
from celeba_fl.runs.naming import give_name
from celeba_fl.runs.reading import RunInfo

REPORT, LOG = "report.html", "log.txt"
LOG_BYTES = 64 * 1024
NAME_WIDTH = 440  # what a name has room in, where the window has it
AFTERWARDS = (
    "It ends without a last word, so that it is shown as interrupted within a minute; what it "
    "computed stays."
)


def show_actions(run: RunInfo) -> None:
    """The buttons for a run, by how it stands."""
    with part("The buttons"), st.container(horizontal=True):
        if run.status == "running":
            with st.popover("Stop", icon=":material/stop:"):
                _stop(run)
        elif run.status in ("stopped", "interrupted", "failed") and run.config:
            with st.popover("Resume", icon=":material/play_arrow:"):
                _resume(run)
        with st.popover("Name", icon=":material/edit:"), st.container(width=NAME_WIDTH):
            _name(run)
        with st.popover("Files", icon=":material/folder_open:"):
            _files(run.path)
        if run.status != "running" and not jobs.asked(run):
            with st.popover("Delete", icon=":material/delete:"):
                _delete(run)
    if why := jobs.refused(run):
        st.error(plain(why))


def folder() -> Path:
    """Where the dashboard keeps what it starts."""
    return app_here().places().home_dir / "dashboard"


def show_log(path: Path) -> None:
    """The end of a run's own log."""
    try:
        with (path / LOG).open("rb") as file:
            file.seek(max((path / LOG).stat().st_size - LOG_BYTES, 0))
            text = file.read().decode(errors="replace")
    except OSError:
        text = "This run has left no log."
    st.code(text or "Nothing yet.", language=None, wrap_lines=True, height=480)


def _stop(run: RunInfo) -> None:
    if jobs.asked(run):
        st.markdown("It has been asked to stop.")
        return
    known = jobs.connections()
    connection = st.selectbox("It was started on", list(known), key="stop-on")
    st.markdown(f"Stop this run? {AFTERWARDS}")
    do = jobs.ask_to_stop
    st.button("Stop it", type="primary", key="stop", on_click=do, args=(run, connection))


def _resume(run: RunInfo) -> None:
    if jobs.asked(run):
        st.markdown("It is being resumed; its log is on the page Devices.")
        return
    known = jobs.connections()
    connection = st.selectbox("Go on with it on", list(known), key="resume-on")
    where = [connection]
    if jobs.is_simulation(known[connection]):
        number = st.number_input("Simulated clients", 1, value=run.num_clients or 10, key="of")
        where = ["--federation", str(jobs.federation_of(folder(), int(number)))]
    st.markdown("Go on from the last checkpoint, with the settings that it has?")
    if st.button("Resume it", type="primary", key="resume"):
        jobs.resume(folder(), run, where)
        st.rerun()


def _name(run: RunInfo) -> None:
    name = st.text_input("Name", run.name, key=f"name-{run.path.name}")
    note = st.text_area("Note", run.note, key=f"note-{run.path.name}")
    if st.button("Keep", type="primary", key="keep"):
        give_name(run.path, name.strip(), note.strip())
        st.rerun()


def _files(path: Path) -> None:
    """The report to open, and any other file to take along."""
    st.caption(plain(path))
    found = sorted(one for one in path.iterdir() if one.is_file() and one.name.isprintable())
    names = [one.name for one in found]
    if not names:
        st.markdown("There is no file.")
        return
    first = names.index(REPORT) if REPORT in names else 0
    name = st.selectbox("File", names, first, key="file")
    st.download_button(
        "Take it along", lambda: (path / name).read_bytes(), name, key="take", on_click="ignore"
    )


def _delete(run: RunInfo) -> None:
    st.markdown(plain(f"Delete {run.name} with its models, checkpoints and report, for good?"))
    if st.button("Delete it", type="primary", key="delete"):
        doomed = run.path.with_name(f".{run.path.name}")  # gone from all lists at once
        try:
            run.path.rename(doomed)
            shutil.rmtree(doomed)
        except OSError as error:
            raise InputError(f"{run.path} cannot be deleted: {error.strerror}") from error
        st.switch_page(st.session_state.pages["all"])
