"""The devices: which are there and which take part in the next run; that run started, stopped."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st
import tomli

from celeba_fl.common.bundle import PACKAGE
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.dashboard import jobs, watching
from celeba_fl.dashboard.all_runs import EVERY, label, status
from celeba_fl.dashboard.blocks import live, part, plain
from celeba_fl.launch.experiments import EXPERIMENTS, parse_pair, read_experiment
from celeba_fl.runs.tables import read_csv

FEDERATIONS = PACKAGE / "federations"
ASK_EVERY = 10.0  # seconds; asking a SuperLink is a process of its own
MOST_SWITCHES = 100
UNKNOWN = "not known yet"
AFTERWARDS = (
    "It ends without a last word, so that it is shown as interrupted within a minute; what it "
    "computed stays."
)


def show_page() -> None:
    """The page."""
    st.title("Devices")
    st.caption("Which clients take part in the next run, and that run.")
    with part("The connections of flwr"):
        known = jobs.connections()
        connection = st.selectbox(
            "Connection",
            list(known),
            format_func=lambda name: f"{name} ({_where(known[name])})",
            key="connection",
            persist_state="session",
        )
        with part("The next run"):
            _next_run(connection, known[connection])
        live("The last start", EVERY, _last, _folder())
        live("Stopping runs", EVERY, _stop, connection)


def _folder() -> Path:
    return RunConfig.load().home_dir / "dashboard"


def _where(address: str) -> str:
    return "simulation on this machine" if jobs.is_simulation(address) else address


def _next_run(connection: str, address: str) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        simulated = jobs.is_simulation(address)
        federation, names = _simulated() if simulated else (None, _real(connection))
        clients = _choose(names, f"{connection}-{federation}")
    with right:
        _start(connection, federation, clients)


# ---- who is there -------------------------------------------------------------------------


def _simulated() -> tuple[Path, list[str]]:
    """The federation file, and the clients that it makes."""
    ours = [str(path) for path in sorted(FEDERATIONS.glob("*.toml"))]
    chosen = st.selectbox(
        "Federation file",
        ours,
        next((i for i, path in enumerate(ours) if path.endswith("simulation-10.toml")), 0),
        format_func=lambda path: Path(path).name if path in ours else path,
        accept_new_options=True,
        help="one of ours, or the path of another one",
        key="federation",
        persist_state="session",
    )
    path = Path(chosen).expanduser().absolute()
    try:
        number = tomli.loads(path.read_text(encoding="utf-8")).get("num-supernodes", 2)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    if type(number) is not int or number < 1:
        raise InputError(f"{path}: num-supernodes = {number!r}: must be a whole number above 0")
    st.markdown(f"Simulated clients are called by their partitions: 0 to {number - 1}.")
    return path, [str(i) for i in range(number)]


def _real(connection: str) -> list[str]:
    """The names of the SuperNodes of a connection, as far as they are known."""
    live("The SuperNodes", ASK_EVERY, _nodes, connection)
    found: list[str] = st.session_state.get(f"names-{connection}", [])
    typed = st.text_input(
        "Other clients by name, comma-separated",
        key=f"typed-{connection}",
        persist_state="session",
        help="a SuperNode is called as the site of its node config says, or by its partition id",
    )
    return list(dict.fromkeys([*found, *(n.strip() for n in typed.split(",") if n.strip())]))


def _nodes(connection: str) -> None:
    """A table of the SuperNodes; the names of those that took part in a run before."""
    nodes, failure = _ask(connection)
    if failure:
        raise InputError(failure)
    names = known_names()
    rows = [
        {
            "client": names.get(str(node.get("node-id")), UNKNOWN),
            "status": str(node.get("status", "")),
            "since": _since(node),
            "node": str(node.get("node-id")),
        }
        for node in nodes
        if node.get("status") != "unregistered"
    ]
    online = [row for row in rows if row["status"] == "online"]
    st.markdown(f"{len(rows)} SuperNodes, {len(online)} online.")
    if rows:
        st.dataframe(rows, hide_index=True, alt=f"SuperNodes of {connection}")
    if any(row["client"] == UNKNOWN for row in rows):
        st.info(
            "A SuperLink does not know what its SuperNodes are called. A name is known here once "
            "its SuperNode took part in a run that was recorded on this machine; until then, type "
            "it below, or let all take part."
        )
    found = sorted({row["client"] for row in online} - {UNKNOWN})
    if st.session_state.get(f"names-{connection}") != found:
        st.session_state[f"names-{connection}"] = found
        st.rerun()


@st.cache_data(ttl=ASK_EVERY, show_spinner=False)
def _ask(connection: str) -> tuple[list[dict[str, Any]], str]:
    """The SuperNodes, or why they are not known: not asked again for every press of a button."""
    try:
        return jobs.supernodes(connection), ""
    except InputError as error:
        return [], str(error)


def known_names() -> dict[str, str]:
    """The client that each SuperNode was when it last took part, by its id."""
    names: dict[str, str] = {}
    for path in reversed(watching.directories(RunConfig.load().runs_dir)):
        try:
            rows = read_csv(path / "nodes.csv")
        except (OSError, ValueError, csv.Error):
            continue
        names |= {
            row["node_id"]: row["client"]
            for row in rows
            if row.get("client") and row.get("node_id")
        }
    return names


def _since(node: Mapping[str, Any]) -> str:
    key = "online-at" if node.get("status") == "online" else "offline-at"
    since = str(node.get(key, ""))
    return since if since[:1].isdigit() else "never online"


# ---- the next run -------------------------------------------------------------------------


def _choose(names: list[str], where: str) -> list[str] | None:
    """Those that take part; None for all there are."""
    if not names:
        st.markdown("All SuperNodes take part.")
        return None
    key = f"on-{where}"
    # Of those that come and go, a SuperNode without a network among them, who is off stays off.
    off: set[str] = st.session_state.setdefault(f"off-{where}", set())
    st.session_state[key] = [name for name in names if name not in off]

    def follow() -> None:
        off.difference_update(names)
        off.update(set(names) - set(st.session_state[key]))

    with st.container(horizontal=True):
        st.button("All on", on_click=off.difference_update, args=(names,))
        st.button("All off", on_click=off.update, args=(names,))
    text = "Clients that take part in the next run"
    if len(names) <= MOST_SWITCHES:
        chosen = st.pills(
            text,
            names,
            selection_mode="multi",
            format_func=plain,
            key=key,
            on_change=follow,
            wrap=True,
        )
    else:
        chosen = st.multiselect(text, names, key=key, on_change=follow)
    st.markdown(f"{len(chosen)} of {len(names)} take part.")
    return None if len(chosen) == len(names) else sorted(chosen, key=names.index)


def _start(connection: str, federation: Path | None, clients: list[str] | None) -> None:
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
        jobs.start(_folder(), [*words, *where])


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
    settings = {**read_experiment(experiment), **dict(map(parse_pair, pairs))}
    if settings.get("clients"):
        raise InputError(
            f"clients = {settings['clients']!r}: they are chosen with the switches here; take it "
            f"out of the settings, or of {experiment}"
        )
    if clients:
        pairs = [*pairs, f"clients={json.dumps(','.join(clients), ensure_ascii=False)}"]
    RunConfig.load({**settings, **dict(map(parse_pair, pairs))})
    return [experiment, *pairs]


# ---- what became of it --------------------------------------------------------------------


def _last(folder: Path) -> None:
    """The last start, in the words of its log."""
    job = jobs.last_job(folder)
    if job is None:
        return
    st.header("The last start")
    st.code(job.command, language=None, wrap_lines=True)
    if job.run and job.run in watching.directories(RunConfig.load().runs_dir):
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


def _stop(connection: str) -> None:
    """A run to stop, and what came of the last one."""
    found = map(watching.look, watching.directories(RunConfig.load().runs_dir))
    # Flower's runs tell a run from itself once it is resumed.
    running = {
        (info.path, str(info.flwr_run_ids)): info for info in found if info.status == "running"
    }
    said: dict[tuple[Path, str], str] = st.session_state.setdefault("said", {})
    asked: set[tuple[Path, str]] = st.session_state.setdefault("asked", set())
    left = [which for which in running if which not in asked]
    st.header("Stop a run")
    if left:
        which = st.selectbox("Running", left, format_func=lambda w: label(w[0]), key="stopped")
        if st.button("Stop it", icon=":material/stop:"):
            try:
                jobs.stop(running[which], connection)
                asked.add(which)
                said[which] = f"Flower has been asked to stop {which[0].name}. {AFTERWARDS}"
            except InputError as error:
                said[which] = str(error)
    else:
        st.markdown(
            "No run is left to be stopped. One that is interrupted needs no stop; its checkpoints "
            "stay, and `resume` goes on with it."
        )
    for which in running.keys() & said.keys():
        st.info(plain(said[which]))
