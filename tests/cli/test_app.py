"""The `celeba-fl` command; what it does with the real `flwr` is tested in `integration`."""

import json
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tomli
import tomli_w
from adding import run as run_adding
from adding import settings
from safetensors.numpy import save

from celeba_fl.cli import app
from celeba_fl.common.bundle import PYPROJECT
from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.launch.experiments import EXPERIMENTS, SIMULATION, parse_pair, read_experiment
from celeba_fl.models.dcgan import NETWORK, initial_arrays
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CELEBA_FL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit status of a command line."""
    monkeypatch.setattr(sys, "argv", ["celeba-fl", *words])
    with pytest.raises(SystemExit) as ended:
        app.main()
    return int(ended.value.code or 0)


# ---- words --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("a=1", 1),
        ("a=1.0", 1.0),
        ("a=1e-3", 0.001),
        ("a=true", True),
        ("a=word", "word"),
        ("a=/a/b", "/a/b"),
        ("a='1'", "1"),
        ('a="x y"', "x y"),
        ("a=x=y", "x=y"),
        ("a=Male,Young", "Male,Young"),
        ("a=flwrlabs/celeba", "flwrlabs/celeba"),
        ("a=", ""),
    ],
)
def test_pairs(pair: str, value: Any) -> None:
    parsed = parse_pair(pair)
    assert parsed == ("a", value)
    assert type(parsed[1]) is type(value)


@pytest.mark.parametrize("name", ["drawn-iid", "drawn-iid.toml"])
def test_an_experiment_of_ours(name: str) -> None:
    assert read_experiment(name)["dataset"] == "drawn"


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.toml")), ids=lambda p: p.stem)
def test_all_our_experiments_are_valid(path: Path) -> None:
    RunConfig.load(read_experiment(path.stem))


def test_an_experiment_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("seed = 7\n")
    assert read_experiment(str(tmp_path / "mine.toml")) == {"seed": 7}


def test_an_experiment_that_there_is_not() -> None:
    with pytest.raises(InputError, match=r"no experiment 'mine': neither a file nor .*drawn-iid"):
        read_experiment("mine")


def test_an_experiment_that_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("seed: 7\n")
    with pytest.raises(InputError, match=r"mine\.toml: "):
        read_experiment("mine.toml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "nothing"], "no experiment 'nothing'"),
        (["run", "drawn-iid", "sede=1"], "did you mean 'seed'?"),
        (["run", "drawn-iid", "seed=-1"], "seed = -1: must be at least 0"),
        (["run", "drawn-iid", "seed=x"], "seed = 'x': must be a whole number"),
        (["run", "drawn-iid", "one", "two"], "one SuperLink at most"),
    ],
)
def test_wrong_words_get_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    assert call(monkeypatch, *words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("celeba-fl: ")
    assert message in said.err
    assert said.err.count("\n") == 1


# ---- inline -------------------------------------------------------------------------------


@pytest.fixture
def experiment(tmp_path: Path) -> str:
    """A file with an experiment of 2 rounds."""
    path = tmp_path / "adding.toml"
    path.write_text(tomli_w.dumps({**settings(tmp_path / "runs"), "num-server-rounds": 2}))
    return str(path)


def test_inline(monkeypatch: pytest.MonkeyPatch, experiment: str, tmp_path: Path) -> None:
    nodes = tmp_path / "three.toml"
    nodes.write_text("num-supernodes = 3\n")
    assert call(monkeypatch, "run", experiment, "--inline", "--federation", str(nodes)) == 0
    (said,) = read_runs(tmp_path / "runs")
    assert (said.status, said.num_clients, said.rounds) == ("completed", 3, 2)


def test_inline_takes_50_clients_by_default_and_overrides(
    monkeypatch: pytest.MonkeyPatch, experiment: str, tmp_path: Path
) -> None:
    words = ["run", experiment, "num-server-rounds=1", "weighting=uniform", "--inline"]
    assert call(monkeypatch, *words) == 0
    (said,) = read_runs(tmp_path / "runs")
    assert (said.num_clients, said.rounds) == (50, 1)
    # Of 1, 2, ... 50.
    assert float(read_csv(said.path / "rounds.csv")[1]["valid_score"]) == 25.5


def test_an_inline_run_that_fails_does_not_exit_with_0(
    monkeypatch: pytest.MonkeyPatch, experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", experiment, "watch=nothing", "--inline"]
    assert call(monkeypatch, *words) == 2
    assert "celeba-fl: watch = 'nothing': must be one of loss, score" in capsys.readouterr().err


# ---- flwr run -----------------------------------------------------------------------------

FLWR = """#!{python}
import json, os, shutil, sys
words = sys.argv[1:]
said = {said!r}
with open({log!r}, "a") as file:
    file.write(json.dumps([words, os.environ.get("FLWR_TELEMETRY_ENABLED")]) + "\\n")
if "--run-config" in words:
    shutil.copy(words[words.index("--run-config") + 1], {config!r})
print("a line of Flower's own")
print(json.dumps(said[words[0]]) if words[0] in said else "the log")
"""


class Flwr:
    """A `flwr` on the PATH that says what it is told to, and notes what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.toml"

    def says(self, **said: Any) -> None:
        run = {"success": True, "run-id": "77"}
        ls = {"success": True, "runs": [{"status": "finished:completed", "status-details": ""}]}
        script = FLWR.format(
            python=sys.executable,
            said={"run": run, "ls": ls, **said},
            log=str(self.folder / "log"),
            config=str(self.config),
        )
        (self.folder / "flwr").write_text(script)
        (self.folder / "flwr").chmod(0o755)

    @property
    def asked(self) -> list[list[str]]:
        return [json.loads(line)[0] for line in (self.folder / "log").read_text().splitlines()]


@pytest.fixture
def flwr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flwr:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    fake = Flwr(tmp_path / "bin")
    fake.says()
    return fake


def test_a_run_is_submitted_followed_and_asked_for_its_status(
    monkeypatch: pytest.MonkeyPatch, flwr: Flwr, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "run", "drawn-iid", "seed=7", "learning-rate=0.5", "task=a b") == 0

    submit, log, ls = flwr.asked
    assert submit[:4] == ["run", str(PYPROJECT.parent), "--format", "json"]
    assert submit[submit.index("--federation-config") + 1] == str(SIMULATION)
    merged = tomli.loads(flwr.config.read_text())
    expected = {
        **read_experiment("drawn-iid"),
        "seed": 7,
        "learning-rate": 0.5,
        "task": "a b",
    }
    assert merged == expected
    assert log == ["log", "77", "--stream"]
    assert ls == ["ls", "--run-id", "77", "--format", "json"]
    out = capfd.readouterr().out
    assert "the log" in out
    assert "Run 77: finished:completed" in out


def test_paths_are_those_of_the_command_and_not_of_the_superlink(
    monkeypatch: pytest.MonkeyPatch, flwr: Flwr, tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").touch()
    (tmp_path / "drawn").mkdir()
    monkeypatch.chdir(tmp_path)
    words = ["dataset=drawn", "teacher=labels.csv", "weights=there.pt", "home=~/x", "results-dir=a"]
    assert call(monkeypatch, "run", "drawn-iid", *words) == 0
    merged = tomli.loads(flwr.config.read_text())
    assert merged["teacher"] == str(tmp_path / "labels.csv")
    assert merged["results-dir"] == str(tmp_path / "a")
    assert [merged[key] for key in ("dataset", "weights", "home")] == ["drawn", "there.pt", "~/x"]

    assert call(monkeypatch, "run", "drawn-iid", "sites", *words) == 0
    assert tomli.loads(flwr.config.read_text())["teacher"] == "labels.csv"


@pytest.mark.parametrize("status", ["finished:failed", "finished:stopped", "running", "pending"])
def test_only_a_completed_run_is_a_success(
    monkeypatch: pytest.MonkeyPatch, flwr: Flwr, capfd: pytest.CaptureFixture[str], status: str
) -> None:
    details = {"status": status, "status-details": "no power"}
    flwr.says(ls={"success": True, "runs": [details]})
    assert call(monkeypatch, "run", "drawn-iid") == 1
    assert f"Run 77: {status} no power" in capfd.readouterr().out


def test_a_run_that_is_refused_says_why(
    monkeypatch: pytest.MonkeyPatch, flwr: Flwr, capfd: pytest.CaptureFixture[str]
) -> None:
    flwr.says(run={"success": False, "error-message": "no such connection"})
    assert call(monkeypatch, "run", "drawn-iid") == 2
    assert capfd.readouterr().err == "celeba-fl: flwr run: no such connection\n"


def test_a_flwr_that_says_no_json_is_quoted(
    monkeypatch: pytest.MonkeyPatch, flwr: Flwr, capfd: pytest.CaptureFixture[str]
) -> None:
    (flwr.folder / "flwr").write_text(f"#!{sys.executable}\nprint('out of order')\n")
    assert call(monkeypatch, "run", "drawn-iid") == 2
    assert "flwr run: out of order" in capfd.readouterr().err


def test_a_superlink_gets_no_federation_of_ours(
    monkeypatch: pytest.MonkeyPatch, flwr: Flwr, tmp_path: Path
) -> None:
    assert call(monkeypatch, "run", "drawn-iid", "hospital", "seed=7") == 0
    submit, log, ls = flwr.asked
    assert submit[:3] == ["run", str(PYPROJECT.parent), "hospital"]
    assert "--federation-config" not in submit
    assert log[:3] == ["log", "77", "hospital"]
    assert ls[:2] == ["ls", "hospital"]

    own = str(tmp_path / "own.toml")
    assert call(monkeypatch, "run", "drawn-iid", "hospital", "--federation", own) == 0
    submit = flwr.asked[3]
    assert submit[submit.index("--federation-config") + 1] == own


def test_flower_stays_off_the_network_unless_it_is_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, flwr: Flwr
) -> None:
    monkeypatch.delenv("FLWR_TELEMETRY_ENABLED", raising=False)
    call(monkeypatch, "run", "drawn-iid")
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    call(monkeypatch, "run", "drawn-iid")
    told = [json.loads(line)[1] for line in (flwr.folder / "log").read_text().splitlines()]
    assert told == ["0"] * 3 + ["1"] * 3


# ---- runs ---------------------------------------------------------------------------------


def test_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "home" / "runs"
    good = run_adding(folder, num_server_rounds=3)
    good = good.rename(folder / "2001-01-01_00-00-00_1")
    (good / "summary.json").write_text(
        '{"test_accuracy": 0.81234, "test_auroc": null, "test_balanced_accuracy": 0.0, "n": 3}'
    )
    with pytest.raises(InputError):
        run_adding(folder, watch="[/loss]")
    broken = folder / "2000-01-01_00-00-00_1"
    broken.mkdir()
    (broken / "run.json").write_text("{")

    monkeypatch.setenv("COLUMNS", "140")
    assert call(monkeypatch, "runs") == 0

    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if good.name in line]
    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    assert cells[:5] == [good.name, "completed", "3", "adding:Adding", "drawn"]
    assert cells[-2:] == ["0.812", "0.000"]
    assert any("failed: watch = '[/loss]'" in line for line in lines)
    (row,) = [line for line in lines if line.startswith(f"│ {broken.name}")]
    assert "unreadable" in row
    names = [line.split("│")[1].strip() for line in lines if line.startswith("│ 200")]
    assert names == [good.name, broken.name]


def test_no_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "runs") == 0
    assert "status" in capsys.readouterr().out


def test_help_names_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "--help")
    said: Callable[[str], bool] = capsys.readouterr().out.__contains__
    assert all(map(said, ("run", "runs", "--help")))


# ---- baseline, sweep, predict -------------------------------------------------------------


@pytest.fixture
def toy_run(monkeypatch: pytest.MonkeyPatch, toy: dict[str, Any], tmp_path: Path) -> Path:
    """A run of the main task with 2 clients, in the results directory."""
    keys = {key: value for key, value in toy.items() if key != "num-server-rounds"}
    (tmp_path / "toy.toml").write_text(tomli_w.dumps({**keys, "num-server-rounds": 1}))
    (tmp_path / "two.toml").write_text("num-supernodes = 2\n")
    assert call(monkeypatch, "run", "toy.toml", "--inline", "--federation", "two.toml") == 0
    return read_runs(tmp_path / "home" / "runs")[0].path


def test_baseline(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], toy_run: Path
) -> None:
    assert call(monkeypatch, "baseline") == 0
    made = json.loads((toy_run / "baseline.json").read_text())
    out = capsys.readouterr().out
    assert f"{made['central']['test_accuracy']:.4f}" in out
    assert out.rstrip().endswith(str(toy_run / "report.html"))


def test_predict(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    toy: dict[str, Any],
    toy_run: Path,
) -> None:
    capsys.readouterr()
    image = f"{toy['dataset']}/img_align_celeba/000001.jpg"
    assert call(monkeypatch, "predict", "--run", toy_run.name, image) == 0
    said = capsys.readouterr()
    assert "000001.jpg" in said.out
    assert said.out.count("%") == 40

    assert call(monkeypatch, "predict", "nothing.jpg", image, "--json") == 1
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert list(told["images"]) == [image]
    assert set(told["images"][image]["Male"]) == {"score", "probability", "present"}
    assert told["unreadable"] == {"nothing.jpg": "No such file or directory"}
    assert "celeba-fl: nothing.jpg: No such file or directory" in said.err


def test_predict_says_what_the_model_knows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "predict", "--help") == 0
    assert "aligned and cropped as CelebA's are" in " ".join(capsys.readouterr().out.split())


def test_sample(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    toy_run: Path,
    tmp_path: Path,
) -> None:
    assert call(monkeypatch, "sample", "--run", str(toy_run)) == 2
    assert "no model of the task dcgan" in capsys.readouterr().err

    run = tmp_path / "home" / "runs" / "run"
    shutil.copytree(toy_run, run)
    model = save(initial_arrays(maps=1, seed=0), {"network": NETWORK})
    (run / "model.safetensors").write_bytes(model)
    assert call(monkeypatch, "sample", "--count", "3", "--out", "new", "--seed", "1") == 0
    assert capsys.readouterr().out.split() == ["new/grid.png"]
    faces = {path.name for path in (tmp_path / "new").iterdir()}
    assert faces == {"face-0001.png", "face-0002.png", "face-0003.png", "grid.png"}

    assert call(monkeypatch, "sample", "--count", "2", "--out", "new") == 2
    assert capsys.readouterr().err == (
        "celeba-fl: new has faces already; move them away, or name another folder\n"
    )
    assert len(list((tmp_path / "new").iterdir())) == 4
    (tmp_path / "file").touch()
    for place in ("file", "file/sub", "/proc/new"):
        assert call(monkeypatch, "sample", "--count", "2", "--out", place) == 2
        assert f"celeba-fl: {place} cannot be written to: " in capsys.readouterr().err
    assert call(monkeypatch, "sample", "--count", "1000000000") == 2
    assert "100000" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("predict", "a.jpg"), ("baseline",), ("sample",)])
def test_without_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert call(monkeypatch, *words) == 2
    assert "celeba-fl: there is no run in " in capsys.readouterr().err


def test_sweep_shows_test_once_and_of_the_best(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    experiment: str,
    tmp_path: Path,
) -> None:
    words = [experiment, "task=adding:Contrary", "weighting=uniform,examples", "seed=0"]
    assert call(monkeypatch, "sweep", *words, "--nodes", "3") == 0
    said = capfd.readouterr()
    assert said.out.count("-4.6667") == 1
    assert "Best by server_valid_score: weighting=examples\n" in said.out
    folder = tmp_path / "home" / "sweeps" / "adding"
    assert said.out.rstrip().endswith(str(folder / "sweep.csv"))
    assert len(read_runs(folder)) == 2


def test_sweep_over_texts_with_commas(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], experiment: str
) -> None:
    words = [experiment, 'partition-by="Male,Young",Male', "num-server-rounds=1"]
    assert call(monkeypatch, "sweep", *words, "--nodes", "2", "--out", "here") == 0
    rows = read_csv(Path("here") / "sweep.csv")
    assert [row["partition-by"] for row in rows] == ["Male,Young", "Male"]
    assert "Best by server_valid_score: partition-by=Male,Young" in capsys.readouterr().out


def test_a_sweep_with_a_setting_that_fails_does_not_exit_with_0(
    monkeypatch: pytest.MonkeyPatch, experiment: str
) -> None:
    words = [experiment, "weighting=uniform,examples", "num-server-rounds=1"]
    assert call(monkeypatch, "sweep", *words, "--nodes", "2", "--out", "here") == 0
    run = next(Path("here").glob("*/run.json"))
    other = {"status": "failed", "dataset": {"name": "other data"}}  # which cannot go on
    run.write_text(json.dumps({**json.loads(run.read_text()), **other}))
    assert call(monkeypatch, "sweep", *words, "--nodes", "2", "--out", "here") == 1


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("simulation", "'simulation': must be key=value"),
        ("sede=1,2", "did you mean 'seed'?"),
        ("seed=1,x", "seed = 'x': must be a whole number"),
    ],
)
def test_wrong_words_of_a_sweep(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    experiment: str,
    word: str,
    message: str,
) -> None:
    assert call(monkeypatch, "sweep", experiment, word) == 2
    assert message in capsys.readouterr().err


# ---- credentials ---------------------------------------------------------------------------


def test_credentials_tell_their_expiry_and_who_gets_what(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--nodes", "2", "--host", "fl.example.org", "--host", "10.0.0.7", "--days", "9"]
    assert call(monkeypatch, "credentials", *words, "--out", str(tmp_path / "c")) == 0
    printed = capsys.readouterr().out
    expiry = datetime.now(UTC) + timedelta(days=9)
    assert f"fl.example.org, 10.0.0.7, valid until {expiry:%Y-%m-%d}" in printed
    assert sorted(path.name for path in (tmp_path / "c").glob("node-*")) == [
        "node-0.key",
        "node-0.pub",
        "node-1.key",
        "node-1.pub",
    ]
    assert call(monkeypatch, "credentials", *words, "--out", str(tmp_path / "c")) == 2
    assert "is there already" in capsys.readouterr().err
