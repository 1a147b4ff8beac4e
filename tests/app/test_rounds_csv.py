"""What a run records, round by round, with numbers by hand."""

import json
from pathlib import Path

import pytest
from adding import Adding, column, info, outcome, record, run
from safetensors.numpy import load_file

from celeba_fl.config import RunConfig
from celeba_fl.runs.tables import read_csv


def test_what_a_run_records(tmp_path: Path) -> None:
    path = run(tmp_path, num_server_rounds=2)

    # (1 * 1 + 2 * 2 + 3 * 3) / 6 more in every round
    scores = [0, 14 / 6, 28 / 6]
    assert column(path, "valid_score") == pytest.approx(scores)
    assert column(path, "train_score") == pytest.approx(scores)
    assert column(path, "server_valid_loss") == pytest.approx([100 - s for s in scores])
    assert column(path, "test_score") == pytest.approx([1000 + s for s in scores])
    assert column(path, "clients") == [3, 3, 3]
    clients = read_csv(path / "clients.csv")
    assert [(row["round"], row["client"], row["num_examples"]) for row in clients] == [
        (str(number), str(i), str(i + 1)) for number in range(3) for i in range(3)
    ]
    assert [row["local_loss"] for row in clients] == [""] * 3 + ["0.5"] * 6
    assert read_csv(path / "partitions.csv") == [
        {"client": str(i), "num_examples": str(i + 1), "num_valid": "1", "odd": str(i % 2)}
        for i in range(3)
    ]
    assert json.loads((path / "summary.json").read_text()) == {"test_score": None}
    assert load_file(path / "model.safetensors")["weight"] == pytest.approx([28 / 6] * 2)
    said = info(path)
    assert said["dataset"] == {"name": "sums", "fingerprint": "sums"}
    assert json.loads((path / "progress.json").read_text())["phase"] == "final evaluation"
    assert json.loads((path / "progress.json").read_text())["round"] == 2


def test_uniform_weighting(tmp_path: Path) -> None:
    path = run(tmp_path, num_server_rounds=2, weighting="uniform")
    assert column(path, "valid_score") == [0, 2, 4]
    assert column(path, "failures") == [0, 0, 0]


def test_bytes_are_those_of_the_arrays_that_travelled(tmp_path: Path) -> None:
    path = run(tmp_path, num_server_rounds=1)
    model = record(Adding(RunConfig.load()).initial_arrays())
    size = sum(len(array.data) for array in model.values())
    # To 3 clients, to evaluate and, with the first, to train on.
    assert column(path, "bytes_down") == [3 * size, 3 * size]
    assert column(path, "bytes_up")[1] == column(path, "bytes_up")[0] + 3 * size


def test_without_evaluation_on_clients(tmp_path: Path) -> None:
    path = run(tmp_path, num_server_rounds=2, fraction_evaluate=0.0)
    assert [row["valid_score"] for row in read_csv(path / "rounds.csv")] == ["", "", ""]
    assert column(path, "server_valid_score") == pytest.approx([0, 14 / 6, 28 / 6])
    assert column(path, "clients") == [0, 3, 3]
    assert [row["round"] for row in read_csv(path / "clients.csv")] == ["1"] * 3 + ["2"] * 3
    assert (path / "attributes.csv").read_text().startswith("split,loss,score\ntrain,")


def test_cohorts_are_repeated(tmp_path: Path) -> None:
    keys = {"fraction_train": 0.3, "fraction_evaluate": 0.2}
    one, again = (run(tmp_path / name, 10, **keys) for name in "ab")
    assert outcome(one) == outcome(again)
    cohorts = [
        [r["client"] for r in read_csv(one / "clients.csv") if r["round"] == n and r["local_loss"]]
        for n in "1234"
    ]
    assert [len(cohort) for cohort in cohorts] == [3] * 4
    assert cohorts != [cohorts[0]] * 4
