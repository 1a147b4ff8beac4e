"""Runs started and stopped as a person would."""

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from celeba_fl.common import flower
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.dashboard import jobs
from celeba_fl.launch.experiments import num_supernodes
from celeba_fl.runs.reading import RunInfo

PYTHON = sys.executable
COMMAND = """#!{python}
import os, sys, time
print("\\x1b[92mINFO\\x1b[0m:", sys.argv[1:], os.getcwd(), os.getpgrp() == os.getpid(), flush=True)
print("Run directory: {run}", flush=True)
print("process", os.getpid(), flush=True)
print("off the net:", os.environ["FLWR_TELEMETRY_ENABLED"], flush=True)
if "wait" in sys.argv: time.sleep(60)
"""


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `celeba-fl` beside a Python, which says how it is called."""
    binary = tmp_path / "bin"
    binary.mkdir()
    command = binary / "celeba-fl"
    command.write_text(COMMAND.format(python=sys.executable, run=tmp_path / "a run"))
    command.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(binary / "python"))
    return command


def last_job(folder: Path) -> jobs.Job:
    job = jobs.last_job(folder)
    assert job is not None
    return job


def await_end(folder: Path) -> jobs.Job:
    for _ in range(600):
        job = last_job(folder)
        if not job.alive:
            return job
        time.sleep(0.1)
    raise AssertionError("it does not end")


def test_a_run_is_started_without_a_shell_and_on_its_own(tmp_path: Path, python: Path) -> None:
    folder = tmp_path / "jobs"
    assert jobs.last_job(folder) is None
    words = ["drawn-iid", 'clients="1,$(touch x)"', "a;b"]
    jobs.start(folder, words)
    job = await_end(folder)
    assert job.command == "celeba-fl run drawn-iid 'clients=\"1,$(touch x)\"' 'a;b'"
    # Relative paths are those of whoever started the dashboard.
    assert f"INFO: {['run', *words]} {Path.cwd()} True" in job.text
    assert "off the net: 0" in job.text
    assert job.run == tmp_path / "a run"
    assert list(folder.iterdir()) == [job.log]


def test_the_last_start_is_the_one_shown(tmp_path: Path, python: Path) -> None:
    jobs.start(tmp_path / "jobs", ["first"])
    jobs.start(tmp_path / "jobs", ["wait"])
    found = None
    while not found:
        time.sleep(0.1)
        job = last_job(tmp_path / "jobs")
        assert (job.alive, job.command) == (True, "celeba-fl run wait")
        found = re.search(r"process (\d+)", job.text)
    os.kill(int(found[1]), signal.SIGKILL)
    assert await_end(tmp_path / "jobs").alive is False


def test_a_dashboard_that_has_not_started_it_knows_that_it_is_alive(
    tmp_path: Path, python: Path
) -> None:
    starts = f"""
import sys; from pathlib import Path; from celeba_fl.config import RunConfig
from celeba_fl.dashboard import jobs
from celeba_fl.launch.experiments import num_supernodes
sys.executable = {sys.executable!r}
jobs.start(Path({str(tmp_path)!r}), ["wait"])
"""
    subprocess.run([PYTHON, "-c", starts], check=True)
    assert last_job(tmp_path).alive
    while not (found := re.search(r"process (\d+)", last_job(tmp_path).text)):
        time.sleep(0.1)
    os.kill(int(found[1]), signal.SIGKILL)
    await_end(tmp_path)


def test_a_log_of_anything_is_shown(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_bytes(b"\xff\x00" * 9000)
    job = last_job(tmp_path)
    assert (job.alive, job.run) == (False, None)
    assert len(job.text) <= jobs.TAIL_BYTES


def test_connections_are_those_of_flwr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    flower.write_connection("clinics", address="10.0.0.1:8000")
    known = jobs.connections()
    assert next(iter(known)) == "local"
    assert known["clinics"] == "10.0.0.1:8000"
    assert jobs.is_simulation(known["local"])
    assert not jobs.is_simulation(known["clinics"])


def test_stopping_asks_for_the_last_run_of_flowers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[str]] = []
    monkeypatch.setattr(jobs, "flower_json", lambda command, env: asked.append(command))
    jobs.stop(RunInfo(tmp_path, "running", flwr_run_ids=[1, 2]), "clinics")
    assert asked == [["flwr", "stop", "2", "clinics", "--format", "json"]]


def test_a_run_that_flower_does_not_know_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(command: Sequence[str], env: Any) -> None:
        raise InputError("flwr stop: run 7 not\nfound")

    monkeypatch.setattr(jobs, "flower_json", refuse)
    with pytest.raises(InputError, match=r"was not stopped: .* run 7 not found.*--inline.*Ctrl-C"):
        jobs.stop(RunInfo(tmp_path, "running", flwr_run_ids=[7]), "local")
    with pytest.raises(InputError, match="names no run of Flower's"):
        jobs.stop(RunInfo(tmp_path, "running"), "local")


def test_a_run_is_stopping_until_it_has_ended_or_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "flower_json", lambda command, env: {})
    run = RunInfo(tmp_path, "running", flwr_run_ids=[1])
    assert jobs.asked(run) == ""
    jobs.ask_to_stop(run, "local")
    assert jobs.asked(run) == "stopping"
    assert jobs.asked(replace(run, status="interrupted")) == ""
    assert jobs.asked(replace(run, flwr_run_ids=[1, 2])) == ""


def test_a_run_goes_on_with_its_settings(tmp_path: Path, python: Path) -> None:
    folder = tmp_path / "jobs"
    config = {**RunConfig.defaults(), "seed": 7, "name": "mine"}
    run = RunInfo(tmp_path / "run", "stopped", config=config, flwr_run_ids=[1])
    jobs.resume(folder, run, ["wait"])
    assert jobs.asked(run) == "resuming"
    assert jobs.asked(replace(run, status="running", flwr_run_ids=[1, 2])) == ""
    experiment = folder / "run.toml"
    settings = tomllib.loads(experiment.read_text())
    assert (settings["seed"], settings["resume"]) == (7, str(run.path))
    assert not settings["name"]  # it has one
    while not (found := re.search(r"process (\d+)", last_job(folder).text)):
        time.sleep(0.1)
    assert last_job(folder).command == f"celeba-fl run {experiment} wait"
    # Whatever becomes of it, it is not being resumed for ever.
    os.kill(int(found[1]), signal.SIGKILL)
    await_end(folder)
    for _ in range(1200):
        if not jobs.asked(run):
            return
        time.sleep(0.05)
    raise AssertionError("it is still said to be resuming")


def test_a_number_of_clients_is_a_federation(tmp_path: Path) -> None:
    assert num_supernodes(jobs.federation_of(tmp_path / "new", 8)) == 8
