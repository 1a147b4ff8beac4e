"""The page of several runs; differences by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import PageParser, check_page

from celeba_fl.report.comparison import name_runs, write_comparison

RESULTS = "below each its difference to A"
MakeRun = Callable[..., Path]


def compare(tmp_path: Path, *paths: Path) -> PageParser:
    """The page of some runs, checked for what holds for every page."""
    parsed = PageParser(write_comparison(name_runs(paths), tmp_path / "comparison.html"))
    check_page(parsed)
    return parsed


def score_columns(right: str, images: str = "abcdefgh") -> dict[str, Any]:
    """Scores of one attribute for two images of each of four people, half of whom have it."""
    labels = np.array([True, False] * 4)
    hits = np.array([mark == "x" for mark in right])
    return {
        "image": list(images),
        "celeb_id": np.repeat(np.arange(4), 2),
        "Smiling": labels,
        "Smiling_score": np.where(hits == labels, 1.0, -1.0),
    }


@pytest.fixture
def scored(make_run: MakeRun) -> MakeRun:
    """A run that judged the images of `score_columns` right where there is an x."""

    def make(name: str, right: str, *, images: str = "abcdefgh", **config: Any) -> Path:
        return make_run(
            name,
            info={"config": {"seed": 1, "partitioner": "iid", **config}},
            summary={"test_accuracy": right.count("x") / 8},
            scores=score_columns(right, images),
        )

    return make


def test_differences_are_paired_on_the_same_images(scored: MakeRun, tmp_path: Path) -> None:
    one = scored("one", "x-x-x-x-")
    # Right on one more image of every person: half of the images more, whoever is drawn.
    other = scored("other", "xxxxxxxx", partitioner="natural")
    # Right on one more image of one person of four, and wrong on one of another.
    third = scored("third", "xx--x-x-", partitioner="natural", seed=2)
    parsed = compare(tmp_path, one, other, third)
    assert parsed.row(RESULTS, "A: one")[0].startswith("0.500")
    assert parsed.row(RESULTS, "B: other") == ["1.000 +0.500 to A [+0.500, +0.500]"]
    value, gap, _, _, low, high = parsed.row(RESULTS, "C: third")[0].split()
    assert (value, gap) == ("0.500", "+0.000")
    # Of the four, the differences are 1/2, -1/2, 0 and 0: 3.182 (t, 3 degrees) * 0.408 / 2.
    assert (low, high) == ("[\N{MINUS SIGN}0.650,", "+0.650]")
    assert "paired on the same 8 test images of 4 people" in parsed.text


def test_other_images_cannot_be_paired(scored: MakeRun, tmp_path: Path) -> None:
    paths = scored("one", "x-x-x-x-"), scored("two", "xxxxxxxx", images="ijklmnop", seed=2)
    parsed = compare(tmp_path, *paths)
    assert parsed.row(RESULTS, "B: two") == ["1.000 +0.500 to A"]
    assert "Measured on other test images than A" in parsed.text
    assert "nothing can be paired" in parsed.text


def test_without_scores_there_is_no_interval(
    scored: MakeRun, make_run: MakeRun, tmp_path: Path
) -> None:
    bare = make_run("bare", summary={"test_accuracy": 0.25})
    parsed = compare(tmp_path, scored("one", "x-x-x-x-"), bare)
    assert parsed.row(RESULTS, "B: bare") == ["0.250 \N{MINUS SIGN}0.250 to A"]
    assert "Without test scores, hence without an interval: B: bare" in parsed.text
    text = compare(tmp_path, bare, scored("other", "x-x-x-x-")).text
    assert "A: bare has no usable test_scores.parquet" in text


def test_settings_that_differ(scored: MakeRun, tmp_path: Path) -> None:
    one = scored("one", "x-x-x-x-", rounds=3, home="/a", same=1)
    other = scored("other", "xxxxxxxx", rounds=5, home="/b", same=1)
    parsed = compare(tmp_path, one, other)
    assert parsed.table("Settings that differ") == [
        ["", "A: one", "B: other"],
        ["rounds", "3", "5"],
    ]
    assert "All settings are the same." in compare(tmp_path, one, one).text


def test_runs_of_other_thresholds_are_also_compared_at_one_rule(
    make_run: MakeRun, tmp_path: Path
) -> None:
    """Both have scores that are all right at 0; at the threshold of one, half of them are."""
    columns = score_columns("xxxxxxxx")
    one = make_run(
        "one",
        info={"config": {"seed": 1}},
        summary={"test_accuracy": 1.0, "test_auroc": 1.0},
        scores=columns,
    )
    other = make_run(
        "other",
        info={"config": {"seed": 1, "thresholds": "valid"}},
        summary={"test_accuracy": 0.5, "test_auroc": 1.0},
        scores=columns,
        csv={"attributes": "split,attribute,threshold\ntest,Smiling,2.0\n"},
    )
    parsed = compare(tmp_path, one, other)
    assert "not judged by one rule: A at threshold 0, a probability of one half; B" in parsed.text
    rows = parsed.tables[next(c for c in parsed.tables if "all at threshold 0" in c)]
    assert [row[1] for row in rows[1:]] == ["1.000", "1.000"]
    assert "judged by one rule" not in compare(tmp_path, one, one).text


def test_mean_and_deviation_over_seeds(scored: MakeRun, tmp_path: Path) -> None:
    paths = [
        scored("one", "x-x-x-x-", seed=1),
        scored("two", "xxxxxxx-", seed=2),
        scored("else", "xxxxxxxx", seed=2, partitioner="natural"),
    ]
    # 0.5 and 0.875: the deviation is 0.375 / sqrt(2).
    parsed = compare(tmp_path, *paths)
    assert parsed.row("Mean and sample standard deviation", "A, B") == ["0.688 ± 0.265"]
    assert "not how far other people would" in parsed.text
    assert "carries no claim about methods" in parsed.text


def test_a_repeat_of_a_seed_is_no_other_seed(scored: MakeRun, tmp_path: Path) -> None:
    one, two = scored("one", "x-x-x-x-", seed=1), scored("two", "xxxxxxx-", seed=2)
    again = scored("again", "x-x-x-x-", seed=1)
    caption = "Mean and sample standard deviation"
    text = compare(tmp_path, one, again).text
    assert caption not in text
    assert "B repeats A, with the same settings and the same seed, so only A counts" in text
    parsed = compare(tmp_path, one, again, two)
    assert parsed.row(caption, "A, C") == ["0.688 ± 0.265"]


def test_reference_points_stand_beside_the_runs(scored: MakeRun, tmp_path: Path) -> None:
    paths = [scored("one", "x-x-x-x-"), scored("two", "xxxxxxxx", seed=2)]
    for path in paths:
        made = {
            "central": {"test_accuracy": 0.75},
            "local": {"clients": 2, "mean": {"test_accuracy": 0.25}, "std": {"test_accuracy": 0.1}},
        }
        (path / "baseline.json").write_text(json.dumps(made))
    parsed = compare(tmp_path, *paths)
    assert parsed.row(RESULTS, "central model, A B") == ["0.750 +0.250 to A"]
    assert parsed.row(RESULTS, "each client alone, A B") == [
        "0.250 ± 0.100 \N{MINUS SIGN}0.250 to A"
    ]
    assert "accuracy less that of the central model" in parsed.text


def test_curves_groups_and_clients_side_by_side(make_run: MakeRun, tmp_path: Path) -> None:
    def make(name: str, rate: float) -> Path:
        csv = {
            "rounds": f"round,test_loss,valid_loss\n0,0.7,0.7\n1,{rate},0.6\n",
            "clients": "round,client,num_examples,valid_loss\n1,a,5,0.25\n1,b,0,\n",
            "attributes": f"split,attribute,n,positives,balanced_accuracy,auroc\n"
            f"test,Bald,4,1,{rate},{rate}\ntest,Smiling,4,2,0.5,\n",
            "groups": f"split,grouping,group,attribute,n,accuracy,tpr\n"
            f"test,Male,Male=1,Bald,4,{rate},\ntest,Male,Male=1,Smiling,4,0.5,1\n",
            "fairness": f"split,grouping,attribute,demographic_parity_difference,compared\n"
            f"test,Male,Bald,{rate},yes\ntest,Male,Smiling,0.5,yes\n"
            f"test,Male,Mustache,0.9,too small\n",
        }
        return make_run(name, info={"config": {"name": name}}, csv=csv)

    parsed = compare(tmp_path, make("x", 0.75), make("y", 0.25))
    assert parsed.row("Accuracy of each group", "men") == ["0.625", "0.375"]
    assert parsed.row("TPR of each group", "men") == ["1.000", "1.000"]
    gaps = parsed.row("Demographic parity difference", "Male")
    assert gaps == ["0.625 0.750 Bald", "0.375 0.500 Smiling"]
    assert parsed.row("Spread over the clients", "A: x")[:3] == ["loss (nats)", "1", "0.250"]
    attributes = parsed.row("Balanced accuracy of each attribute", "Bald")
    assert attributes == ["0.750", "0.250 \N{MINUS SIGN}0.500"]
    assert "at the end A: x 0.750; B: y 0.250" in parsed.source


def test_a_metric_that_no_run_has_on_test_is_drawn_on_validation(
    make_run: MakeRun, tmp_path: Path
) -> None:
    rounds = "round,valid_x_loss,test_x_loss,valid_distance,test_distance\n"
    ends = {"x": "0,0.7,,,9\n1,0.5,,,8\n", "y": "0,0.7,,,9\n1,0.25,,,7\n"}
    paths = [make_run(name, csv={"rounds": rounds + rows}) for name, rows in ends.items()]
    parsed = compare(tmp_path, *paths)
    assert "X loss by round, clients, validation." in parsed.text
    assert "Line chart of x loss by round; at the end A: x 0.500; B: y 0.250" in parsed.source
    assert "Distance by round, test." in parsed.text


def test_a_baseline_that_cannot_be_is_not_promised(scored: MakeRun, tmp_path: Path) -> None:
    one = scored("one", "x-x-x-x-")
    (one / "baseline.json").write_text(json.dumps({"central": {"test_accuracy": 0.75}}))
    parsed = compare(tmp_path, one, scored("two", "xxxxxxxx", exchange="generator"))
    assert "The central model is missing: of B (none for private discriminators)." in parsed.text
    assert "celeba-fl baseline" not in parsed.text


def test_whole_runs(toy_run: Path, tmp_path: Path) -> None:
    parsed = compare(tmp_path, toy_run, toy_run)
    assert "could not be made" not in parsed.text
    assert "+0.000 to A [+0.000, +0.000]" in parsed.table(RESULTS)[2][1]


@pytest.mark.parametrize("garbage", [b"", b"\xff\n", b"[]\n", b"round\nx\n"])
def test_garbage_runs(toy_run: Path, tmp_path: Path, garbage: bytes) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in toy_run.glob("*.*"):
        (broken / path.name).write_bytes(garbage)
    text = compare(tmp_path, toy_run, broken).text
    assert "unreadable" in text
    assert "unreadable" in compare(tmp_path, broken, toy_run).text
