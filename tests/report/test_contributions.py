"""The section about contributions says what `contributions.csv` says, and what that is not."""

from pathlib import Path
from typing import Any

import pytest
from toys import write_run

from celeba_fl.report.charts import table
from celeba_fl.report.html import Pictures, Table
from celeba_fl.report.pictures import contributions as pictures
from celeba_fl.report.reading import Run
from celeba_fl.report.sections.contributions import contributions
from celeba_fl.runs.kept_sums import KeptSums
from celeba_fl.runs.tables import csv_text


def row(client: str, loss: float, same_as: str = "", accused: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {
        "client": client,
        "num_examples": 60,
        "accused": accused,
        "excess": 1.25,
    }
    for name in ("loss", "auroc", "balanced_accuracy"):
        made |= {f"{name}_change": loss, f"{name}_change_low": loss - 0.001}
        made |= {f"{name}_change_high": loss + 0.001}
    together = {f"{key}": (0.01 if same_as else None) for key in [*made] if "change" in key}
    return made | {"same_as": same_as} | {f"together_{key}": one for key, one in together.items()}


ROWS = [row("a", 0.002, "b"), row("b", 0.0025, "a"), row("c", -0.3, accused="yes")]


def read(folder: Path, rows: list[dict[str, Any]]) -> Run:
    files = {"contributions": csv_text(rows, header=True)} if rows else {}
    return Run.read(write_run(folder / "run", csv=files))


def test_nothing_without_the_file(tmp_path: Path) -> None:
    assert contributions(read(tmp_path, [])) == []


def test_who_is_accused_who_holds_the_same_and_what_it_is_not(tmp_path: Path) -> None:
    blocks = contributions(read(tmp_path, ROWS))
    words = " ".join(block for block in blocks if isinstance(block, str))
    assert "Accused: c." in words
    assert "it proves no intent" in words
    assert words.count("a, b hold the same, or nearly.") == 1
    assert "the loss changes by +10.00 [+10.00, +10.00] thousandths" in words
    assert "do not add up" in words
    (shown,) = (block for block in blocks if isinstance(block, Table))
    assert [line[0] for line in shown.rows] == ["b", "a", "c"]
    assert shown.rows[0][2] == ("+2.50", "[+1.50, +3.50]")
    assert any(isinstance(block, Pictures) for block in blocks)


def test_clients_that_the_run_left_out_are_named(tmp_path: Path) -> None:
    run = read(tmp_path, [])
    each = KeptSums(run.path)
    each.clear()
    each.put("site-3", {})
    each.leave_out(["site-3"])
    each.finish()
    assert "was made without site-3" in str(contributions(run)[0])


def test_the_picture_is_of_the_rows(tmp_path: Path) -> None:
    points = table(pictures.changes(read(tmp_path, ROWS).contributions))
    assert [one["client"] for one in points] == ["a", "b", "c"]
    assert points[0][pictures.LOSS] == pytest.approx(2)
    assert [one["series"] for one in points] == [*[pictures.HONEST] * 2, pictures.ACCUSED]
