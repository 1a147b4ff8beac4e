"""`celeba-fl withdraw`, `celeba-fl join` and `celeba-fl serve`; the real `flwr` is elsewhere."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import tomli
import tomli_w
from adding import settings
from fake_flwr import Flwr
from late import Late, keys, weight

from celeba_fl.runs.reading import read_run, read_runs
from celeba_fl.runs.tables import read_csv

Call = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def late(call: Call, tmp_path: Path) -> Path:
    """A run of clients 0 and 1 of three; ``three.toml`` is its federation."""
    folder = tmp_path / "home" / "runs"
    (tmp_path / "late.toml").write_text(tomli_w.dumps(keys(folder, clients="0,1")))
    (tmp_path / "three.toml").write_text("num-supernodes = 3\n")
    assert call("run", "late.toml", "--inline", "--federation", "three.toml") == 0
    return read_runs(folder)[0].path


HERE = ("--inline", "--federation", "three.toml")


def test_join_then_withdraw_then_join_again(call: Call, capsys: Capture, late: Path) -> None:
    assert call("join", "latest", *HERE) == 0
    assert weight(late) == 111
    capsys.readouterr()

    assert call("withdraw", late.name, "1") == 0
    assert weight(late) == 101
    said = capsys.readouterr().out
    assert f"1 has left {read_run(late).name}, whose head 3 is without it" in said
    assert "not overwritten" in said
    assert "Not made anew: figures on the clients' own images" in said
    assert str(late / "report.html") in said
    still = said[said.index("These files still hold the client (--everywhere") :].splitlines()[1:]
    assert f"{late.name}/heads/head-0002.safetensors" in still
    assert f"{late.name}/heads/head-0003.safetensors" not in still

    assert call("withdraw", late.name, "1", "--everywhere") == 0
    assert "Removed, since it held the client:\n" in capsys.readouterr().out
    assert not list((late / "checkpoints").iterdir())

    assert call("withdraw", late.name, "1", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["client"], told["head"], told["still_held_by"]) == ("1", 3, [])
    assert told["run"]["path"] == str(late)

    assert call("join", late.name, *HERE) == 0
    assert weight(late) == 101
    assert call("join", late.name, "--client", "1", *HERE) == 0
    assert weight(late) == 111


def test_a_join_that_cannot_be_exits_with_2(call: Call, capsys: Capture, late: Path) -> None:
    assert call("join", "latest", "--client", "7", *HERE) == 2
    assert "joining: 7 cannot join" in capsys.readouterr().err
    assert weight(late) == 11


def test_serve(call: Call, late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(seconds: float) -> None:
        raise KeyboardInterrupt

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=end)
    monkeypatch.setattr("celeba_fl.membership.serving.time", clock)
    assert call("serve", "latest", *HERE) == 0
    assert weight(late) == 111
    assert json.loads((late / "serving.json").read_text())["state"] == "ended"


def test_an_average_forgets_by_training_again(call: Call, capsys: Capture, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "runs"
    (tmp_path / "adding.toml").write_text(tomli_w.dumps(settings(folder)))
    (tmp_path / "three.toml").write_text("num-supernodes = 3\n")
    assert call("run", "adding.toml", *HERE) == 0
    (before,) = read_runs(folder)
    assert call("withdraw", before.path.name, "1") == 2
    said = capsys.readouterr().err
    assert "its model is an average over rounds" in said
    assert "Only training again without 1 forgets it" in said
    assert call("withdraw", before.path.name, "1", "--retrain", "--everywhere", *HERE) == 0
    (made,) = [run for run in read_runs(folder) if run.path != before.path]
    assert (made.config["clients"], made.seed) == ("0,2", before.seed)
    # (1 * 1 + 3 * 3) / 4 in each of four rounds.
    assert float(read_csv(made.path / "rounds.csv")[-1]["valid_score"]) == 10
    assert f"{made.path.name} has been trained without 1" in capsys.readouterr().out
    (record,) = json.loads((before.path / "withdrawals.json").read_text())["withdrawals"]
    assert (record["retrained_as"], bool(record["done"])) == (made.path.name, True)
    assert not (before.path / "model.safetensors").exists()
    assert (made.path / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("9", "--retrain"), "client '9' was not in it; there are 0, 1"),
        (("1", "--retrain"), "so that 1 can leave without --retrain"),
    ],
)
def test_what_is_not_trained_again(
    call: Call, capsys: Capture, late: Path, words: tuple[str, ...], message: str
) -> None:
    assert call("withdraw", late.name, *words, *HERE) == 2
    assert message in capsys.readouterr().err


def test_other_nodes_than_in_the_run_are_noticed(
    call: Call, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = keys(tmp_path / "home" / "runs", strategy="fedavg", keep_sums=False)
    (tmp_path / "late.toml").write_text(tomli_w.dumps(own))
    (tmp_path / "three.toml").write_text("num-supernodes = 3\n")
    assert call("run", "late.toml", *HERE) == 0
    monkeypatch.setattr(Late, "held", staticmethod(lambda client: 7))
    assert call("withdraw", "latest", "1", "--retrain", *HERE) == 2
    assert "client 0 holds 7 examples, and held 1, or others" in capsys.readouterr().err


def test_join_by_flower(call: Call, flwr: Flwr, late: Path) -> None:
    assert call("join", "latest", "there", "--client", "2") == 0
    submitted = flwr.asked[0]
    assert submitted[submitted.index("run") + 2] == "there"
    merged = tomli.loads(flwr.config.read_text())
    own = {"join": str(late), "joining": "2", "stay-open": False, "clients": "", "resume": ""}
    assert {key: merged[key] for key in own} == own
    assert (merged["keep-sums"], merged["results-dir"]) == (True, str(late.parent))


def test_an_interrupt_ends_a_run_that_is_served_by_flower(
    call: Call, flwr: Flwr, late: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("celeba_fl.launch.flower.RunLog.follow", interrupt)
    assert call("serve", "latest", "there") == 0
    assert (late / "stop").exists()
    assert call("join", "latest", "there") == 130
