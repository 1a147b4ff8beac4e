"""`celeba-fl baseline` and `celeba-fl sweep`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv

Call = Callable[..., int]
Capture = pytest.CaptureFixture[str]


def test_baseline(call: Call, capsys: Capture, run_here: Path) -> None:
    assert call("baseline") == 0
    made = json.loads((run_here / "baseline.json").read_text())
    out = capsys.readouterr().out
    assert f"{made['central']['test_accuracy']:.4f}" in out
    assert out.rstrip().endswith(str(run_here / "report.html"))


def test_studies_for_programs(
    call: Call, capsys: Capture, make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("home/runs").mkdir(parents=True)
    path = make_run("home/runs/by-hand")
    made = {"central": {"test_accuracy": 0.75}}
    rows = [{"client": "0", "accused": "", "excess": float("nan")}]
    monkeypatch.setattr("celeba_fl.studies.baseline.make_baseline", lambda info: made)
    monkeypatch.setattr("celeba_fl.studies.fairer.make_fairer", lambda *_: path)
    monkeypatch.setattr("celeba_fl.studies.contributions.make_contributions", lambda info: rows)
    assert call("contributions", "by", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [{**rows[0], "excess": None}]
    assert call("fairer", "by", "--penalty", "1", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["made_from"] == said["run"]
    assert said["run"]["path"] == str(path)
    assert call("baseline", "by", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert {key: said[key] for key in made} == made
    assert (said["run"]["path"], said["report"]) == (str(path), str(path / "report.html"))


def test_sweep_shows_test_once_and_of_the_best(
    call: Call, capfd: Capture, experiment: str, tmp_path: Path
) -> None:
    words = [experiment, "task=adding:Contrary", "weighting=uniform,examples", "seed=0"]
    assert call("sweep", *words, "--nodes", "3") == 0
    said = capfd.readouterr()
    assert said.out.count("-4.6667") == 1
    assert "Best by server_valid_score: weighting=examples\n" in said.out
    folder = tmp_path / "home" / "sweeps" / "adding"
    assert said.out.rstrip().endswith(str(folder / "sweep.csv"))
    assert len(read_runs(folder)) == 2

    assert call("sweep", *words, "--nodes", "3", "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["best"] == {"weighting": "examples"}
    assert found["test"]["test_score"] == pytest.approx([-14 / 3])
    assert [setting["rank"] for setting in found["settings"]] == [1, 2]
    assert (found["metric"], found["file"]) == ("server_valid_score", str(folder / "sweep.csv"))


def test_sweep_over_texts_with_commas(call: Call, capsys: Capture, experiment: str) -> None:
    words = [experiment, 'partition-by="Male,Young",Male', "num-server-rounds=1"]
    assert call("sweep", *words, "--nodes", "2", "--out", "here") == 0
    rows = read_csv(Path("here") / "sweep.csv")
    assert [row["partition-by"] for row in rows] == ["Male,Young", "Male"]
    assert "Best by server_valid_score: partition-by=Male,Young" in capsys.readouterr().out


def test_a_sweep_with_a_setting_that_fails_does_not_exit_with_0(
    call: Call, experiment: str
) -> None:
    words = [experiment, "weighting=uniform,examples", "num-server-rounds=1"]
    assert call("sweep", *words, "--nodes", "2", "--out", "here") == 0
    run = next(Path("here").glob("*/run.json"))
    other = {"status": "failed", "dataset": {"name": "other data"}}  # which cannot go on
    run.write_text(json.dumps({**json.loads(run.read_text()), **other}))
    assert call("sweep", *words, "--nodes", "2", "--out", "here") == 1


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("simulation", "'simulation': must be key=value"),
        ("sede=1,2", "did you mean 'seed'?"),
        ("seed=1,x", "seed = 'x': must be a whole number"),
    ],
)
def test_wrong_words_of_a_sweep(
    call: Call, capsys: Capture, experiment: str, word: str, message: str
) -> None:
    assert call("sweep", experiment, word) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--penalty", "1", "--budget", "1"]])
def test_fairer_takes_a_penalty_or_a_budget(call: Call, capsys: Capture, words: list[str]) -> None:
    assert call("fairer", *words) == 2
    assert "give either --penalty or --budget" in capsys.readouterr().err


def test_contributions_need_a_run_that_kept_each_client_s_sums(
    call: Call, capsys: Capture, run_here: Path
) -> None:
    assert call("contributions", run_here.name) == 2
    assert "has kept no client's sums; run it again with strategy" in capsys.readouterr().err


def test_fairer_needs_a_run_that_kept_its_sums(call: Call, capsys: Capture, run_here: Path) -> None:
    assert call("fairer", run_here.name, "--penalty", "1") == 2
    assert "has kept no sums of groups; run it again with" in capsys.readouterr().err
