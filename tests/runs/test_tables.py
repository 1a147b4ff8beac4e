"""Tables as files."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from directories import open_run
from pyarrow import parquet

from celeba_fl.runs.tables import read_csv


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (math.nan, ""),
        (np.float64("nan"), ""),
        (None, ""),
        (0, "0"),
        (0.0, "0.0"),
        (1 / 3, "0.3333333333333333"),
        (np.float64(1e-9), "1e-09"),
        (np.int64(5), "5"),
        ("Male=1,Young=0", '"Male=1,Young=0"'),
        (-1.5, "-1.5"),
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
    ],
)
def test_cells(tmp_path: Path, value: Any, cell: str) -> None:
    with open_run(tmp_path) as run:
        run.write_csv("a.csv", [{"a": value, "b": 1}])
    assert (run.path / "a.csv").read_text() == f"a,b\n{cell},1\n"


@pytest.mark.parametrize("word", ["=1", "'=1", "''", "'", "'a", "-", "a'=", "\t"])
def test_words_come_back_whatever_they_begin_with(tmp_path: Path, word: str) -> None:
    with open_run(tmp_path) as run:
        run.append("a.csv", [{word: word, "b": 1}])
        run.append("a.csv", [{word: word, "b": 2}])
    rows = read_csv(run.path / "a.csv")
    assert rows == [{word: word, "b": "1"}, {word: word, "b": "2"}]


def test_floats_come_back_to_the_last_digit(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=100)
    with open_run(tmp_path) as run:
        run.write_csv("a.csv", [{"a": number} for number in numbers])
    assert [float(row["a"]) for row in read_csv(run.path / "a.csv")] == numbers.tolist()


@pytest.mark.parametrize(
    ("text", "rounds"),
    [("", []), ("round,lo", []), ("round,loss\n", []), ("round,loss\n0,0.5\n1,0.", ["0"])],
)
def test_a_row_that_was_cut_off_is_left_out(tmp_path: Path, text: str, rounds: list[str]) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert [row["round"] for row in read_csv(tmp_path / "a.csv")] == rounds
    assert read_csv(tmp_path / "none.csv") == []


def test_parquet(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write_parquet("a.parquet", {"image": np.array(["x.jpg"]), "score": np.array([0.5])})
    table = parquet.read_table(run.path / "a.parquet")
    assert table.to_pylist() == [{"image": "x.jpg", "score": 0.5}]
