"""`celeba-fl report` and `celeba-fl compare`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Call = Callable[..., int]
Capture = pytest.CaptureFixture[str]

MakeRun = Callable[..., Path]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results directory of a home that the commands use."""
    monkeypatch.setenv("CELEBA_FL_HOME", str(tmp_path))
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def test_report_takes_the_latest_run_a_name_or_a_folder(
    make_run: MakeRun, home: Path, call: Call, capsys: Capture
) -> None:
    paths = [make_run(f"runs/2026-01-0{day}_1") for day in (1, 2)]
    for words, path in (((), paths[1]), ((paths[0].name,), paths[0]), ((str(paths[0]),), paths[0])):
        assert call("report", *words) == 0
        assert capsys.readouterr().out.strip() == str(path / "report.html")
        (path / "report.html").unlink()


def test_report_with_charts_for_slides(make_run: MakeRun, home: Path, call: Call) -> None:
    rounds = "round,valid_loss\n0,0.7\n1,0.6\n"
    plots = make_run("runs/2026-01-01_1", csv={"rounds": rounds}) / "plots"
    assert call("report") == 0
    assert {path.name for path in plots.iterdir()} == {"rounds_loss.svg"}
    assert call("report", "--png") == 0
    assert {path.name for path in plots.iterdir()} == {"rounds_loss.svg", "rounds_loss.png"}


def test_report_of_what_is_no_run(home: Path, call: Call, capsys: Capture) -> None:
    assert call("report") == 2
    assert f"there is no run in {home}" in capsys.readouterr().err
    assert call("report", str(home)) == 2
    assert "is neither a run directory" in capsys.readouterr().err
    assert not (home / "report.html").exists()


def test_pages_for_programs(make_run: MakeRun, home: Path, call: Call, capsys: Capture) -> None:
    one = make_run("runs/one", info={"config": {"seed": 1}}, summary={"test_accuracy": 0.5})
    make_run("runs/other", info={"config": {"seed": 2}}, summary={"test_accuracy": 0.75})
    assert call("report", "one", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["report"] == str(one / "report.html")
    assert (said["run"]["name"], said["run"]["test"]) == ("one", {"test_accuracy": 0.5})
    assert call("compare", "on", "oth", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in said["runs"]] == ["one", "other"]
    assert (said["settings"], said["page"]) == ({"seed": [1, 2]}, "comparison.html")
    unknown = dict.fromkeys(("low", "high", "spread", "difference_low", "difference_high"))
    assert said["results"] == [
        {"model": "A: one", "figures": {"accuracy": {"value": 0.5, "difference": None, **unknown}}},
        {
            "model": "B: other",
            "figures": {"accuracy": {"value": 0.75, "difference": 0.25, **unknown}},
        },
    ]


def test_compare(make_run: MakeRun, home: Path, call: Call, capsys: Capture) -> None:
    names = [make_run(f"runs/2026-01-0{day}_1").name for day in (1, 2)]
    assert call("compare", *names) == 0
    assert (home.parent / "comparison.html").exists()
    assert call("compare", *names, "--out", "pages/both.html") == 0
    assert "2 runs compared" in (home.parent / "pages" / "both.html").read_text()
    assert call("compare", names[0]) == 2
    assert "compare needs two runs or more" in capsys.readouterr().err
