"""The page of devices: who is there, who takes part, and what is started."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest
from toys import write_run
from words import press, text_of

from celeba_fl.common import flower
from celeba_fl.common.errors import InputError
from celeba_fl.dashboard import devices, jobs, starting
from celeba_fl.launch.experiments import num_supernodes, parse_pair

Open = Callable[..., AppTest]
ONLINE = {"status": "online", "online-at": "2026-11-24 04:00:00Z", "offline-at": "N/A"}


@pytest.fixture
def started(runs: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The words of what is started, in the place of processes."""
    words: list[list[str]] = []
    monkeypatch.setattr(jobs, "start", lambda folder, command: words.append(list(command)))
    return words


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
    ],
)
def test_a_wrong_setting_starts_nothing(
    started: list[list[str]], page: Open, settings: str, said: str
) -> None:
    opened = page("devices")
    opened.text_area(key="settings").set_value(settings).run()
    assert said in text_of(press(opened, "Start the run"))
    assert started == []


def test_eight_clients_need_no_file(
    started: list[list[str]], runs: Path, page: Open, eight: Path
) -> None:
    opened = page("devices")
    opened.selectbox(key="federation").set_value("8").run()
    assert "8 of 8 take part" in text_of(opened)
    press(opened, "Start the run")
    ((*_, option, file),) = started
    assert Path(file) != eight
    assert (option, num_supernodes(Path(file))) == ("--federation", 8)


def test_who_is_off_is_off_at_the_next_visit(runs: Path, page: Open, eight: Path) -> None:
    page("devices").pills(key=f"on-local-{eight}").set_value(["6", "1"]).run()
    assert page("devices").pills(key=f"on-local-{eight}").value == ["1", "6"]


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
    flower.write_connection("clinics", address="10.0.0.1:8000")
    write_run(runs / "a", csv={"nodes": "client,node_id\nold-name,11\n"})
    write_run(runs / "b", csv={"nodes": "client,node_id,runtime\nhospital-a,11,web 1.30\n"})
    write_run(runs / "c", csv={"nodes": "of,another\nkind\n"})
    nodes = [
        {"node-id": "11", **ONLINE},
        {"node-id": "22", **ONLINE},
        {"node-id": "33", "status": "offline", "offline-at": "2026-11-23 01:00:00Z"},
        {"node-id": "44", "status": "registered", "offline-at": "N/A"},
        {"node-id": "55", "status": "unregistered"},
    ]
    monkeypatch.setattr(jobs, "supernodes", lambda connection: nodes)
    devices._ask.clear()
    return nodes


def open_clinics(page: Open) -> AppTest:
    return page("devices").selectbox(key="connection").set_value("clinics").run()


def test_supernodes_of_a_connection(
    clinics: list[dict[str, Any]], started: list[list[str]], page: Open
) -> None:
    opened = open_clinics(page)
    said = text_of(opened)
    assert "4 SuperNodes, 2 online" in said
    assert "does not know what its SuperNodes are called" in said
    table = opened.dataframe[0].value
    assert list(table["client"]) == ["hospital-a", *[devices.UNKNOWN] * 3]
    assert list(table["runtime"]) == ["web 1.30", "", "", ""]
    assert list(table["since"]) == [
        *["2026-11-24 04:00:00Z"] * 2,
        *("2026-11-23 01:00:00Z", "never online"),
    ]
    opened.text_input(key="typed-clinics").set_value("hospital-b, 3").run()
    assert opened.pills(key="on-clinics-None").value == ["hospital-a", "hospital-b", "3"]
    opened.pills(key="on-clinics-None").set_value(["hospital-b", "hospital-a"]).run()
    press(opened, "Start the run")
    assert started == [["drawn-iid", 'clients="hospital-a,hospital-b"', "clinics"]]


def test_without_names_all_take_part(
    clinics: list[dict[str, Any]], started: list[list[str]], page: Open
) -> None:
    del clinics[0]
    opened = open_clinics(page)
    assert "All SuperNodes take part" in text_of(opened)
    press(opened, "Start the run")
    assert started == [["drawn-iid", "clinics"]]


@pytest.fixture
def three(clinics: list[dict[str, Any]], runs: Path) -> list[dict[str, Any]]:
    """The SuperNodes of clients a, b and c, which are all online."""
    nodes = [{"node-id": name * 2, **ONLINE} for name in "abc"]
    write_run(runs / "z", csv={"nodes": "client,node_id\na,aa\nb,bb\nc,cc\nd\n"})
    clinics[:] = nodes
    return clinics


def test_who_was_off_for_a_moment_is_not_switched_off(
    three: list[dict[str, Any]], started: list[list[str]], page: Open
) -> None:
    opened = open_clinics(page)
    assert "3 of 3 take part" in text_of(opened)
    opened.pills(key="on-clinics-None").set_value(["a", "b"]).run()
    assert "2 of 3 take part" in text_of(opened)
    offline = [three.pop(), three.pop()]  # c, b
    devices._ask.clear()
    assert "1 of 1 take part" in text_of(opened.run())
    three.extend(offline)
    devices._ask.clear()
    assert "2 of 3 take part" in text_of(opened.run())
    press(opened, "Start the run")
    assert started == [["drawn-iid", 'clients="a,b"', "clinics"]]


def test_a_broken_list_of_nodes_hides_no_other(
    three: list[dict[str, Any]], runs: Path, page: Open
) -> None:
    write_run(runs / "y", csv={"nodes": f"client,node_id\n{'x' * 140_000},aa\n"})
    opened = open_clinics(page)
    assert list(opened.dataframe[0].value["client"]) == ["a", "b", "c"]


def test_a_superlink_is_not_asked_for_every_press(
    three: list[dict[str, Any]], page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(jobs, "supernodes", lambda connection: asked.append(connection) or three)
    opened = open_clinics(page)
    press(press(opened, "All off"), "All on")
    assert asked == ["clinics"]


def test_what_was_chosen_is_there_after_a_visit_to_another_page(runs: Path, eight: Path) -> None:
    def script() -> None:
        import streamlit as st

        from celeba_fl.dashboard import devices

        if not st.toggle("elsewhere", key="elsewhere"):
            devices.show_page()

    opened = AppTest.from_function(script, default_timeout=120).run()
    opened.text_area(key="settings").set_value("seed=7").run()
    opened.selectbox(key="experiment").set_value("drawn-dirichlet-0.1").run()
    opened.pills(key=f"on-local-{eight}").set_value(["6"]).run()
    opened.toggle(key="elsewhere").set_value(True).run()
    assert not opened.text_area
    opened.toggle(key="elsewhere").set_value(False).run()
    assert opened.text_area(key="settings").value == "seed=7"
    assert opened.selectbox(key="experiment").value == "drawn-dirichlet-0.1"
    assert "1 of 8 take part" in text_of(opened)


def test_names_are_written_as_toml_reads_them() -> None:
    names = ['a"b', "a\\b", "Zürich"]
    _, pair = starting.command("drawn-iid", [], names)
    assert parse_pair(pair) == ("clients", ",".join(names))


def test_clients_are_chosen_in_one_place(tmp_path: Path) -> None:
    experiment = tmp_path / "mine.toml"
    experiment.write_text('clients = "0,1"')
    for name, pairs in ((str(experiment), []), ("drawn-iid", ["clients=3"])):
        for clients in (None, ["5"]):
            with pytest.raises(InputError, match=rf"clients = .*switches.*{name}"):
                starting.command(name, pairs, clients)


def test_a_superlink_that_does_not_answer_is_said(
    clinics: list[dict[str, Any]], page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(connection: str) -> None:
        raise InputError("Connection to the SuperLink is unavailable")

    monkeypatch.setattr(jobs, "supernodes", refuse)
    opened = open_clinics(page)
    assert "Connection to the SuperLink is unavailable" in text_of(opened)


def test_nobody_is_asked_for_the_simulation(runs: Path, page: Open) -> None:
    """Asking Flower's own SuperLink for its nodes would start it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "supernodes", lambda connection: pytest.fail("asked"))
        text_of(page("devices"))


def job(run: Path | None, alive: bool) -> jobs.Job:
    return jobs.Job(Path("/a.log"), "celeba-fl run x", "its words", run, alive)


def test_the_last_start(runs: Path, page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_run(runs / "run", info={"status": "running"})
    for found, said in (
        (job(None, True), "It is being started"),
        (job(None, False), "ended before there was a run directory"),
        (job(path, True), "▶ running · run"),
        (job(Path("/srv/runs/x"), True), "Its run directory is /srv/runs/x, which this dashboard"),
    ):
        monkeypatch.setattr(jobs, "last_job", lambda folder, found=found: found)
        words = text_of(page("devices"))
        for expected in ("celeba-fl run x", "its words", said):
            assert expected in words


def test_a_broken_configuration_of_flwr_is_said(runs: Path, page: Open, tmp_path: Path) -> None:
    (tmp_path / "flwr").mkdir(exist_ok=True)
    (tmp_path / "flwr" / "config.toml").write_text("superlink = [")
    assert "The connections of flwr cannot be shown" in text_of(page("devices"))
