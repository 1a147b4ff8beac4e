"""The page of a run says what its files say, whatever state they are in."""

import json
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from adding import run as run_adding
from pages import PageParser, check_page
from PIL import Image

from celeba_fl.client_app import app as client_app
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.report import plots
from celeba_fl.report.ahead import writer
from celeba_fl.report.charts import WIDTH, table
from celeba_fl.report.helper import Helper
from celeba_fl.report.page import write_report
from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv
from celeba_fl.server_app import app as server_app

RESULTS = "Figures of the final model"
MakeRun = Callable[..., Path]


def read(path: Path) -> PageParser:
    """The page of a run directory, checked for what holds for every page."""
    parsed = PageParser(write_report(path))
    check_page(parsed)
    return parsed


@pytest.fixture
def run(toy_run: Path, tmp_path: Path) -> Path:
    """A copy of the toy run, to be changed."""
    return Path(shutil.copytree(toy_run, tmp_path / toy_run.name))


def three(value: str | float) -> str:
    return f"{float(value):.3f}" if value != "" else "\N{EN DASH}"


# ---- a whole run --------------------------------------------------------------------------


def test_figures_are_those_of_the_files(run: Path) -> None:
    parsed = read(run)
    summary = json.loads((run / "summary.json").read_text())
    for key, name in (
        ("balanced_accuracy", "balanced accuracy"),
        ("auroc", "AUROC"),
        ("average_precision", "average precision"),
        ("macro_f1", "macro F1"),
        ("accuracy", "accuracy"),
        ("loss", "loss (nats)"),
    ):
        value, *rest = parsed.row(RESULTS, name)
        figure, low, high = value.replace("[", "").replace("]", "").replace(",", "").split()
        assert figure == three(summary[f"test_{key}"])
        assert float(low) <= float(high)
        assert len(rest) == 1  # no column is without any figure
    assert parsed.row(RESULTS, "accuracy")[-1] == three(summary["test_majority_accuracy"])
    assert parsed.row(RESULTS, "loss (nats)")[-1] == three(summary["test_base_rates_loss"])
    assert f"base rates: {three(summary['test_base_rates_loss'])}" in parsed.text
    assert "and the rates of groups are at threshold 0, a probability of one half" in parsed.text
    assert "All curves are at threshold 0." in parsed.text
    error = three(summary["test_calibration_error"])
    assert f"The expected calibration error is {error} on the test split" in parsed.text
    assert "Probabilities are as the head gives them" in parsed.text
    assert "celeba-fl baseline" in parsed.text
    assert "No claim about demographic groups" in parsed.text

    for row in read_csv(run / "attributes.csv"):
        if row["split"] == "test":
            shown = parsed.row("All figures of the test split", row["attribute"].replace("_", " "))
            columns = ["loss", "base_rates_loss", "accuracy", "majority_accuracy"]
            columns += ["balanced_accuracy", "f1", "auroc", "average_precision"]
            columns += ["calibration_error", "threshold"]
            expected = [three(row[key]) for key in columns]
            assert shown == [row["n"], row["positives"], *expected]

    sizes = [int(row["num_examples"]) for row in read_csv(run / "partitions.csv")]
    assert f"3 clients hold {sum(sizes)} train examples: the smallest {min(sizes)}" in parsed.text
    fairness = [row for row in read_csv(run / "fairness.csv") if row["split"] == "test"]
    largest = max(
        (float(row["equalized_odds_difference"]), row["attribute"])
        for row in fairness
        if row["grouping"] == "Male" and row["equalized_odds_difference"]
    )
    assert three(largest[0]) in parsed.row("The largest difference", "Male")[-1]
    info = json.loads((run / "run.json").read_text())
    for text in (info["dataset"]["fingerprint"], info["weights"]["sha256"], "local-epochs"):
        assert text in parsed.text
    assert parsed.row("Where the figures come from", "features of an image") == [
        "1280: last, at 32 pixels"
    ]


def test_the_page_shows_the_pictures_in_plots(run: Path) -> None:
    parsed = read(run)
    images = [attributes for tag, attributes in parsed.tags if tag == "img"]
    pictures = {path.stem for path in (run / "plots").glob("*.svg")}
    assert len(images) == len(pictures) == len(list((run / "plots").iterdir()))
    write_report(run, png=True)
    assert pictures == {path.stem for path in (run / "plots").glob("*.png")}
    for path in (run / "plots").glob("*.png"):
        with Image.open(path) as png:
            assert png.width == 2 * WIDTH
    for image in images:
        kind, _, data = str(image["src"]).partition(",")
        assert kind == "data:image/svg+xml;base64"
        svg = b64decode(data).decode()
        assert "prefers-color-scheme:dark" in svg
        assert not re.search("<script|<image|href|url\\((?!#)", svg)
        root = ElementTree.fromstring(svg)
        assert (root.get("width"), root.get("height")) == (image["width"], image["height"])
    assert {
        "rounds_balanced_accuracy",
        "attributes",
        "partitions",
        "groups",
        "clients",
    } <= pictures


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("clients", "0,1", "chosen clients"),
        ("exchange", "generator", "private discriminators"),
    ],
)
def test_no_central_model_is_promised_where_none_can_be(
    run: Path, key: str, value: str, why: str
) -> None:
    info = json.loads((run / "run.json").read_text())
    info["config"][key] = value
    (run / "run.json").write_text(json.dumps(info))
    parsed = read(run)
    assert f"A run of {why} has no central model to compare with." in parsed.text
    assert "celeba-fl baseline" not in parsed.text


def test_the_central_model_is_the_first_reference(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    central = {key: value - 0.25 for key, value in summary.items()}
    alone = dict.fromkeys(summary, 0.125)
    made = {"central": central, "local": {"clients": 3, "mean": alone, "std": alone}}
    (run / "baseline.json").write_text(json.dumps(made))
    _, head, gap, local, _ = read(run).row(RESULTS, "accuracy")
    assert head == three(central["test_accuracy"])
    assert gap.split() == ["+0.250"]  # no scores, no interval
    assert local == "0.125 ± 0.125"

    (run / "baseline.json").write_text(json.dumps({"central": summary}))
    shutil.copy(run / "test_scores.parquet", run / "baseline_scores.parquet")
    parsed = read(run)
    assert parsed.row(RESULTS, "accuracy")[2] == "+0.000 [+0.000, +0.000]"
    assert parsed.text.index("gap to the central model") < parsed.text.index(
        "the majority's answer:"
    )


def test_what_the_central_model_is(run: Path) -> None:
    made = {"central": {"test_accuracy": 0.75}, "local": {"clients": 0, "mean": {}, "std": {}}}
    (run / "baseline.json").write_text(json.dumps({**made, "chosen": {"by": "loss", "l2": 0.1}}))
    text = read(run).text
    assert "The central model is logistic regression on the same examples" in text
    assert "Each client alone is" not in text
    # As `celeba-fl baseline` once wrote it.
    made |= {"local": {"clients": 3, "mean": {}, "std": {}}, "chosen": {"epochs": 5, "of": 50}}
    (run / "baseline.json").write_text(json.dumps(made))
    text = read(run).text
    assert "is that of its best epoch on validation" in text
    assert "over 3 models" in text


def test_one_split_is_not_taken_for_a_comparison_of_methods(run: Path) -> None:
    assert "not which method is better" in read(run).text
    (run / "test_scores.parquet").unlink()
    assert "not which method is better" not in read(run).text


@pytest.mark.parametrize(
    ("keys", "whose"),
    [
        ({}, "examples, other images of the people whom they train on"),
        ({"valid-by": "identity"}, "examples, of people whom nobody trains on"),
        ({"task": "lenet"}, "on their own validation examples: the median"),
    ],
)
def test_whom_clients_validate_on(run: Path, keys: dict[str, str], whose: str) -> None:
    info = json.loads((run / "run.json").read_text())
    info["config"] |= {"task": "attributes", **keys}
    (run / "run.json").write_text(json.dumps(info))
    assert whose in read(run).text


def test_scores_of_another_model_give_no_interval(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    changed = {key: value + 0.1 for key, value in summary.items()}
    (run / "summary.json").write_text(json.dumps(changed))
    assert read(run).row(RESULTS, "accuracy")[0] == f"{changed['test_accuracy']:.3f}"


@pytest.mark.usefixtures("reports")
def test_it_is_written_at_the_end_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a process that has been started before."""
    at: list[bool] = []

    def started() -> Helper:
        at.append(any(tmp_path.glob("*/model.safetensors")))
        return writer()

    monkeypatch.setattr("celeba_fl.server_app.writer", started)
    path = run_adding(tmp_path)
    assert at == [False, True]
    parsed = PageParser(path / "report.html")
    check_page(parsed)
    last = read_csv(path / "rounds.csv")[-1]
    # Its summary is undefined, so that of the last round is shown.
    assert parsed.row("model after round 4, test", "score")[0] == three(last["test_score"])
    assert (path / "plots" / "rounds_loss.svg").exists()


@pytest.mark.usefixtures("reports")
def test_a_run_is_complete_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Helper:
        raise OSError("no process left")

    monkeypatch.setattr("celeba_fl.server_app.writer", fail)
    path = run_adding(tmp_path)
    assert read_runs(tmp_path)[0].status == "completed"
    assert not (path / "report.html").exists()
    assert "The report could not be written: no process left" in caplog.text


@pytest.mark.usefixtures("reports")
def test_what_goes_wrong_with_it_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(**asked: str) -> dict[str, Any]:
        if "broken" in asked["path"]:
            raise ValueError("OSError('disk full')")
        return {"report": "the page", "warnings": ["Report: no ink"]}

    monkeypatch.setattr("celeba_fl.server_app.writer", lambda: SimpleNamespace(ask=answer))
    run_adding(tmp_path / "whole")
    assert [line for line in caplog.messages if "eport" in line] == [
        "Report: no ink",
        "Report: the page",
    ]
    run_adding(tmp_path / "broken")
    assert read_runs(tmp_path / "broken")[0].status == "completed"
    assert "The report could not be written: OSError('disk full')" in caplog.text


def test_a_task_of_someones_own(tmp_path: Path) -> None:
    settings = {"task": "own_task:Cancer", "learning-rate": 0.3, "results-dir": str(tmp_path)}
    run_inline(RunConfig.load(settings), 4, server_app, client_app)
    (said,) = read_runs(tmp_path)
    parsed = read(said.path)
    assert "own_task:Cancer on breast cancer" in parsed.text
    assert parsed.row(RESULTS, "accuracy")[0] == three(said.summary["test_accuracy"])
    assert "majority's answer" not in parsed.text
    assert "could not be made" not in parsed.text
    assert {path.stem for path in (said.path / "plots").iterdir()} == {
        "rounds_accuracy",
        "rounds_loss",
        "partitions",
        "clients",
        "clients_rounds",
    }


def test_neither_scores_nor_charts_load_pandas(run: Path) -> None:
    """In a new process; pandas takes longer to import than the figures to compute."""
    code = f"""
import sys
from pathlib import Path
from celeba_fl.evaluation.resampling import read_scores
from celeba_fl.report import page, plots
from celeba_fl.runs.tables import write_parquet

run = Path({str(run)!r})
write_parquet(run / "test_scores.parquet", read_scores(run / "test_scores.parquet").columns())
plots.draw = lambda chart: f'<svg width="9" height="9">{{chart.to_dict()}}'
page.write_report(run)
print("pandas" in sys.modules)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert read(run).row(RESULTS, "AUROC")[0] != "\N{EN DASH}"


# ---- damaged and unfinished runs ----------------------------------------------------------

FILES = (
    "rounds.csv",
    "clients.csv",
    "partitions.csv",
    "attributes.csv",
    "groups.csv",
    "fairness.csv",
    "summary.json",
    "test_scores.parquet",
)


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are described, but not drawn: that takes most of the time."""
    monkeypatch.setattr(
        plots, "draw", lambda chart: f'<svg width="9" height="9">{len(table(chart))}'
    )


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_there(run: Path, name: str) -> None:
    (run / name).unlink()
    parsed = read(run)
    assert "could not be made" not in parsed.text
    assert "cannot be read" not in parsed.text


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("name", [*FILES, "run.json", "baseline.json", "baseline_scores.parquet"])
@pytest.mark.parametrize("garbage", [b"\xff\x00\n\n", b"[1]\n", b"round\nx,y,z\n"])
def test_a_file_of_garbage(run: Path, name: str, garbage: bytes) -> None:
    (run / name).write_bytes(garbage)
    # A header alone is a table without rows.
    empty = name.endswith(".csv") and garbage == b"[1]\n"
    assert (f"{name} cannot be read" in read(run).text) != empty


def test_a_broken_file_is_named(run: Path) -> None:
    (run / "fairness.csv").write_bytes(b"\xff\n")
    (run / "clients.csv").write_text("round,client\n0,a,b\n")
    text = read(run).text
    assert "fairness.csv cannot be read: 'utf-8' codec" in text
    assert "clients.csv cannot be read: line 2 is broken" in text


def test_a_broken_cell_costs_one_section_only(run: Path) -> None:
    path = run / "partitions.csv"
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace(",", ",many", 1)
    path.write_text("\n".join(lines) + "\n")
    parsed = read(run)
    assert parsed.text.count("This section could not be made") == 1
    assert "could not convert string to float: 'many" in parsed.text
    assert parsed.row(RESULTS, "accuracy")


def test_only_run_json(make_run: MakeRun) -> None:
    text = read(make_run()).text
    assert "Nothing has been measured yet." in text
    assert "No round has been completed yet." in text


def test_a_run_that_came_to_no_round_has_no_curves(make_run: MakeRun) -> None:
    tables = {
        "rounds": "round,valid_loss,bytes_up,seconds\n0,0.7,1000,1\n",
        "clients": "round,client,num_examples,valid_loss\n0,a,3,0.7\n0,b,5,0.6\n",
        "partitions": "client,num_examples,A=0,A=1\na,3,2,1\nb,5,3,2\n",
    }
    parsed = read(make_run(csv=tables))
    assert "No round has been completed yet; all figures are from before training." in parsed.text
    assert "Before training, 2 clients evaluated the model" in parsed.text
    assert "No client holds one group only." in parsed.text
    assert " nan" not in parsed.text
    assert "by round" not in parsed.text
    assert "95 % intervals" not in parsed.text
    assert "backbone weights" not in parsed.text  # nothing is known of any


def test_settings_of_a_task_from_outside_are_its_own(make_run: MakeRun) -> None:
    config = {"task": "mine.task:MyTask", "dataset": "drawn", "seed": 42, "inputs": 8}
    own = {"inputs": {"default": 8, "meaning": "number of `measurements`"}}
    parsed = read(make_run(info={"config": config, "own_keys": own}))
    first = parsed.table("Settings that matter most")[1:]
    assert [row[0] for row in first] == ["seed", "inputs", "task"]
    assert first[1] == ["inputs", "8", "number of measurements"]


def test_a_failed_run_says_why(make_run: MakeRun) -> None:
    parsed = read(make_run(info={"status": "failed", "reason": "round 3: <b>no</b> replies"}))
    assert "This run failed after 0 rounds of FedAvg (round 3: <b>no</b> replies)." in parsed.text
    assert "The run failed: this is what it has left." in parsed.text
    assert "<b>no" not in parsed.source


def test_a_long_reason_is_short_on_top_and_whole_below(make_run: MakeRun) -> None:
    reason = f"round 3: {' '.join(map(str, range(200)))} <b>end</b>"
    for status, text in {"failed": reason, "stopped": f"patience:\n{reason}"}.items():
        parsed = read(make_run(status, info={"status": status, "reason": text}))
        top, _, below = parsed.text.partition("The run " + status + ", and the reason in full is: ")
        assert "\N{HORIZONTAL ELLIPSIS}, the rest stands below)." in top
        assert len(top.partition("FedAvg (")[2].partition(", the rest")[0]) <= 162
        assert below.startswith(" ".join(text.split()) + ".")


def test_a_stale_run_is_interrupted(make_run: MakeRun) -> None:
    updated = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    path = make_run(
        info={"status": "running", "updated": updated, "config": {"num-server-rounds": 9}},
        csv={"rounds": "round,test_loss,valid_loss\n0,0.7,0.6\n1,,0.5\n2,0.2"},
    )
    parsed = read(path)
    assert "The run was interrupted" in parsed.text
    assert "1 of 9 rounds" in parsed.text
    figures = parsed.row("Figures of the model after round 1, clients, validation", "loss (nats)")
    assert figures == ["0.500"]
    assert "celeba-fl baseline" in parsed.text


def test_the_closed_form_has_one_round(make_run: MakeRun) -> None:
    config = {"num-server-rounds": 9, "strategy": "closed-form"}
    rounds = "round,test_loss\n0,0.7\n1,0.5\n"
    assert "1 of 1 rounds" in read(make_run(info={"config": config}, csv={"rounds": rounds})).text


def test_tables_of_the_task(make_run: MakeRun) -> None:
    many = "".join(f"{i},{i / 7}\n" for i in range(400))
    csv = {
        "soil_types": "soil,fields,note\nloam,3,<b>good</b>\nclay,0.123456,\n",
        "many": f"place,value\n{many}",
        "epochs": "round,client,epoch,train_loss\n1,a,1,0.5\n",
        "broken": "a,b\n1\n",
        "nodes": "client,node_id\na,1\n",
    }
    parsed = read(make_run(csv=csv))
    assert parsed.table("Soil types") == [
        ["soil", "fields", "note"],
        ["loam", "3", "<b>good</b>"],
        ["clay", "0.1235", ""],
    ]
    assert "<b>good" not in parsed.source
    assert parsed.row("Epochs", "1") == ["a", "1", "0.5"]
    rows = parsed.table("Many: the first 300 of 400 rows of many.csv")
    assert len(rows) == 301
    assert [tag for tag, _ in parsed.tags].count("details") == 1
    assert "broken.csv cannot be read: line 2 is broken" in parsed.text
    assert "node" not in "".join(parsed.tables)
    # Text to the left, numbers to the right: a client, then the cells of `many.csv`.
    sides = [attributes.get("class") for tag, attributes in parsed.tags if tag == "td"]
    assert sides[:307] == ["text", None, None, *[None] * 300, None, "text", None, "text"]


@pytest.mark.usefixtures("_quick")
def test_figures_of_the_clients_splits_say_how_exact_they_are(run: Path) -> None:
    parsed = read(run)
    rows = {(r["split"], r["attribute"]): r for r in read_csv(run / "attributes.csv")}
    for split in ("valid", "train"):
        name = {"valid": "validation"}.get(split, split)
        shown = parsed.row(f"All figures of the clients' {name} split", "Smiling")
        row = rows[split, "Smiling"]
        assert shown[-4:-2] == [
            f"{three(row[key])} ± {float(row[f'{key}_error']):.4f}"
            for key in ("auroc", "average_precision")
        ]


def test_names_of_clients_are_text(make_run: MakeRun) -> None:
    rows = "client,num_examples,A=0,A=1\n<script>$\\x$,2,2,0\n$_{,3,0,3\n"
    parsed = read(make_run(csv={"partitions": rows}))
    assert "2 clients hold 5 train examples" in parsed.text
    assert "2 clients hold one group only" in parsed.text
    # 2 of 5 are of group 0: each client is 3/5 or 2/5 away from that mix.
    assert "48.0 % of the examples would have to change their group" in parsed.text


def test_what_is_drawn_is_said(make_run: MakeRun) -> None:
    both = make_run("both", info={"dataset": {"name": "drawn"}, "weights": {"name": "drawn"}})
    assert "The faces are drawn and the backbone knows only drawn faces: these" in read(both).text
    backbone = read(make_run("backbone", info={"weights": {"name": "drawn"}}))
    assert "The backbone knows only drawn faces: these figures say nothing" in backbone.text
    neither = read(make_run("neither", info={"dataset": {"name": "x"}, "weights": {"name": "y"}}))
    assert "photographs" not in neither.text


@pytest.mark.parametrize(
    ("data", "said"),
    [("drawn", "The faces are drawn: "), ("x", "What measures the distances knows only drawn")],
)
def test_a_generator_has_no_backbone(make_run: MakeRun, data: str, said: str) -> None:
    info = {"config": {"task": "dcgan"}, "dataset": {"name": data}, "weights": {"name": "drawn"}}
    parsed = read(make_run(info=info))
    assert said in parsed.text
    assert "photographs of people" in parsed.text
    assert "the backbone" not in parsed.text
    assert "95 % intervals" not in parsed.text


def test_unknown_identities_are_said(make_run: MakeRun) -> None:
    info = {"dataset": {"name": "x", "identities": "unknown"}}
    scores = {"image": ["a", "b"], "celeb_id": [1, 2], "A": [0, 1], "A_score": [0.5, 0.5]}
    said = "do not say who is who, so each image was taken for another person"
    assert said in read(make_run("scored", info=info, scores=scores)).text
    assert said not in read(make_run("without intervals", info=info)).text


GAP = "equalized_odds_difference"
RATES = (
    "split,grouping,group,attribute,n,positives,identities,accuracy,tpr,tpr_low,tpr_high\n"
    "test,Male,Male=0,Smiling,40,20,6,0.9,0.75,0.7,0.8\n"
    "test,Male,Male=1,Smiling,50,25,5,0.8,0.25,0.2,0.3\n"
    "test,Male,Male=0,Bald,40,9,6,0.8,,,\n"
    "test,Male,Male=1,Bald,50,20,5,0.8,,,\n"
    "test,Male,Male=0,Male,40,0,6,0.8,,,\n"
    "test,Male,Male=1,Male,50,50,5,0.8,,,\n"
)


def test_only_what_enough_people_show_is_ranked(make_run: MakeRun) -> None:
    """Also of runs from before `fairness.csv` said so itself: Bald, 9 of a group, is too small."""
    fairness = (
        f"split,grouping,attribute,{GAP},{GAP}_low,{GAP}_high\n"
        "test,Male,Bald,0.9,0.8,1.0\ntest,Male,Smiling,0.5,0.4,0.6\ntest,Male,Male,1.0,,\n"
        "train,Male,Bangs,1.0,1.0,1.0\n"
    )
    parsed = read(make_run(csv={"fairness": fairness, "groups": RATES}))
    assert parsed.row("The largest difference", "Male")[-1] == "Smiling 0.500 [0.400, 0.600]"
    first = "Smiling by Male, an equalized odds difference of 0.500 [0.400, 0.600]"
    assert parsed.row(first, "men")[4] == "0.250 [0.200, 0.300]"
    assert parsed.row("Rates of each group", "women")[:3] == ["40", "0.833", "0.750"]
    left = parsed.table("Attributes that are not compared")
    assert left[1:] == [["Male", "too small", "Bald"], ["Male", "defines the groups", "Male"]]
    assert "1 of the 3 differences below. None of them was tested against chance." in parsed.text


@pytest.mark.parametrize(("p", "found"), [(0.01, True), (0.2, False)])
def test_a_difference_stands_beside_what_chance_gives(
    make_run: MakeRun, p: float, found: bool
) -> None:
    signed = "tpr_difference,tpr_difference_low,tpr_difference_high"
    fairness = (
        f"split,grouping,attribute,{GAP},{GAP}_low,{GAP}_high,compared,{signed},"
        f"{GAP}_chance,{GAP}_p,{GAP}_p_holm\n"
        f"test,Male,Smiling,0.5,0.4,0.6,yes,-0.5,-0.6,-0.4,0.125,0.004,{p}\n"
        "test,Male,Bald,0.9,0.8,1.0,too small,,,,,,\n"
    )
    parsed = read(make_run(csv={"fairness": fairness, "groups": RATES}))
    cell = parsed.row("The largest difference", "Male")[-1]
    assert cell == f"Smiling 0.500 [0.400, 0.600] chance 0.125, p {p:.3f}"
    minus = "\N{MINUS SIGN}"
    signed_cell = parsed.row("Men less women", "Smiling")[1]
    assert signed_cell == f"{minus}0.500 [{minus}0.600, {minus}0.400]"
    which = "Farther apart than by chance" if found else "The least likely by chance"
    assert parsed.row(f"{which}: Smiling by Male", "men")
    beyond = "Chance alone hardly gives the odds of 1 of them: Smiling by Male."
    assert (beyond in parsed.text) == found
    nothing = "None of them has odds farther apart than chance alone may put them."
    assert (nothing in parsed.text) != found


def test_where_nobody_can_be_compared_nothing_is_ranked_or_drawn(make_run: MakeRun) -> None:
    fairness = f"split,grouping,attribute,{GAP},compared\ntest,Male,Bald,0.9,too small\n"
    path = make_run(csv={"fairness": fairness, "groups": RATES})
    text = read(path).text
    assert "0 of the 1 differences below" in text
    assert "The largest difference" not in text
    assert not (path / "plots" / "groups.svg").exists()


def test_who_computes_in_a_browser_is_named(make_run: MakeRun) -> None:
    others = {"onnxruntime-web 1.30.0 wasm": {"clients": 2, "distance": 6.4e-14}}
    runtimes = {"tolerance": 1e-6, "others": others}
    text = read(make_run(info={"runtimes": runtimes})).text
    assert "another runtime than the server: 2 in onnxruntime-web 1.30.0 wasm." in text
    assert "the server's is 6.4e-14 at most; clients above 1e-06 are refused." in text


def test_chance_moves_examples_between_groups_too(make_run: MakeRun) -> None:
    """Two clients of one image each: by chance, each misses half a one in half of the deals."""
    partitions = "client,num_examples,Male=0,Male=1\na,1,1,0\nb,1,0,1\n"
    text = read(make_run(csv={"partitions": partitions})).text
    assert "50.0 % of the examples would have to change their group; dealt at random" in text
    assert "to clients of the same sizes, 50.0 %." in text
    even = "client,num_examples,Male=0,Male=1\na,2,1,1\nb,2,1,1\n"
    text = read(make_run("even", csv={"partitions": even})).text
    # Of 4 images 2 are of each group: in 2 of 6 deals both clients hold one group only.
    (share,) = map(float, re.findall(r"same sizes, ([\d.]+) %", text))
    assert share == pytest.approx(100 / 6, abs=4)
    assert "0.0 % of the examples" in text
