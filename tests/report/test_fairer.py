"""The section about fairer heads says what `fairer.csv` says."""

from pathlib import Path
from typing import Any

import pytest
from toys import write_run

from celeba_fl.report.charts import table
from celeba_fl.report.html import Pictures, Table
from celeba_fl.report.pictures import fairer as pictures
from celeba_fl.report.reading import Run
from celeba_fl.report.sections.curves import curves
from celeba_fl.report.sections.fairer import fairer
from celeba_fl.runs.tables import csv_text

FIGURES = (
    *("accuracy", "accuracy_difference", "balanced_accuracy", "equalized_odds_difference"),
    *("widest_equalized_odds_difference", "widest_ratio", "widest_balanced_accuracy"),
)


def row(head: str, penalty: float | None, chosen: bool = False, **figures: float) -> dict[str, Any]:
    where = {"split": "test", "grouping": "Male", "head": head, "penalty": penalty}
    made: dict[str, Any] = {**where, "chosen": "yes" if chosen else "", "compared": 12}
    for name in FIGURES:
        value = figures.get(name, 0.5)
        made |= {name: value, f"{name}_low": value - 0.125, f"{name}_high": value + 0.25}
    return made


ROWS = [
    row("ridge", 0.0, widest_balanced_accuracy=0.711),
    row(
        *("ridge", 1.0, True),
        widest_ratio=0.46,
        accuracy_difference=-0.0028,
        widest_balanced_accuracy=0.664,
    ),
    row("LEACE", None),
    row("thresholds by group", None, widest_equalized_odds_difference=0.25),
]


def read(folder: Path, rows: list[dict[str, Any]], left: str = "") -> Run:
    files = {"fairer": csv_text(rows, header=True)} if rows else {}
    if left:
        files["fairer_attributes"] = f"grouping,attribute,left_out\n{left}"
    return Run.read(write_run(folder / "run", csv=files))


def test_nothing_without_the_file(tmp_path: Path) -> None:
    assert fairer(read(tmp_path, [])) == []


def test_what_it_does_and_what_it_costs(tmp_path: Path) -> None:
    left = "Male,Bald,too few\nMale,Male,it makes the groups\nMale,Gray_Hair,too few\nMale,Young,\n"
    blocks = fairer(read(tmp_path, ROWS, left))
    words = " ".join(block for block in blocks if isinstance(block, str))
    assert "12 attributes count" in words
    assert (
        "The head of this run with a penalty of 1 has 0.460 [0.335, 0.710] times the plain head's "
        "gap of the widest, for \N{MINUS SIGN}0.28 points of mean accuracy over all attributes. "
        "Balanced accuracy is part of the price: on the widest it goes from 0.711 to 0.664."
    ) in words
    assert "need to know the group of whoever is judged" in words
    assert "Left as they are: Bald, Gray Hair (too few); Male (it makes the groups)." in words
    (shown,) = (block for block in blocks if isinstance(block, Table))
    names = ["penalty 0", "penalty 1, this run's", "LEACE", "thresholds by group"]
    assert [line[0] for line in shown.rows] == names
    assert shown.rows[1][2] == ("\N{MINUS SIGN}0.003", "[\N{MINUS SIGN}0.128, +0.247]")
    assert any(isinstance(block, Pictures) for block in blocks)


def test_without_a_penalty_it_says_what_one_would_give(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "chosen": "yes"}, {**ROWS[1], "chosen": ""}]
    words = " ".join(b for b in fairer(read(tmp_path, rows)) if isinstance(b, str))
    assert "No penalty was set for this run. The head with a penalty of 1 has 0.460" in words
    assert "need to know the group" not in words


def test_where_nothing_can_be_compared_there_is_no_figure(tmp_path: Path) -> None:
    (words,) = fairer(read(tmp_path, [{**one, "compared": 0} for one in ROWS]))
    assert "Here 0 attributes count" in str(words)


def test_a_head_of_kept_sums_has_no_rounds(tmp_path: Path) -> None:
    run = Run.read(write_run(tmp_path / "run", info={"made_from": "2026-11-26_a"}))
    (words,) = curves(run)
    assert str(words).endswith("it follows from the sums of the run 2026-11-26_a.")


def test_the_picture_is_of_the_rows(tmp_path: Path) -> None:
    points = table(pictures.heads(read(tmp_path, ROWS).fairer))
    assert [one["series"] for one in points] == [
        *[pictures.RIDGE] * 2,
        *("LEACE", "thresholds by group"),
    ]
    assert points[1][pictures.COST] == pytest.approx(-0.28)
    assert (points[3][pictures.GAP], points[3]["low"], points[3]["high"]) == (25, 12.5, 50)
    assert [one["label"] for one in points] == ["0", "1", "", ""]
