"""What can be done with a run: stopped, resumed, named, deleted, and its files taken away."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from toys import write_run
from words import press, text_of

from celeba_fl.common.errors import InputError
from celeba_fl.dashboard import jobs
from celeba_fl.launch.experiments import num_supernodes
from celeba_fl.runs.reading import read_run

Open = Callable[..., AppTest]
CONFIG = {"task": "attributes", "dataset": "drawn", "num-server-rounds": 3, "name": "mine"}
RUNNING: dict[str, Any] = {"status": "running", "flwr_run_ids": [5], "config": CONFIG}
STOPPED = {**RUNNING, "status": "stopped", "num_clients": 4}


@pytest.fixture
def flwr(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """What Flower is asked."""
    commands: list[Sequence[str]] = []
    monkeypatch.setattr(jobs, "flower_json", lambda command, env: commands.append(command))
    return commands


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is started, in the place of processes: the words, and what is done at their end."""
    calls: list[Any] = []
    monkeypatch.setattr(jobs, "start", lambda folder, words, end: calls.append((words, end)))
    return calls


def until(done: Callable[[], bool]) -> None:
    """Wait for what a thread does."""
    for _ in range(3000):
        if done():
            return
        time.sleep(0.02)
    raise AssertionError("it has not come about")


def labels(page: AppTest) -> set[str]:
    return {button.label for button in page.button}


def state(page: AppTest) -> str:
    return page.markdown[0].value.replace("\\", "")


def test_a_running_run_is_asked_to_stop_and_says_so_at_once(
    runs: Path, page: Open, flwr: list[Sequence[str]]
) -> None:
    path = write_run(runs / "run", info=RUNNING)
    opened = page("one_run")
    assert "Stop this run?" in text_of(opened)
    assert flwr == []
    press(opened, "Stop it")
    until(lambda: flwr == [["flwr", "stop", "5", "local", "--format", "json"]])
    assert state(opened) == "**■ stopping** · run"
    assert "It has been asked to stop." in text_of(opened)
    assert "Stop it" not in labels(opened)
    assert page("all_runs").dataframe[0].value.iloc[0]["status"] == "■ stopping"

    # A run that was resumed is another one.
    write_info(path, {**RUNNING, "flwr_run_ids": [5, 6]})
    press(opened.run(), "Stop it")
    until(lambda: [command[2] for command in flwr] == ["5", "6"])


def write_info(path: Path, info: dict[str, Any]) -> None:
    known = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**known, **info}))


def test_a_run_that_cannot_be_stopped_says_why(
    runs: Path, page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(command: Sequence[str], env: Any) -> None:
        raise InputError("run 5 not found")

    monkeypatch.setattr(jobs, "flower_json", refuse)
    write_run(runs / "run", info=RUNNING)
    opened = press(page("one_run"), "Stop it")
    until(lambda: "run was not stopped: run 5 not found" in text_of(opened.run()))
    assert state(opened) == "**▶ running** · run"
    assert "Stop it" in labels(opened)


def test_a_run_goes_on_where_it_is_told_to(runs: Path, page: Open, started: list[Any]) -> None:
    path = write_run(runs / "run", info=STOPPED)
    opened = page("one_run")
    opened.number_input(key="of").set_value(6).run()
    assert started == []
    press(opened, "Resume it")
    (((experiment, option, federation), ended),) = started
    assert f'resume = "{path}"' in Path(experiment).read_text()
    assert (option, num_supernodes(Path(federation))) == ("--federation", 6)
    assert state(opened) == "**▶ resuming** · run"
    assert "It is being resumed" in text_of(opened)
    assert "Delete it" not in labels(opened)

    ended()
    assert state(opened.run()) == "**■ stopped** · run"
    press(opened, "Resume it")
    write_info(path, {**RUNNING, "flwr_run_ids": [5, 6]})
    assert state(opened.run()) == "**▶ running** · run"


def test_a_run_gets_a_name_and_a_note(runs: Path, page: Open) -> None:
    write_run(runs / "one", info=STOPPED)
    path = write_run(runs / "two", info=STOPPED)
    opened = page("one_run", run="two")
    opened.text_input(key="name-two").set_value("first of all").run()
    opened.text_area(key="note-two").set_value("as in the paper").run()
    press(opened, "Keep")
    assert (read_run(path).name, read_run(path).note) == ("first of all", "as in the paper")
    assert opened.selectbox(key="run").value == "two"
    opened.text_input(key="name-two").set_value("a\nb").run()
    assert "name" in press(opened, "Keep").error[0].value
    assert read_run(path).name == "first of all"


def test_a_run_is_deleted_for_good(runs: Path, page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        write_run(runs / name, info=STOPPED)
    switched: list[str] = []
    monkeypatch.setattr(st, "switch_page", switched.append)
    opened = page("one_run")
    opened.session_state.pages = {"all": "all runs"}
    assert "Delete two with its models" in text_of(opened)
    press(opened, "Delete it")
    assert [path.name for path in runs.iterdir()] == ["one"]
    assert switched == ["all runs"]


def test_a_running_run_is_not_deleted(runs: Path, page: Open) -> None:
    write_run(runs / "run", info=RUNNING)
    assert not {"Delete it", "Resume it"} & labels(page("one_run"))


def test_files_are_taken_along_the_report_first(
    runs: Path, page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_run(runs / "run", info=STOPPED, csv={"rounds": "round\n"})
    (path / "report.html").write_text("<p>")
    taken: list[tuple[str, bytes]] = []

    def take(label: str, data: Callable[[], bytes], name: str, **options: Any) -> None:
        taken.append((name, data()))

    monkeypatch.setattr(st, "download_button", take)
    opened = page("one_run")
    opened.selectbox(key="file").set_value("rounds.csv").run()
    assert taken == [("report.html", b"<p>"), ("rounds.csv", b"round\n")]


def test_of_a_long_log_the_end_is_shown(run: Path, page: Open) -> None:
    (run / "log.txt").write_bytes(b"first\n" + 9999 * b"a line\n" + b"\xff last")
    opened = page("one_run").segmented_control(key="part").set_value("Log").run()
    shown = opened.code[0].value
    assert shown.endswith("a line\n\ufffd last")
    assert "first" not in shown
