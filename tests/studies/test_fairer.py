"""Runs of the fair closed form, and other heads from the sums that they keep."""

import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from telling import MakeRun, telling

from celeba_fl.common.errors import InputError
from celeba_fl.inference.predict import load_model
from celeba_fl.runs.reading import RunInfo, read_json, read_run
from celeba_fl.runs.tables import read_csv
from celeba_fl.studies.fairer import fairer_table, make_fairer

FAIR = {"strategy": "closed-form", "fair-groups": "Male"}


@pytest.fixture(scope="module")
def make(toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeRun]:
    """A run of three clients, with changes, on features that tell the labels."""
    with telling(toy, tmp_path_factory, 3, FAIR) as run:
        yield run


@pytest.fixture(scope="module")
def fair(make: MakeRun) -> RunInfo:
    return make(fairness_penalty=1.0)


def model(run: RunInfo | Path) -> dict[str, np.ndarray]:
    path = run if isinstance(run, Path) else run.path
    return load_file(path / "model.safetensors")


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all(one[key].tobytes() == other[key].tobytes() for key in one)


@pytest.mark.slow
def test_the_head_is_the_same_on_every_partition_and_not_the_plain_one(make: MakeRun) -> None:
    # No image is held back: which ones are depends on who holds them.
    keys = {"fairness_penalty": 1.0, "valid_fraction": 0.0}
    whole = [make(**keys, partitioner=how) for how in ("iid", "natural")]
    assert same(model(whole[0]), model(whole[1]))
    plain = make(valid_fraction=0.0, fair_groups="")
    assert not same(model(whole[0]), model(plain))
    assert not (plain.path / "closed_form.safetensors").exists()
    assert not (plain.path / "fairer.csv").exists()


def test_its_sums_are_for_its_owner_alone(fair: RunInfo) -> None:
    path = fair.path / "closed_form.safetensors"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((fair.path / "model.safetensors").stat().st_mode) == 0o644


@pytest.mark.slow
def test_another_penalty_is_what_a_run_with_it_would_have_given(
    make: MakeRun, fair: RunInfo
) -> None:
    made = read_run(make_fairer(fair, 3.0, 0.0))
    direct = make(fairness_penalty=3.0)
    assert same(model(made), model(direct))
    assert not same(model(made), model(fair))
    assert made.summary == direct.summary
    assert made.status == "completed"
    assert made.config["fairness-penalty"] == 3.0
    assert read_json(made.path / "run.json")["made_from"] == fair.path.name
    for name in ("fairer.csv", "fairer_attributes.csv"):
        assert read_csv(made.path / name) == read_csv(direct.path / name)
    # Of groups and attributes all that the server judges by itself.
    judged = [row for row in read_csv(direct.path / "fairness.csv") if row["split"] == "test"]
    assert read_csv(made.path / "fairness.csv") == judged
    # It is a run: it predicts, and can be made fairer again, here for whatever it costs.
    assert load_model(made).head["weight"].shape == (40, 1280)
    again = read_csv(make_fairer(made, 0.0, 100.0) / "fairer.csv")
    assert {row["penalty"] for row in again if row["chosen"]} == {"10.0"}
    table = fairer_table(fair.path, made.path)
    assert table is not None
    assert [column.header for column in table.columns] == [
        *("test", "before (rho 1.0)", "after (rho 3.0)")
    ]


def test_a_run_without_sums_says_what_to_do(toy_run: Path, fair: RunInfo, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run it again with strategy = 'closed-form' and fair-gro"):
        make_fairer(read_run(toy_run), 1.0, 0.0)
    missing = replace(fair, path=tmp_path)
    with pytest.raises(InputError, match=r"cannot be read: .* run it again"):
        make_fairer(missing, 1.0, 0.0)
    save_file({"train_xx": np.zeros(3)}, tmp_path / "closed_form.safetensors")
    with pytest.raises(InputError, match=r"array 'train_x.' is .* run it again"):
        make_fairer(missing, 1.0, 0.0)
