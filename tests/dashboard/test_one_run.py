"""The page of a run: what its files say, as soon as they say it, and whatever they say."""

import json
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest
from toys import write_run
from words import numbers, text_of

from celeba_fl.dashboard import one_run
from celeba_fl.dashboard.one_run import PARTS
from celeba_fl.runs.tables import read_csv

Open = Callable[..., AppTest]
CONFIG = {"task": "attributes", "dataset": "drawn", "num-server-rounds": 3}


def show(page: AppTest, part: str) -> AppTest:
    return page.segmented_control(key="part").set_value(part).run()


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All texts in a description of a chart, with the keys that they stand under."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from leaves(one, name)
    elif isinstance(value, list):
        for one in value:
            yield from leaves(one, key)


def test_without_runs(runs: Path, page: Open) -> None:
    assert "There is no run in" in text_of(page("one_run"))


def test_the_run_of_the_address_is_shown(runs: Path, run: Path, page: Open) -> None:
    write_run(runs / "zzz", info={"config": CONFIG})
    assert page("one_run").selectbox(key="run").value == "zzz"
    said = {"state": "waiting", "clients": 3, "online": 2, "updated": f"{datetime.now(UTC)}"}
    (run / "serving.json").write_text(json.dumps(said))
    opened = page("one_run", run=run.name)
    assert opened.selectbox(key="run").value == run.name
    assert "Face attributes on CelebA, FedAvg, 3 simulated clients, IID" in text_of(opened)
    assert "Open to more clients, now waiting: 3 are in the model, and 2 of" in text_of(opened)
    assert page("one_run", run="of another machine").selectbox(key="run").value == "zzz"


def test_figures_and_curves_are_those_of_the_files(run: Path, page: Open) -> None:
    opened = page("one_run")
    summary = json.loads((run / "summary.json").read_text())
    shown = {metric.label: metric.value for metric in opened.metric}
    assert shown["AUROC"] == f"{summary['test_auroc']:.3f}"
    assert shown["balanced accuracy"] == f"{summary['test_balanced_accuracy']:.3f}"
    assert "2 of 2 rounds" in next(bar.text for bar in opened.get("progress"))
    rows = numbers(opened, "curves-0-0")
    test = [row["balanced accuracy"] for row in rows if row["series"] == "test"]
    column = [float(row["test_balanced_accuracy"]) for row in read_csv(run / "rounds.csv")]
    assert test == column


def test_every_part_is_shown_with_all_charts(run: Path, page: Open) -> None:
    opened = page("one_run")
    charts = {}
    for part in opened.segmented_control(key="part").options:
        if part != "Images":
            said = text_of(show(opened, part))
            assert "cannot be shown" not in said
            charts[part] = len(opened.get("vega_lite_chart"))
    assert charts == {
        "Learning": 6,
        "Clients": 3,
        "Data": 2,
        "Attributes": 2,
        "Probabilities": 1,
        "Groups": 3,
        "Log": 0,
        "Settings": 0,
    }
    assert "num-server-rounds" in set(opened.dataframe[0].value["key"])


def test_clients_can_be_highlighted(run: Path, page: Open) -> None:
    opened = show(page("one_run"), "Clients")
    opened.multiselect(key="highlighted").set_value(["1"]).run()
    last = [r for r in read_csv(run / "clients.csv") if (r["round"], r["client"]) == ("2", "1")]
    assert f"client 1 {float(last[0]['valid_accuracy']):.3f}" in text_of(opened)
    opened.selectbox(key="column").set_value("local_loss").run()
    rows = [row for row in numbers(opened, "client-curves") if row["series"] == "client 1"]
    assert [row["local loss"] for row in rows] == [
        float(row["local_loss"])
        for row in read_csv(run / "clients.csv")
        if row["client"] == "1" and row["local_loss"]
    ]


def test_of_many_clients_a_sample_has_a_line_each(going: Path, page: Open) -> None:
    names = range(1000)
    rows = [f"1,{name},3,{name / 1000}" for name in names]
    (going / "clients.csv").write_text(
        "\n".join(["round,client,num_examples,valid_accuracy", *rows, ""])
    )
    opened = show(page("one_run"), "Clients")
    opened.multiselect(key="highlighted").set_value(["7"]).run()
    assert "200 of them have a line of their own here, and any that is" in text_of(opened)
    assert "the median is 0.499, from 0.000 to 0.999" in text_of(opened)
    assert len(numbers(opened, "client-curves")) == 200 + 2


def test_any_attribute_can_be_compared_over_groups(run: Path, page: Open) -> None:
    opened = show(page("one_run"), "Groups")
    opened.selectbox(key="grouping").set_value("Young").run()
    opened.selectbox(key="attribute").set_value("Smiling").run()
    (row,) = [
        row
        for row in read_csv(run / "fairness.csv")
        if (row["split"], row["grouping"], row["attribute"]) == ("test", "Young", "Smiling")
    ]
    gap = float(row["equalized_odds_difference"])
    assert "Smiling by Young: true and false positive rates" in text_of(opened)
    assert f"equalized odds difference is {gap:.3f}" in text_of(opened)


@pytest.fixture
def going(runs: Path) -> Path:
    """A run in its second round."""
    rows = "round,valid_loss,valid_accuracy\n0,0.7,0.5\n1,0.6,0.8\n"
    path = write_run(
        runs / "going", info={"status": "running", "config": CONFIG}, csv={"rounds": rows}
    )
    said = {"round": 2, "phase": "train", "asked": 8, "replied": 3, "failed": 1}
    (path / "progress.json").write_text(json.dumps({**said, "since": time.time() - 60}))
    return path


def test_the_round_in_progress(going: Path, page: Open) -> None:
    said = text_of(page("one_run"))
    assert "▶ running" in said
    answered = "3 of 8 clients have answered, 1 failed"
    assert re.search(rf"Round 2, evaluating the last model, then .*: {answered}, [67]\d s", said)
    (going / "progress.json").unlink()
    assert "Preparing" in text_of(page("one_run"))


def test_an_asynchronous_round_in_progress(going: Path, page: Open) -> None:
    said = {"round": 8, "phase": "train", "asked": 5, "replied": 3, "failed": 1, "since": 0}
    (going / "progress.json").write_text(json.dumps({**said, "under_way": 12}))
    shown = text_of(page("one_run"))
    assert "Version 7: 3 of 5 answers for the next one are here, 1 failed, and 12 clients" in shown


def test_a_new_round_is_shown(going: Path, page: Open) -> None:
    opened = page("one_run")
    assert {m.label: m.value for m in opened.metric}["accuracy"] == "0.800"
    with (going / "rounds.csv").open("a") as file:
        file.write("2,0.5,0.9\n")
    opened.run()
    assert {m.label: m.value for m in opened.metric}["accuracy"] == "0.900"
    assert "2 of 3 rounds" in next(bar.text for bar in opened.get("progress"))


def test_rounds_that_are_quicker_than_the_page_do_not_keep_it_from_being_drawn(
    going: Path, page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = count()
    monkeypatch.setattr(one_run, "_version", lambda path: ("running", next(versions), ""))
    assert {m.label: m.value for m in page("one_run").metric}["accuracy"] == "0.800"


def test_the_page_rests_between_two_drawings() -> None:
    shown, newer = ("running", 1, ""), ("running", 2, "")
    # Drawn from 10.0 to 10.5, then, by a slow machine, from 10 to 16.
    quick, slow = (10.0, 10.5), (10.0, 16.0)
    assert not one_run.due(newer, shown, *quick, 12.0)
    assert one_run.due(newer, shown, *quick, 12.5)
    assert not one_run.due(newer, shown, *slow, 21.0)
    assert one_run.due(newer, shown, *slow, 22.0)
    for other in (("completed", 2, ""), ("running", 1, "stopping")):
        assert one_run.due(other, shown, *slow, 16.0)


def test_tables_of_a_task_are_shown(going: Path, page: Open) -> None:
    assert "Tables" not in page("one_run").segmented_control(key="part").options
    (going / "soil_types.csv").write_text("soil,fields\n**loam**,3\n")
    opened = show(page("one_run"), "Tables")
    assert "**Soil types**" in text_of(opened)
    (row,) = opened.dataframe[0].value.to_dict("records")
    assert row == {"soil": "**loam**", "fields": "3"}
    with (going / "soil_types.csv").open("a") as file:
        file.write("clay,4\n")
    assert len(opened.run().dataframe[0].value) == 2


def test_parts_that_are_still_to_come_say_so(going: Path, page: Open) -> None:
    opened = page("one_run")
    assert "The clients have not reported yet" in text_of(show(opened, "Data"))
    assert "No client has been evaluated yet" in text_of(show(opened, "Clients"))
    for part in ("Attributes", "Groups"):
        assert "measured at the end" in text_of(show(opened, part))


def test_what_a_task_does_not_measure_is_not_offered_once_the_run_is_over(
    going: Path, page: Open
) -> None:
    info = json.loads((going / "run.json").read_text())
    (going / "run.json").write_text(json.dumps({**info, "status": "completed"}))
    offered = page("one_run").segmented_control(key="part").options
    assert "Learning" in offered
    assert not {"Attributes", "Groups"} & {*offered}


def test_grids_of_images(going: Path, page: Open) -> None:
    assert "Images" not in page("one_run").segmented_control(key="part").options
    (going / "samples").mkdir()
    for number in (5, 10):
        image = Image.fromarray(np.full((8, 8, 3), number, np.uint8))
        image.save(going / "samples" / f"round-{number:04d}.png")
    opened = show(page("one_run"), "Images")
    assert opened.select_slider[0].value == "round 0010"
    opened.select_slider[0].set_value("round 0005").run()
    text_of(opened)
    (going / "samples" / "round-0010.png").write_bytes(b"half a pict")
    assert "cannot be shown" in text_of(show(page("one_run"), "Images"))


# ---- broken runs --------------------------------------------------------------------------

FILES: tuple[str, ...] = (
    "run.json",
    "progress.json",
    "summary.json",
    "rounds.csv",
    "clients.csv",
    "baseline.json",
)
FILES += ("partitions.csv", "attributes.csv", "groups.csv", "fairness.csv", "test_scores.parquet")


def open_all(page: Open) -> str:
    """All that a broken run's page says, on all of its parts."""
    opened = page("one_run")
    said = text_of(opened)
    for part in PARTS if opened.get("segmented_control") else ():
        if part in opened.segmented_control(key="part").options:
            said += text_of(show(opened, part))
    return said


JUNK = "\x00\xff\x00junk,\n\n"


@pytest.fixture
def quick(run: Path) -> Path:
    """The run without what takes long to judge."""
    (run / "test_scores.parquet").unlink()
    return run


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((name, "[" * 100_000) for name in FILES if name.endswith("json")),
        *((name, JUNK) for name in FILES),
        *(("run.json", content) for content in ("", "[1, 2]", "{}")),
        *((name, "a,b\n1,2\n") for name in FILES if name.endswith("csv")),
        *(("rounds.csv", content) for content in ("", "round\n", "round\nx\n")),
    ],
)
def test_no_broken_file_takes_the_page_down(
    quick: Path, page: Open, name: str, content: str
) -> None:
    (quick / name).write_bytes(content.encode("latin-1"))
    said = text_of(page("one_run"))
    if name == "run.json":
        assert "unreadable: " in said
        assert "run.json cannot be read" in said or "'updated'" in said
    elif content == JUNK and name != "progress.json":
        assert f"{name} cannot be read" in said


@pytest.mark.parametrize("seed", range(4))
def test_nor_do_several(quick: Path, page: Open, seed: int) -> None:
    """Cut off anywhere, overwritten in the middle, gone, or a folder instead."""
    chance = random.Random(seed)
    for name in chance.sample(FILES[1:], 5):
        path = quick / name
        data = path.read_bytes() if path.exists() else b""
        kind, place = chance.randrange(4), chance.randrange(len(data) + 1)
        path.unlink(missing_ok=True)
        if kind == 0:
            path.write_bytes(data[:place])
        elif kind == 1:
            path.write_bytes(data[:place] + chance.randbytes(20) + data[place + 20 :])
        elif kind == 2:
            path.mkdir()
    open_all(page)


@pytest.mark.parametrize(
    "values",
    [
        {"config": "none", "dataset": [1], "num_clients": {}},
        {"config": {"num-server-rounds": "many", "groupings": 3}, "seconds": "long"},
        {"status": ["running"], "reason": {"a": 1}, "started": 5},
        {"config": {"num-server-rounds": -1}, "flwr_run_ids": None, "packages": "x"},
    ],
)
def test_values_of_other_types(quick: Path, page: Open, values: dict[str, object]) -> None:
    info = json.loads((quick / "run.json").read_text())
    (quick / "run.json").write_text(json.dumps({**info, **values}))
    open_all(page)


def test_a_newer_run_does_not_push_itself_in_front(runs: Path, run: Path, page: Open) -> None:
    opened = page("one_run")
    assert opened.query_params["run"] == run.name
    write_run(runs / "zzz", info={"config": CONFIG})
    assert opened.run().selectbox(key="run").value == run.name


def test_a_run_that_was_removed(run: Path, page: Open) -> None:
    gone = shutil.copytree(run, run.with_name("aaa"))
    assert "There is no run aaa" not in text_of(page("one_run", run="aaa"))
    shutil.rmtree(gone)
    assert "There is no run aaa here" in text_of(page("one_run", run="aaa"))


def test_a_client_is_called_as_it_likes(going: Path, page: Open) -> None:
    """Names are shown as they are, and are no Markdown and no HTML."""
    name = "**<b>*$x$ :red[a] [l](http://e.org)<a href='http://e.org'>&amp;"
    rows = f'round,client,num_examples,valid_accuracy\n1,"{name}",3,0.5\n'
    (going / "clients.csv").write_text(rows)
    (going / "partitions.csv").write_text(f'client,num_examples,<a>=1\n"{name}",3,3\n')
    opened = show(page("one_run"), "Clients")
    opened.multiselect(key="highlighted").set_value([name]).run()
    assert f"client {name}" in [row["series"] for row in numbers(opened, "client-curves")]
    shown = [one.value for one in opened.caption if "x" in one.value]
    assert shown
    assert all(r"\*\*\<b\>\*\$x\$ \:red\[a\] \[l\]\(http\:" in value for value in shown)

    # To Vega, too, a name is a value among the rows: none is an expression, a field or a title.
    for part in ("Clients", "Data"):
        charts = show(opened, part).get("vega_lite_chart")
        assert charts
        for chart in charts:
            spec = json.loads(chart.proto.spec)
            for key, value in leaves(spec):
                assert "e.org" not in value or key in ("domain", "values", "datum"), (key, value)


def test_a_run_says_itself_in_a_sentence_and_has_its_log(run: Path, page: Open) -> None:
    opened = page("one_run")
    assert "3 simulated clients trained" in text_of(opened)
    (run / "log.txt").write_text("round 1: 2 of 3\n")
    assert show(opened.run(), "Log").code[0].value == "round 1: 2 of 3"
