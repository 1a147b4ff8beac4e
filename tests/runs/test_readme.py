"""The README of run directories: every file and every column of a real run is in it."""

import csv
import re
from pathlib import Path

import pytest

import celeba_fl.runs
from celeba_fl.data.schema import ATTRIBUTES
from celeba_fl.runs.reading import read_json

README = (Path(celeba_fl.runs.__file__).parent / "README.md").read_text()
DOCUMENTED = set(re.findall(r"`([^`\n]+)`", README))


def covered(column: str) -> bool:
    """Whether a column is in the README, by itself or as one of a family that is."""
    stem = re.sub(r"_(low|high|chance|p|p_holm)$", "", column)
    part, _, metric = column.partition("_")
    metric = metric.removeprefix("valid_") if part == "server" else metric
    parts = ("train", "valid", "test", "server")
    return {column, stem} & DOCUMENTED != set() or (part in parts and metric in DOCUMENTED)


def test_every_file_and_column_of_a_run_is_documented(toy_run: Path) -> None:
    for path in toy_run.iterdir():
        if path.name not in (".lock", "report.html", "plots"):
            assert {path.name, f"{path.name}/"} & DOCUMENTED, path.name
        if path.suffix == ".csv":
            with path.open() as file:
                columns = next(csv.reader(file))
            counts = {*ATTRIBUTES, *(column for column in columns if "=" in column)}
            missing = [c for c in columns if not covered(c) and c not in counts]
            assert not missing, f"{path.name}: {missing}"


def test_every_key_of_run_json_is_documented(toy_run: Path) -> None:
    info = read_json(toy_run / "run.json")
    assert set(info) <= DOCUMENTED
    assert set(info["code"]) | {"task_path"} <= DOCUMENTED
    assert set(read_json(toy_run / "progress.json")) <= DOCUMENTED


@pytest.mark.parametrize("column", ["teacher_agreement", "p_holm", "fixed", "predicted", "recall"])
def test_columns_of_other_runs_are_documented(column: str) -> None:
    assert covered(column)
    assert not covered(f"{column}s")
