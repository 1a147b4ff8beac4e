"""The page of devices: who is there, who takes part, and what is started."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.cli.flower_config import write_superlink_connection
from flwr.cli.typing import SuperLinkConnection
from streamlit.testing.v1 import AppTest
from toys import write_run
from words import text_of

from celeba_fl.cli import parse_pair
from celeba_fl.dashboard import devices, jobs
from celeba_fl.progress import InputError

Open = Callable[..., AppTest]
ONLINE = {"status": "online", "online-at": "2026-11-24 04:00:00Z", "offline-at": "N/A"}


@pytest.fixture
def started(runs: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The words of what is started, in the place of processes."""
    words: list[list[str]] = []
    monkeypatch.setattr(jobs, "start", lambda folder, command: words.append(list(command)))
    return words


def press(page: AppTest, label: str) -> AppTest:
    (button,) = (button for button in page.button if button.label == label)
    return button.click().run()


@pytest.fixture
def eight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one federation file that there is."""
    path = tmp_path / "eight.toml"
    path.write_text("num-supernodes = 8\n")
    monkeypatch.setattr(devices, "FEDERATIONS", tmp_path)
    return path


def test_five_of_eight_partitions(started: list[list[str]], page: Open, eight: Path) -> None:
    opened = page("devices")
    key = f"on-local-{eight}"
    assert opened.pills(key=key).options == [str(i) for i in range(8)]
    assert "8 of 8 take part" in text_of(opened)
    opened.pills(key=key).set_value(["6", "0", "2", "3", "7"]).run()
    assert "5 of 8 take part" in text_of(opened)
    opened.text_area(key="settings").set_value("num-server-rounds=3\n\nseed = 7\n").run()
    press(opened, "Start the run")
    assert started == [
        [
            *("drawn-iid", "num-server-rounds=3", "seed=7", 'clients="0,2,3,6,7"'),
            *("--federation", str(eight)),
        ]
    ]


def test_all_is_no_choice_and_none_is_no_run(
    started: list[list[str]], page: Open, eight: Path
) -> None:
    opened = page("devices")
    press(opened, "All off")
    assert "Switch some clients on first" in text_of(opened)
    (button,) = (b for b in opened.button if b.label == "Start the run")
    assert button.disabled
    press(opened, "All on")
    opened.selectbox(key="experiment").set_value("drawn-dirichlet-0.1").run()
    press(opened, "Start the run")
    assert started == [["drawn-dirichlet-0.1", "--federation", str(eight)]]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("learning-rat=1", "did you mean 'learning-rate'?"),
        ("learning-rate=-1", "learning-rate = -1.0: must be above 0"),
        ("just words", "'just words': settings are written key=value"),
        ("clients=0,1", "clients = '0,1': who takes part is chosen with the switches"),
    ],
)
def test_a_wrong_setting_starts_nothing(
    started: list[list[str]], page: Open, settings: str, said: str
) -> None:
    opened = page("devices")
    opened.text_area(key="settings").set_value(settings).run()
    assert said in text_of(press(opened, "Start the run"))
    assert started == []


def test_names_and_places_are_passed_on_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text("seed = 7\n")
    monkeypatch.chdir(tmp_path)
    path, pair = devices.command("mine.toml", [], ['a"b', "c\\d", "\N{GREEK SMALL LETTER PI}"])
    assert path == str(tmp_path / "mine.toml")
    assert parse_pair(pair) == ("clients", 'a"b,c\\d,\N{GREEK SMALL LETTER PI}')
    (tmp_path / "mine.toml").write_text('clients = "0"\n')
    with pytest.raises(InputError, match="take it out of the settings, or of mine"):
        devices.command("mine.toml", [], None)


def test_a_broken_list_of_nodes_names_nobody(runs: Path) -> None:
    write_run(runs / "a", csv={"nodes": "client,node_id\na,11\n"})
    write_run(runs / "b", csv={"nodes": f"client,node_id\n{'b' * 200_000},11\n"})
    assert devices.known_names() == {"11": "a"}


@pytest.mark.parametrize("content", [None, "num-supernodes = 0", "num-supernodes = 'x'", "{"])
def test_a_wrong_federation_file_is_named(
    started: list[list[str]], page: Open, eight: Path, content: str | None
) -> None:
    if content is None:
        eight.unlink()
        eight.mkdir()
    else:
        eight.write_text(content)
    assert str(eight) in "".join(one.value.replace("\\", "") for one in page("devices").error)


@pytest.fixture
def clinics(runs: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """SuperNodes of a connection; the first one took part in a run."""
    write_superlink_connection(SuperLinkConnection("clinics", address="10.0.0.1:8000"))
    write_run(runs / "a", csv={"nodes": "client,node_id\nold-name,11\n"})
    write_run(runs / "b", csv={"nodes": "client,node_id\nhospital-a,11\n"})
    write_run(runs / "c", csv={"nodes": "of,another\nkind\n"})
    nodes = [
        {"node-id": "11", **ONLINE},
        {"node-id": "22", **ONLINE},
        {"node-id": "33", "status": "offline", "offline-at": "2026-11-23 01:00:00Z"},
        {"node-id": "44", "status": "registered", "offline-at": "N/A"},
        {"node-id": "55", "status": "unregistered"},
    ]
    monkeypatch.setattr(jobs, "supernodes", lambda connection: nodes)
    devices._supernodes.clear()
    return nodes


def test_supernodes_of_a_connection(
    clinics: list[dict[str, Any]], started: list[list[str]], page: Open
) -> None:
    opened = page("devices")
    opened.selectbox(key="connection").set_value("clinics").run()
    said = text_of(opened)
    assert "4 SuperNodes, 2 online" in said
    assert "does not know what its SuperNodes are called" in said
    table = opened.dataframe[0].value
    assert list(table["client"]) == ["hospital-a", *[devices.UNKNOWN] * 3]
    assert list(table["since"]) == [
        *["2026-11-24 04:00:00Z"] * 2,
        *("2026-11-23 01:00:00Z", "never online"),
    ]
    opened.text_input(key="typed-clinics").set_value("hospital-b, 3").run()
    assert opened.pills(key="on-clinics-None").options == [
        *(r"hospital\-a", r"hospital\-b", "3")  # as Markdown, which it is taken for
    ]
    opened.pills(key="on-clinics-None").set_value(["hospital-b", "hospital-a"]).run()
    press(opened, "Start the run")
    assert started == [["drawn-iid", 'clients="hospital-a,hospital-b"', "clinics"]]


def test_who_is_away_for_a_while_or_comes_new_is_on(
    clinics: list[dict[str, Any]], runs: Path, started: list[list[str]], page: Open
) -> None:
    write_run(runs / "d", csv={"nodes": "client,node_id\na,11\nb,22\nc,33\nd,44\n"})

    def see() -> list[str]:
        devices._supernodes.clear()
        opened.run()
        return list(opened.pills(key="on-clinics-None").value)

    opened = page("devices")
    opened.selectbox(key="connection").set_value("clinics").run()
    assert see() == ["a", "b"]
    opened.pills(key="on-clinics-None").set_value(["b"]).run()
    clinics[1] |= {"status": "offline"}
    clinics[2] |= ONLINE
    assert see() == ["c"]
    clinics[1] |= ONLINE
    assert see() == ["b", "c"]
    press(opened, "All on")
    assert see() == ["a", "b", "c"]


def test_a_click_alone_asks_no_superlink(
    clinics: list[dict[str, Any]], page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(jobs, "supernodes", lambda connection: asked.append(connection) or clinics)
    opened = page("devices")
    opened.selectbox(key="connection").set_value("clinics").run()
    press(opened, "All off")
    assert asked == ["clinics"]


def test_choices_are_kept_while_another_page_is_shown(
    runs: Path, eight: Path, started: list[list[str]]
) -> None:
    def script() -> None:
        import streamlit as st

        from celeba_fl.dashboard import devices

        devices.keep_choices()
        if st.toggle("Devices", True):
            devices.show_page()

    opened = AppTest.from_function(script, default_timeout=30).run()
    opened.pills(key=f"on-local-{eight}").set_value(["1", "3"]).run()
    opened.text_area(key="settings").set_value("seed=7").run()
    opened.selectbox(key="experiment").set_value("drawn-dirichlet-0.1").run()
    opened.toggle[0].set_value(False).run()
    assert not opened.text_area
    opened.toggle[0].set_value(True).run()
    press(opened, "Start the run")
    expected = ["drawn-dirichlet-0.1", "seed=7", 'clients="1,3"', "--federation", str(eight)]
    assert started == [expected]


def test_without_names_all_take_part(
    clinics: list[dict[str, Any]], started: list[list[str]], page: Open
) -> None:
    del clinics[0]
    opened = page("devices")
    opened.selectbox(key="connection").set_value("clinics").run()
    assert "All SuperNodes take part" in text_of(opened)
    press(opened, "Start the run")
    assert started == [["drawn-iid", "clinics"]]


def test_a_superlink_that_does_not_answer_is_said(
    clinics: list[dict[str, Any]], page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(connection: str) -> None:
        raise InputError("Connection to the SuperLink is unavailable")

    monkeypatch.setattr(jobs, "supernodes", refuse)
    opened = page("devices")
    opened.selectbox(key="connection").set_value("clinics").run()
    assert "Connection to the SuperLink is unavailable" in text_of(opened)


def test_nobody_is_asked_for_the_simulation(runs: Path, page: Open) -> None:
    """Asking Flower's own SuperLink for its nodes would start it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "supernodes", lambda connection: pytest.fail("asked"))
        text_of(page("devices"))


def job(run: Path | None, alive: bool | None) -> jobs.Job:
    return jobs.Job(Path("/a.log"), "celeba-fl run x", "its words", run, alive)


def test_the_last_start(runs: Path, page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_run(runs / "run", info={"status": "running"})
    for found, said in (
        (job(None, True), "It is being started"),
        (job(None, False), "ended before there was a run directory"),
        (job(None, None), "started before this dashboard"),
        (job(Path("/srv/runs/x"), True), "Its run directory is /srv/runs/x, which this dashboard"),
        (job(path, True), "▶ running · run"),
    ):
        monkeypatch.setattr(jobs, "last_job", lambda folder, found=found: found)
        words = text_of(page("devices"))
        for expected in ("celeba-fl run x", "its words", said):
            assert expected in words


def test_a_running_run_is_stopped(runs: Path, page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(jobs, "stop", lambda run, connection: asked.append((run, connection)))
    assert "No run is running" in text_of(page("devices"))
    write_run(runs / "run", info={"status": "running", "flwr_run_ids": [5]})
    opened = press(page("devices"), "Stop it")
    assert "Flower has been asked to stop run" in text_of(opened)
    ((run, connection),) = asked
    assert (run["flwr_run_ids"], connection) == ([5], "local")
    # Until its heartbeat is too old; it need not be stopped twice.
    assert not [button for button in opened.button if button.label == "Stop it"]
    (runs / "run" / "run.json").write_text('{"status": "failed"}')
    assert "has been asked" not in text_of(opened.run())


def test_a_broken_configuration_of_flwr_is_said(runs: Path, page: Open, tmp_path: Path) -> None:
    (tmp_path / "flwr").mkdir(exist_ok=True)
    (tmp_path / "flwr" / "config.toml").write_text("superlink = [")
    assert "The connections of flwr cannot be shown" in text_of(page("devices"))


def test_a_run_that_cannot_be_stopped_says_why(
    runs: Path, page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run: object, connection: str) -> None:
        raise InputError("it was not stopped")

    monkeypatch.setattr(jobs, "stop", refuse)
    write_run(runs / "run", info={"status": "running", "flwr_run_ids": [5]})
    assert "it was not stopped" in text_of(press(page("devices"), "Stop it"))
