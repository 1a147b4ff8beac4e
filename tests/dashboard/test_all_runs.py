"""The page of all runs."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from toys import png, write_run
from words import numbers, text_of

from celeba_fl.dashboard import watching

ROUNDS = "round,valid_loss,valid_accuracy,test_loss,test_accuracy\n0,0.7,0.5,0.7,0.5\n"
CONFIG = {
    "task": "attributes",
    "dataset": "drawn",
    "partitioner": "dirichlet",
    "dirichlet-alpha": 0.1,
    "strategy": "fedprox",
    "num-server-rounds": 4,
}
Open = Callable[..., AppTest]


def row(page: AppTest, number: int = 0) -> dict[str, object]:
    (table,) = page.dataframe
    return dict(table.value.iloc[number])


def test_without_runs_it_says_how_to_get_one(runs: Path, page: Open) -> None:
    assert "There is no run yet" in text_of(page("all_runs"))
    runs.rmdir()
    assert "There is no run yet" in text_of(page("all_runs"))


def test_a_run_in_one_row(runs: Path, page: Open) -> None:
    path = write_run(
        runs / "2026-11-24_10-00-00_1",
        info={"status": "running", "config": CONFIG, "num_clients": 5},
        csv={"rounds": f"{ROUNDS}1,0.6,0.8,0.6,0.75\n"},
    )
    opened = page("all_runs")
    said = row(opened)
    assert said["status"] == "▶ running"
    assert (said["done"], said["rounds"]) == (0.25, "1 of 4")
    assert said["accuracy"] == 0.75
    assert (said["who holds what"], said["strategy"]) == ("dirichlet (alpha 0.1)", "fedprox")
    assert (said["dataset"], said["clients"], said["directory"]) == ("drawn", "5", path.name)
    assert "1 run, 1 running" in text_of(opened)

    with (path / "rounds.csv").open("a") as file:
        file.write("2,0.5,0.9,0.5,0.85\n")
    assert (row(opened.run())["rounds"], row(opened)["accuracy"]) == ("2 of 4", 0.85)


def test_the_final_figures_count_and_the_newest_run_comes_first(runs: Path, page: Open) -> None:
    for number, accuracy in enumerate((0.7, 0.9)):
        write_run(
            runs / f"2026-11-2{number}_10-00-00_1",
            info={"config": CONFIG},
            csv={"rounds": ROUNDS},
            summary={"test_accuracy": accuracy, "test_auroc": None},
        )
    opened = page("all_runs")
    assert [row(opened, i)["accuracy"] for i in (0, 1)] == [0.9, 0.7]
    assert row(opened)["status"] == "✔ completed"
    assert (row(opened)["done"], row(opened)["rounds"]) == (1.0, "0 of at most 4")


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"status": "failed", "reason": "no faces"}, "✖ failed: no faces"),
        ({"status": "stopped", "reason": "target"}, "■ stopped: target"),
        (
            {"status": "running", "updated": (datetime.now(UTC) - timedelta(1)).isoformat()},
            "‖ interrupted",
        ),
        ({"status": "completed", "config": {"dataset": "\udcff"}}, "surrogates not allowed"),
        ({"status": "running", "updated": 5}, "? unreadable: fromisoformat: argument must be str"),
    ],
)
def test_how_a_run_stands(runs: Path, page: Open, info: dict[str, object], said: str) -> None:
    write_run(runs / "run", info=info)
    assert str(row(page("all_runs"))["status"]).endswith(said)


def test_runs_are_laid_over_each_other(runs: Path, page: Open) -> None:
    for i in range(3):
        rows = ROUNDS + f"1,0.6,0.{7 + i},0.6,0.{6 + i}\n" if i < 2 else "round\n"
        write_run(runs / f"run-{i}", info={"config": CONFIG}, csv={"rounds": rows})
    opened = page("all_runs")
    opened.multiselect(key="laid").set_value(["run-0", "run-1", "run-2"]).run()
    said = text_of(opened)
    assert "run-2 has no rounds to draw" in said
    assert "run-0: 0.600 after round 1" in said
    opened.selectbox(key="on").set_value("valid").run()
    opened.multiselect(key="metrics").set_value(["accuracy"]).run()
    assert ": 0.800 after round 1" in text_of(opened)
    opened.toggle(key="table-over-accuracy").set_value(True).run()
    table = opened.dataframe[-1].value
    assert list(table["accuracy, clients, validation"]) == [0.5, 0.7, 0.5, 0.8]


def test_a_run_in_short() -> None:
    assert watching.when("2026-11-24_05-50-39_8884039601696885109") == "2026-11-24 05:50:39 …5109"
    assert watching.when("my photos, 2026") == "my photos, 2026"


def test_a_run_is_opened_by_a_press_on_its_row(
    runs: Path, run: Path, app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(runs / "zzz", info={"config": CONFIG})
    draw = st.dataframe

    def press(rows: Any, **options: Any) -> Any:
        drawn = draw(rows, **options)
        if options.get("key") == "rows":
            drawn = SimpleNamespace(selection=SimpleNamespace(cells=[(1, "status")]))
        return drawn

    monkeypatch.setattr(st, "dataframe", press)
    app.run()
    assert app.selectbox(key="run").value == run.name
    assert f"completed** · {run.name}" in text_of(app)


def test_runs_are_searched_by_any_word(runs: Path, page: Open) -> None:
    write_run(runs / "one", info={"config": CONFIG})
    write_run(runs / "two", info={"config": {**CONFIG, "strategy": "krum"}})
    opened = page("all_runs")
    opened.text_input(key="search").set_value("KRUM drawn").run()
    assert row(opened)["strategy"] == "krum"
    assert "2 runs, 0 running. 1 are shown." in text_of(opened)


def test_curves_are_smoothed_and_drawn_by_time_and_settings_that_differ_listed(
    runs: Path, page: Open
) -> None:
    rows = "round,seconds,test_accuracy\n0,60,0.0\n1,60,1.0\n2,60,1.0\n"
    for name, strategy in (("one", "fedavg"), ("two", "krum")):
        config = {**CONFIG, "strategy": strategy}
        write_run(runs / name, info={"config": config}, csv={"rounds": rows})
    opened = page("all_runs")
    opened.multiselect(key="laid").set_value(["one", "two"]).run()
    (differ,) = [one.value for one in opened.dataframe if "setting" in one.value]
    assert differ.to_dict("records") == [{"setting": "strategy", "one": "fedavg", "two": "krum"}]
    opened.slider(key="smoothing").set_value(0.5).run()
    opened.segmented_control(key="by").set_value("minutes").run()
    opened.multiselect(key="metrics").set_value(["accuracy"]).run()
    assert "one: 1.000 after round 2" in text_of(opened)
    assert "smoothed by 0.5; these figures are not" in text_of(opened)
    points = [point for point in numbers(opened, "over-accuracy") if point["series"] == "one"]
    assert [(point["minutes"], point["accuracy, test"]) for point in points] == [
        (1.0, 0.0),
        (2.0, 0.5),
        (3.0, 0.75),
    ]


def test_a_sweep_is_shown(runs: Path, page: Open) -> None:
    folder = runs.parent / "sweeps" / "mine"
    folder.mkdir(parents=True)
    (folder / "sweep.csv").write_text("rank,seed\n1,7\n")
    (folder / "sweep.png").write_bytes(png(np.zeros((4, 4, 3), np.uint8)))
    opened = page("all_runs")
    assert "Sweep mine" in [one.label for one in opened.expander]
    assert opened.dataframe[-1].value.to_dict("records") == [{"rank": "1", "seed": "7"}]


def test_a_directory_whose_name_is_no_text_is_said_to_be_left_out(runs: Path, page: Open) -> None:
    write_run(runs / "run")
    (runs / os.fsdecode(b"\xff")).mkdir()
    said = text_of(page("all_runs"))
    assert "1 run, 0 running" in said
    assert "Not shown, since their names cannot be: 1." in said
    assert page("one_run").selectbox(key="run").value == "run"


def test_what_is_no_run_is_listed_with_its_reason(runs: Path, page: Open) -> None:
    (runs / "photos").mkdir()
    write_run(runs / "half")
    (runs / "half" / "run.json").write_text('{"status": "runn')
    write_run(runs / "list")
    (runs / "list" / "run.json").write_text(json.dumps([1]))
    opened = page("all_runs")
    reasons = {str(row(opened, i)["directory"]): str(row(opened, i)["status"]) for i in range(3)}
    assert "No such file" in reasons["photos"]
    assert "half/run.json cannot be read" in reasons["half"]
    assert "it is not a JSON object" in reasons["list"]
