"""The devices: which are there, and which take part in the next run."""

import csv
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import streamlit as st

from celeba_fl.common.errors import InputError
from celeba_fl.dashboard import jobs, watching
from celeba_fl.dashboard.all_runs import EVERY
from celeba_fl.dashboard.blocks import live, part, plain
from celeba_fl.dashboard.managing import folder
from celeba_fl.dashboard.remembered import keep, remembered
from celeba_fl.dashboard.starting import show_last, show_start
from celeba_fl.launch.app import app_here
from celeba_fl.launch.experiments import FEDERATIONS, num_supernodes
from celeba_fl.runs.tables import read_csv

ASK_EVERY = 10.0  # seconds; asking a SuperLink is a process of its own
MOST_SWITCHES = 100
UNKNOWN = "not known yet"
KNOWN = ("client", "runtime")  # columns of `nodes.csv`


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
            left, right = st.columns(2, gap="large")
            with left:
                simulated = jobs.is_simulation(known[connection])
                federation, names = _simulated() if simulated else (None, _real(connection))
                clients = _choose(names, f"{connection}-{federation}")
            with right:
                show_start(connection, federation, clients)
        live("The last start", EVERY, show_last)


def _where(address: str) -> str:
    return "simulation on this machine" if jobs.is_simulation(address) else address


# ---- who is there -------------------------------------------------------------------------


def _simulated() -> tuple[Path, list[str]]:
    """The federation file, and the clients that it makes."""
    ours = [str(path) for path in sorted(FEDERATIONS.glob("*.toml"))]
    chosen = st.selectbox(
        "Simulated clients: how many, or a federation file",
        ["8", *ours],
        next((i for i, path in enumerate(ours, 1) if path.endswith("simulation-10.toml")), 1),
        format_func=lambda path: Path(path).name if path in ours else path,
        accept_new_options=True,
        help="a number, one of our files, or the path of another one",
        key="federation",
        persist_state="session",
    )
    if chosen.strip().isdecimal() and int(chosen):
        path = jobs.federation_of(folder(), int(chosen))
    else:
        path = Path(chosen).expanduser().absolute()
    number = num_supernodes(path)
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
    known = known_nodes()
    rows = [
        {
            **known.get(str(node.get("node-id")), {"client": UNKNOWN, "runtime": ""}),
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


def known_nodes() -> dict[str, dict[str, str]]:
    """The client that each SuperNode was when it last took part, and its runtime, by its id."""
    nodes: dict[str, dict[str, str]] = {}
    for path in reversed(watching.directories(app_here().places().runs_dir)):
        with suppress(OSError, ValueError, csv.Error):
            rows = read_csv(path / "nodes.csv")
            known = (row for row in rows if row.get("client") and row.get("node_id"))
            nodes |= {row["node_id"]: {key: row.get(key) or "" for key in KNOWN} for row in known}
    return nodes


def _since(node: Mapping[str, Any]) -> str:
    key = "online-at" if node.get("status") == "online" else "offline-at"
    since = str(node.get(key, ""))
    return since if since[:1].isdigit() else "never online"


def _choose(names: list[str], where: str) -> list[str] | None:
    """The clients that take part; None for all there are."""
    if not names:
        st.markdown("All SuperNodes take part.")
        return None
    key = f"on-{where}"
    # Of those that come and go, a SuperNode without a network among them, who is off stays off.
    off = remembered(folder(), where)
    st.session_state[key] = [name for name in names if name not in off]

    def switch(on: Collection[str]) -> None:
        keep(folder(), where, (off - set(names)) | (set(names) - set(on)))

    def follow() -> None:
        switch(st.session_state[key])

    with st.container(horizontal=True):
        st.button("All on", on_click=switch, args=(names,))
        st.button("All off", on_click=switch, args=((),))
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
