"""Who brought what to a run of the closed form, and runs that leave liars out."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from telling import MakeRun, telling

from celeba_fl.common.arrays import Arrays
from celeba_fl.common.errors import InputError
from celeba_fl.runs.kept_sums import KeptSums
from celeba_fl.runs.reading import RunInfo, read_run
from celeba_fl.runs.tables import read_csv
from celeba_fl.studies.contributions import contributions_table, make_contributions
from celeba_fl.tasks.attributes import Attributes

KEEPING = {"strategy": "closed-form", "keep-sums": True, "valid-fraction": 0.0}
LIAR = "2"
Summarise = Callable[..., tuple[Arrays, int]]


@pytest.fixture(scope="module")
def make(toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeRun]:
    """A run of six clients, with changes, on features that tell the labels."""
    with telling(toy, tmp_path_factory, 6, KEEPING) as run:
        yield run


@pytest.fixture(scope="module")
def honest(make: MakeRun) -> RunInfo:
    return make()


@pytest.fixture
def lying(monkeypatch: pytest.MonkeyPatch) -> None:
    """One client turns what it knows of the labels, and nobody checks it."""
    right: Summarise = Attributes.summarise

    def summarise(task: Attributes, node: Any, instructions: Any) -> tuple[Arrays, int]:
        sums, n = right(task, node, instructions)
        if str(node["partition-id"]) == LIAR:
            sums["train_xy"][:-1] *= -30
        return sums, n

    monkeypatch.setattr(Attributes, "summarise", summarise)
    monkeypatch.setattr(Attributes, "check_sums", lambda *_: None)


def model(run: RunInfo) -> dict[str, np.ndarray]:
    return load_file(run.path / "model.safetensors")


@pytest.mark.slow
def test_the_kept_sums_add_up_to_the_total(honest: RunInfo) -> None:
    each, total = KeptSums(honest.path), load_file(honest.path / "closed_form.safetensors")
    form = {key: array for key, array in total.items() if key.startswith("train_")}
    own = [each.read(name, form) for name in each.clients()]
    for key in form:
        assert np.array_equal(sum(one[key] for one in own), total[key])


@pytest.mark.slow
def test_each_client_is_judged_by_the_head_without_it(make: MakeRun, honest: RunInfo) -> None:
    rows = make_contributions(honest)
    assert [row["client"] for row in rows] == [*"012345"]
    assert {row["accused"] for row in rows} == {""}
    assert {row["same_as"] for row in rows} == {""}
    written = read_csv(honest.path / "contributions.csv")
    assert [float(row["loss_change"]) for row in written] == [row["loss_change"] for row in rows]
    assert {row["together_loss_change"] for row in written} == {""}
    # The run without the client chooses its lambda anew.
    without = make(clients="0,1,2,3,5")
    losses = [
        float(read_csv(run.path / "rounds.csv")[1]["server_valid_loss"])
        for run in (honest, without)
    ]
    assert rows[4]["loss_change"] == pytest.approx(losses[1] - losses[0], rel=0.02)
    assert rows[4]["loss_change_low"] < rows[4]["loss_change"] < rows[4]["loss_change_high"]
    assert contributions_table(rows).row_count == 6


@pytest.mark.slow
@pytest.mark.usefixtures("lying")
def test_a_liar_is_named_and_the_head_without_it_is_that_of_a_run_without_it(
    make: MakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    run = make(robust="leave-out")
    assert f"client {LIAR} is left out: its sums pull at the head" in caplog.text
    assert KeptSums(run.path).left_out() == [LIAR]
    assert KeptSums(run.path).clients() == [*"012345"]
    without = make(clients="0,1,3,4,5")
    for name in ("model", "closed_form"):
        left, right = (load_file(one.path / f"{name}.safetensors") for one in (run, without))
        assert {key: a.tobytes() for key, a in left.items()} == {
            key: a.tobytes() for key, a in right.items()
        }
    spoilt = make()
    assert KeptSums(spoilt.path).left_out() == []
    for one in (run, spoilt):
        rows = make_contributions(one)
        assert [row["client"] for row in rows if row["accused"]] == [LIAR]
        assert next(row["loss_change_high"] for row in rows if row["accused"]) < 0


@pytest.mark.slow
def test_clients_that_hold_the_same_are_told(
    make: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    right: Summarise = Attributes.summarise

    def summarise(task: Attributes, node: Any, instructions: Any) -> tuple[Arrays, int]:
        copied = {**node, "partition-id": 0} if node["partition-id"] == 1 else node
        return right(task, copied, instructions)

    monkeypatch.setattr(Attributes, "summarise", summarise)
    monkeypatch.setattr(Attributes, "check_sums", lambda *_: None)
    rows = make_contributions(make())
    assert [row["same_as"] for row in rows] == ["1", "0", "", "", "", ""]
    assert rows[0]["together_loss_change"] > rows[0]["loss_change"]


def test_a_run_that_kept_nothing_says_what_to_do(toy_run: Path) -> None:
    with pytest.raises(InputError, match="kept no client's sums; run it again with strategy = "):
        make_contributions(read_run(toy_run))


@pytest.mark.slow
def test_sums_of_another_form_are_refused(honest: RunInfo) -> None:
    KeptSums(honest.path).add("stranger", {"train_xx": np.zeros(3, np.int64)})
    with pytest.raises(InputError, match=r"the sums of client stranger.* let it join again"):
        make_contributions(honest)
    KeptSums(honest.path).remove("stranger")
