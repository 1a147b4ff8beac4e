"""`celeba-fl run` and `celeba-fl runs`; the real `flwr` is in `integration`."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli
from adding import run as run_adding
from fake_flwr import PYTHON, Flwr

from celeba_fl.common.bundle import PYPROJECT
from celeba_fl.common.errors import InputError
from celeba_fl.launch.app import app_here
from celeba_fl.launch.experiments import SIMULATION, read_experiment
from celeba_fl.runs.naming import give_name
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv

Call = Callable[..., int]
Capture = pytest.CaptureFixture[str]


def test_inline(call: Call, experiment: str, tmp_path: Path) -> None:
    nodes = tmp_path / "three.toml"
    nodes.write_text("num-supernodes = 3\n")
    assert call("run", experiment, "--inline", "--federation", str(nodes)) == 0
    (said,) = read_runs(tmp_path / "runs")
    assert (said.status, said.num_clients, said.rounds) == ("completed", 3, 2)


def test_inline_takes_50_clients_by_default_and_overrides(
    call: Call, experiment: str, tmp_path: Path
) -> None:
    words = ["run", experiment, "num-server-rounds=1", "weighting=uniform", "--inline"]
    assert call(*words) == 0
    (said,) = read_runs(tmp_path / "runs")
    assert (said.num_clients, said.rounds) == (50, 1)
    # Of 1, 2, ... 50.
    assert float(read_csv(said.path / "rounds.csv")[1]["valid_score"]) == 25.5


def test_an_inline_run_that_fails_does_not_exit_with_0(
    call: Call, experiment: str, capsys: Capture
) -> None:
    words = ["run", experiment, "watch=nothing", "--inline"]
    assert call(*words) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("celeba-fl: the run failed: watch = 'nothing': must be one of loss, ")
    assert line.endswith("log.txt has all that is known of it")


def test_a_run_is_submitted_followed_and_asked_for_its_status(
    call: Call, flwr: Flwr, capfd: Capture
) -> None:
    assert call("run", "drawn-iid", "seed=7", "learning-rate=0.5", "watch=a b") == 0

    submit, log, ls = flwr.asked
    assert submit[:4] == ["run", str(PYPROJECT.parent), "--format", "json"]
    assert submit[submit.index("--federation-config") + 1] == str(SIMULATION)
    merged = tomli.loads(flwr.config.read_text())
    expected = {
        **read_experiment("drawn-iid"),
        "seed": 7,
        "learning-rate": 0.5,
        "watch": "a b",
    }
    assert merged == expected
    assert log == ["log", "77", "--stream"]
    assert ls == ["ls", "--run-id", "77", "--format", "json"]
    out = capfd.readouterr().out
    assert "the log" in out
    assert "Run 77: finished:completed" in out


@pytest.mark.parametrize(
    ("status", "number"),
    [("completed", 77), ("stopped", 77), ("failed", 77), ("running", 77), ("completed", 78)],
)
def test_a_run_on_this_machine_need_not_be_asked_about_once_it_is_done(
    call: Call, flwr: Flwr, capfd: Capture, tmp_path: Path, status: str, number: int
) -> None:
    """If the directory is another run's, what Flower says is read to the end."""
    info = {"status": status, "flwr_run_ids": [5, number], "reason": "no power"}
    (tmp_path / "run.json").write_text(json.dumps(info))
    line = f"INFO :      Run directory: {tmp_path}"
    flwr.says(log=f"{line}\nrounds\n{line}\nthe engine ends")
    assert call("run", "drawn-iid") == (status == "failed")
    done, (out, err) = number == 77 and status != "running", capfd.readouterr()
    assert [words[0] for words in flwr.asked] == ["run", "log"] + ["ls"] * (not done)
    assert ("the engine ends" in out) is not done
    assert f"Run 77: {status if done else 'finished:completed'}" in out
    line = f"celeba-fl: the run failed: no power; {tmp_path / 'log.txt'} has all that is known"
    assert (line in err) is (status == "failed")


def test_a_log_that_breaks_off_is_followed_again_until_the_run_has_ended(
    call: Call, flwr: Flwr, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy SuperLink breaks it off, and does not always say how the run is."""
    monkeypatch.setattr("celeba_fl.launch.flower.PAUSE_SECONDS", 0)
    runs = [{"status": "running", "status-details": "N/A"}]
    running, silent = {"success": True, "runs": runs}, {"success": False, "error-message": "busy"}
    runs = [{"status": "finished:completed", "status-details": ""}]
    flwr.says(
        log=["round 1", "round 1", "round 1\nround 2"],
        ls=[running, silent, running, {"success": True, "runs": runs}],
    )
    assert call("run", "drawn-iid", "sites") == 0
    asked = " ".join(words[0] for words in flwr.asked)
    assert asked == "run log ls log ls ls log ls"
    out, err = capfd.readouterr()
    lines = [line for line in out.splitlines() if line.startswith("round")]
    assert lines == ["round 1", "round 2"]
    assert err.count("The log of run 77 broke off") == 2
    monkeypatch.setattr("celeba_fl.launch.flower.TRIES", 2)
    flwr.says(ls=silent)
    assert call("run", "drawn-iid", "sites") == 2
    assert "flwr ls: busy" in capfd.readouterr().err


def test_paths_are_those_of_the_command_and_not_of_the_superlink(
    call: Call, monkeypatch: pytest.MonkeyPatch, flwr: Flwr, tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").touch()
    (tmp_path / "drawn").mkdir()
    monkeypatch.chdir(tmp_path)
    words = ["dataset=drawn", "teacher=labels.csv", "weights=there.pt", "home=~/x", "results-dir=a"]
    assert call("run", "drawn-iid", *words) == 0
    merged = tomli.loads(flwr.config.read_text())
    assert merged["teacher"] == str(tmp_path / "labels.csv")
    assert merged["results-dir"] == str(tmp_path / "a")
    assert [merged[key] for key in ("dataset", "weights", "home")] == ["drawn", "there.pt", "~/x"]

    assert call("run", "drawn-iid", "sites", *words) == 0
    assert tomli.loads(flwr.config.read_text())["teacher"] == "labels.csv"


@pytest.mark.parametrize("name", ["interrupted", "inter", "latest", "there"])
def test_a_run_to_resume_is_found_before_anything_starts(
    call: Call, monkeypatch: pytest.MonkeyPatch, flwr: Flwr, tmp_path: Path, name: str
) -> None:
    config = app_here().load(read_experiment("drawn-iid")).to_dict()
    there = tmp_path / "home" / "runs" / "there"
    (there / "checkpoints").mkdir(parents=True)
    (there / "checkpoints" / "round-0001.safetensors").touch()
    said = {"status": "failed", "updated": "2026-11-25T20:01:08+00:00", "config": config}
    (there / "run.json").write_text(json.dumps(said))
    give_name(there, "interrupted")
    monkeypatch.chdir(there.parent)
    assert call("run", "drawn-iid", f"resume={name}") == 0
    assert tomli.loads(flwr.config.read_text())["resume"] == str(there)
    # Those of a deployment are its server's.
    assert call("run", "drawn-iid", "sites", f"resume={name}") == 0
    assert tomli.loads(flwr.config.read_text())["resume"] == name


@pytest.mark.parametrize("how", [(), ("--inline",)])
def test_nothing_starts_where_there_is_no_run_to_resume(
    call: Call, flwr: Flwr, capsys: Capture, how: tuple[str, ...], tmp_path: Path
) -> None:
    there = tmp_path / "home" / "runs" / "there"
    there.mkdir(parents=True)
    (there / "run.json").write_text("{")
    for key in ("resume", "join"):
        assert call("run", "drawn-iid", f"{key}=thee", *how) == 2
        error = capsys.readouterr().err
        assert "'thee' is neither a run directory nor the name of a run in" in error
        assert "there is 'there' (there)" in error
    assert not (flwr.folder / "log").exists()


def test_a_run_of_ones_own_experiment_is_called_by_its_file(
    call: Call, flwr: Flwr, experiment: str, tmp_path: Path
) -> None:
    nodes = tmp_path / "three.toml"
    nodes.write_text("num-supernodes = 3\n")
    words = ("run", experiment, "weighting=uniform", "--federation", str(nodes))
    for _ in range(2):
        assert call(*words, "--inline") == 0
    assert call(*words, "name=by hand", "--inline") == 0
    names = ["adding weighting=uniform", "adding weighting=uniform 2", "by hand"]
    assert sorted(info.name for info in read_runs(tmp_path / "runs")) == names
    assert call(*words) == 0
    assert tomli.loads(flwr.config.read_text())["name"] == "adding weighting=uniform"


def test_a_federation_that_flower_would_not_take_is_one_line(
    call: Call, flwr: Flwr, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "own.toml").write_text("options.num-supernodes = 10\n")
    assert call("run", "drawn-iid", "--federation", str(tmp_path / "own.toml")) == 2
    assert "options = {'num-supernodes': 10}: refused by Flower" in capsys.readouterr().err


def test_a_terminal_of_ascii_gets_escapes(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "runs" / "Gl\u00fchw\u00fcrmchen"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{")
    command = [PYTHON, "-c", "from celeba_fl.cli import main; main()", "runs"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "200"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Gl\\xfchw" in done.stdout


@pytest.mark.parametrize("status", ["finished:failed", "finished:stopped"])
def test_only_a_completed_run_is_a_success(
    call: Call, flwr: Flwr, capfd: Capture, status: str
) -> None:
    details = {"status": status, "status-details": "no power"}
    flwr.says(ls={"success": True, "runs": [details]})
    assert call("run", "drawn-iid") == 1
    out, err = capfd.readouterr()
    assert f"Run 77: {status} no power" in out
    assert ("celeba-fl: the run failed: no power; flwr log 77" in err) is ("failed" in status)


def test_a_run_that_is_refused_says_why(call: Call, flwr: Flwr, capfd: Capture) -> None:
    flwr.says(run={"success": False, "error-message": "no such connection"})
    assert call("run", "drawn-iid") == 2
    assert capfd.readouterr().err == "celeba-fl: flwr run: no such connection\n"


def test_a_flwr_that_says_no_json_is_quoted(call: Call, flwr: Flwr, capfd: Capture) -> None:
    (flwr.folder / "flwr").write_text(f"#!{PYTHON}\nprint('out of order')\n")
    assert call("run", "drawn-iid") == 2
    assert "flwr run: out of order" in capfd.readouterr().err


def test_a_superlink_gets_no_federation_of_ours(call: Call, flwr: Flwr, tmp_path: Path) -> None:
    assert call("run", "drawn-iid", "hospital", "seed=7") == 0
    submit, log, ls = flwr.asked
    assert submit[:3] == ["run", str(PYPROJECT.parent), "hospital"]
    assert "--federation-config" not in submit
    assert log[:3] == ["log", "77", "hospital"]
    assert ls[:2] == ["ls", "hospital"]

    own = str(tmp_path / "own.toml")
    assert call("run", "drawn-iid", "hospital", "--federation", own) == 0
    submit = flwr.asked[3]
    assert submit[submit.index("--federation-config") + 1] == own


def test_flower_stays_off_the_network_unless_it_is_told_otherwise(
    call: Call, monkeypatch: pytest.MonkeyPatch, flwr: Flwr
) -> None:
    monkeypatch.delenv("FLWR_TELEMETRY_ENABLED", raising=False)
    call("run", "drawn-iid")
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    call("run", "drawn-iid")
    told = [json.loads(line)[1] for line in (flwr.folder / "log").read_text().splitlines()]
    assert told == ["0"] * 3 + ["1"] * 3


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Directories of a run that is complete, of one that failed, and of one that is unreadable."""
    folder = tmp_path / "home" / "runs"
    good = run_adding(folder, num_server_rounds=3, name="A good run of ours, with what it takes")
    good = good.rename(folder / "2001-01-01_00-00-00_1")
    (good / "summary.json").write_text(
        '{"test_accuracy": 0.81234, "test_auroc": null, "test_balanced_accuracy": 0.0, "n": 3}'
    )
    with pytest.raises(InputError):
        run_adding(folder, watch="[/loss]", name="failed one")
    broken = folder / "2000-01-01_00-00-00_1"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    return [good, max(folder.glob("2*")), broken]


def test_runs(call: Call, capsys: Capture, three: list[Path]) -> None:
    assert call("runs") == 0
    header, failed, good, broken = capsys.readouterr().out.splitlines()
    # In columns, whatever they hold.
    said = {
        title: good[header.index(title) :].split()[0] for title in header.split() if title != "name"
    }
    assert said == {
        "status": "completed",
        "clients": "3",
        "strategy": "fedavg",
        "balanced": "0.000",
        "rounds": "3",
        "accuracy": "0.812",
        "task": "adding:Adding",
        "dataset": "drawn",
        "directory": three[0].name,
    } | ({"partitioner": said["partitioner"]} if "partitioner" in said else {})
    assert good.startswith("A good run of ours, with what it takes  completed")
    assert failed.startswith("failed one  ")
    assert "failed" in failed[header.index("status") :]
    assert broken.split()[:2] == [three[2].name, "unreadable"]


def test_a_list_of_runs_has_a_line_a_run_however_narrow_it_is(
    call: Call, capsys: Capture, three: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "78")
    assert call("runs") == 0
    header, failed, good, broken = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "status", "clients", "strategy", "balanced"]
    assert good.split("  ")[0] == "A … run of ours, with what it takes"
    assert max(map(len, (header, failed, good, broken))) <= 78


def test_a_run_is_told_of_in_full(
    call: Call, capsys: Capture, three: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert call("runs", "failed") == 0
    lines = capsys.readouterr().out.splitlines()
    said = " ".join(" ".join(lines).split())
    assert f"directory {three[1]} " in said
    assert "reason watch = '[/loss]': must be one of loss, " in said
    assert "settings task = adding:Adding" in said.replace("watch = [/loss], ", "")
    assert max(len(line) for line in lines if str(three[1]) not in line) <= 60

    assert call("runs", "failed", "--name", "another", "--note", "Never again.") == 0
    name, note, *_ = capsys.readouterr().out.splitlines()
    assert (name.split(), note.split()) == (["name", "another"], ["note", "Never", "again."])
    assert call("runs", "another", "--name", "A good run of ours, with what it takes") == 0
    assert "what it takes 2\nnote  " in capsys.readouterr().out
    assert call("runs", "--name", "a") == 2
    assert "say of which run" in capsys.readouterr().err


def test_runs_for_programs(call: Call, capsys: Capture, three: list[Path]) -> None:
    assert call("runs", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert [run["path"] for run in said] == [str(three[i]) for i in (1, 0, 2)]
    assert said[1]["test"]["test_accuracy"] == 0.81234
    assert (said[1]["clients"], said[1]["strategy"], said[1]["rounds"]) == (3, "fedavg", 3)
    assert said[0]["reason"].startswith("watch = '[/loss]'")
    assert call("runs", "A good", "--json") == 0
    one = json.loads(capsys.readouterr().out)
    assert one.pop("config")["task"] == "adding:Adding"
    assert one == said[1]


def test_no_runs(call: Call, capsys: Capture) -> None:
    assert call("runs") == 0
    assert "There is no run in" in capsys.readouterr().out
    assert call("runs", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []
