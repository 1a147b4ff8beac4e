"""Sweeps: what ranks, what is run again and what is shown, with numbers by hand."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adding import Adding, Contrary, outcome, settings

from celeba_fl.common.errors import InputError
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.studies.sweep import Sweep, run_sweep, split_values


class Costly(Contrary):
    """Its score is a cost."""

    lower_is_better = ("loss", "score")


# In a round, weight becomes (1 + 2 + 3) / 3 more, or (1 + 4 + 9) / 6.
UNIFORM, EXAMPLES = 2.0, 14 / 6


def sweep(
    folder: Path, grid: dict[str, list[Any]], metric: str | None = None, **keys: Any
) -> Sweep:
    fixed = settings(folder, **{"task": "adding:Contrary", "seed": 0, **keys})
    return run_sweep(fixed, grid, 3, folder, metric)


def column(done: Sweep, name: str) -> list[Any]:
    return [row[name] for row in done.rows()]


GRID = {"weighting": ["uniform", "examples"], "num-server-rounds": [1, 2]}


# ---- values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1", ["1"]),
        ("1e-3,3e-3", ["1e-3", "3e-3"]),
        ("Male,Young", ["Male", "Young"]),
        ('"Male,Young"', ['"Male,Young"']),
        ("'Male,Young'", ["'Male,Young'"]),
        ('"Male,Young",Male', ['"Male,Young"', "Male"]),
        ("""a,"b,'c",'d,"e'""", ["a", """"b,'c\"""", """'d,"e'"""]),
        ("it's,1", ["it's", "1"]),
        ("1,", ["1"]),
        ("", [""]),
    ],
)
def test_values(text: str, values: list[str]) -> None:
    assert split_values(text) == values


# ---- rank ---------------------------------------------------------------------------------


def test_validation_ranks_and_test_does_not(tmp_path: Path) -> None:
    done = sweep(tmp_path, GRID)
    assert done.metric == "server_valid_score"
    assert [tuple(setting.values.values()) for setting in done.settings] == [
        ("examples", 2),
        ("uniform", 2),
        ("examples", 1),
        ("uniform", 1),
    ]
    scores = [2 * EXAMPLES, 2 * UNIFORM, EXAMPLES, UNIFORM]
    assert column(done, "server_valid_score") == pytest.approx(scores)
    assert column(done, "rank") == [1, 2, 3, 4]
    # Test would have had them the other way round.
    tested = [setting.test()["test_score"][0] for setting in done.settings]
    assert tested == sorted(tested)


def test_files(tmp_path: Path) -> None:
    done = sweep(tmp_path, GRID)
    rows = read_csv(tmp_path / "sweep.csv")
    assert list(rows[0]) == [
        *("rank", "weighting", "num-server-rounds", "seeds", "server_valid_score"),
        *("server_valid_score_std", "seconds", "runs", "reason"),
    ]
    assert [(row["rank"], row["weighting"]) for row in rows[:2]] == [
        ("1", "examples"),
        ("2", "uniform"),
    ]
    assert [row["runs"] for row in rows] == [s.runs[0].path.name for s in done.settings]
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("metric", ["server_valid_loss", "valid_score", "valid_loss"])
def test_less_is_better_of_a_loss(tmp_path: Path, metric: str) -> None:
    done = sweep(tmp_path, GRID, metric)
    assert done.metric == metric
    assert done.settings[0].values == {"weighting": "examples", "num-server-rounds": 2}


def test_a_task_says_of_what_less_is_better(tmp_path: Path) -> None:
    done = sweep(tmp_path, GRID, "valid_score", task=f"{__name__}:Costly")
    assert done.settings[0].values == {"weighting": "uniform", "num-server-rounds": 1}


def test_the_clients_validate_where_the_server_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Contrary, "evaluate_centrally", lambda self, arrays: {})
    done = sweep(tmp_path, {"weighting": ["uniform", "examples"]})
    assert done.metric == "valid_score"
    assert column(done, "valid_score") == pytest.approx([4 * EXAMPLES, 4 * UNIFORM])


def test_seeds_are_averaged_and_not_chosen(tmp_path: Path) -> None:
    done = sweep(tmp_path, {"seed": [0, 1, 5], "weighting": ["uniform", "examples"]})
    assert [setting.values["weighting"] for setting in done.settings] == ["examples", "uniform"]
    assert column(done, "server_valid_score") == pytest.approx([4 * EXAMPLES + 2, 4 * UNIFORM + 2])
    # Of 0, 1 and 5.
    assert column(done, "server_valid_score_std") == pytest.approx([7**0.5] * 2)
    assert column(done, "seeds") == [3, 3]
    assert done.verdict()[1].endswith("score -9.3333 ± 0.0000")


def test_seeds_alone(tmp_path: Path) -> None:
    done = sweep(tmp_path, {"seed": [0, 1]})
    assert done.verdict()[0] == "Best by server_valid_score: the only setting"
    assert not (tmp_path / "sweep.png").exists()


@pytest.mark.parametrize("metric", ["test_score", "train_score", "valid_nothing", "score"])
def test_only_validation_can_rank(tmp_path: Path, metric: str) -> None:
    with pytest.raises(InputError, match=f"'{metric}' cannot rank settings: .* valid_score"):
        sweep(tmp_path / "new", GRID, metric)
    assert not (tmp_path / "new").exists()


def test_every_point_is_checked_before_the_first_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="num-server-rounds = 0: must be at least 1"):
        sweep(tmp_path / "new", {"num-server-rounds": [1, 0]})
    assert not (tmp_path / "new").exists()


# ---- go on --------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Client and round of every training."""
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(
        Adding, "fault", staticmethod(lambda client, number: calls.append((client, number)))
    )
    return calls


def trained(asked: list[tuple[int, int]]) -> list[int]:
    """The rounds that client 0 trained in."""
    return [number for client, number in asked if client == 0 and number]


def test_an_interrupted_sweep_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[tuple[int, int]]
) -> None:
    whole = sweep(tmp_path / "whole", GRID)
    assert trained(asked) == [1, 1, 2, 1, 1, 2]
    seen: list[int] = []

    def interrupt(client: int, number: int) -> None:
        seen.append(number)
        if seen.count(2) == 2:  # in round 2 of the second point, when client 0 is done
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Adding, "fault", staticmethod(interrupt))
        with pytest.raises(KeyboardInterrupt):
            sweep(tmp_path / "parts", GRID)
    asked.clear()
    parts = sweep(tmp_path / "parts", GRID)

    assert trained(asked) == [2, 1, 1, 2]
    assert len(read_runs(tmp_path / "parts")) == 4
    for one, other in zip(whole.settings, parts.settings, strict=True):
        assert (one.values, one.scores) == (other.values, other.scores)
        assert outcome(one.runs[0].path) == outcome(other.runs[0].path)

    asked.clear()
    again = sweep(tmp_path / "parts", GRID)
    assert asked == []
    assert again.settings == parts.settings


def test_a_larger_grid_runs_only_what_is_new(tmp_path: Path, asked: list[tuple[int, int]]) -> None:
    sweep(tmp_path, {"num-server-rounds": [1, 2]})
    asked.clear()
    done = sweep(tmp_path, {"num-server-rounds": [3, 2, 2, 1]})
    assert trained(asked) == [1, 2, 3]
    assert column(done, "num-server-rounds") == [3, 2, 1]


def test_other_clients_are_another_sweep(tmp_path: Path, asked: list[tuple[int, int]]) -> None:
    sweep(tmp_path, {"num-server-rounds": [1]})
    asked.clear()
    fixed = settings(tmp_path, task="adding:Contrary", seed=0)
    done = run_sweep(fixed, {"num-server-rounds": [1]}, 2, tmp_path)
    assert trained(asked) == [1]
    assert column(done, "server_valid_score") == pytest.approx([5 / 3])


def test_a_setting_that_fails_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(client: int, number: int) -> None:
        if client == 2 and number:
            raise RuntimeError("no power")

    monkeypatch.setattr(Adding, "fault", staticmethod(fault))
    done = sweep(tmp_path, {"min-replies": [1.0, 0.5]})
    assert column(done, "min-replies") == [0.5, 1.0]
    assert column(done, "rank") == [1, None]
    assert column(done, "server_valid_score") == [pytest.approx(4 * 5 / 3), None]
    assert "at least 100% must (min-replies)" in done.rows()[1]["reason"]

    with pytest.raises(InputError, match=r"no setting .* server_valid_score .* \(min-replies\)"):
        sweep(tmp_path, {"min-replies": [1.0]})


# ---- shown --------------------------------------------------------------------------------


@pytest.fixture
def log() -> Iterator[list[str]]:
    """Every line of Flower's log and ours that people see."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("flwr").addHandler(handler)
    yield lines
    logging.getLogger("flwr").removeHandler(handler)


def test_progress_is_shown_and_test_only_of_the_best(tmp_path: Path, log: list[str]) -> None:
    done = sweep(tmp_path, GRID)
    points = [line for line in log if line.startswith("Point")]
    assert points[1] == "Point 2 of 4: weighting=uniform num-server-rounds=2"
    assert [line[:16] for line in log if line.startswith("Sweeping")] == [
        f"Sweeping: {n} of 4"[:16] for n in range(1, 5)
    ]
    assert done.verdict() == [
        "Best by server_valid_score: weighting=examples num-server-rounds=2",
        "Its test split, which decided nothing: score -4.6667",
    ]
    assert not any("test" in line for line in (*log, (tmp_path / "sweep.csv").read_text()))
    logging.getLogger("flwr").info("afterwards everything is shown")
    assert log[-1] == "afterwards everything is shown"


# ---- the main task ------------------------------------------------------------------------


def test_the_main_task(toy: dict[str, Any], tmp_path: Path) -> None:
    done = run_sweep(toy, {"learning-rate": [1e-3, 1e-2]}, 2, tmp_path)
    assert done.metric == "server_valid_loss"
    losses = column(done, "server_valid_loss")
    assert losses == sorted(losses)
    for setting in done.settings:
        last = read_csv(setting.runs[0].path / "rounds.csv")[-1]
        assert float(last["server_valid_loss"]) == setting.scores[0]
    assert "accuracy" in done.verdict()[1]
