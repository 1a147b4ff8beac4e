"""Whether a run can be resumed in its directory."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from adding import record, settings
from directories import finished, info, interrupted, open_run
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAvg

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.rounds.checkpoints import Checkpoints
from celeba_fl.runs.tables import read_csv


@pytest.mark.parametrize("resume", ["latest", "path"])
def test_resume_goes_on_in_the_same_directory(tmp_path: Path, resume: str) -> None:
    path = interrupted(tmp_path)
    before = info(path)
    with open_run(tmp_path, 8, resume=str(path) if resume == "path" else resume) as run:
        assert run.path == path
        said = info(run)
        assert (said["status"], said["reason"], said["finished"]) == ("running", "", None)
        assert said["flwr_run_ids"] == [7, 8]
        assert said["started"] == before["started"]
        assert said["num_clients"] == 2
        run.end("")
    assert info(path)["status"] == "completed"
    assert info(path)["seconds"] >= before["seconds"]


def test_seconds_add_up(tmp_path: Path) -> None:
    path = interrupted(tmp_path)
    (path / "run.json").write_text(json.dumps(info(path) | {"seconds": 500.0}))
    with open_run(tmp_path, resume="latest") as run:
        assert run.seconds >= 500


def test_latest_is_the_newest(tmp_path: Path) -> None:
    newer = tmp_path / "2999-01-01_00-00-00_1"
    interrupted(tmp_path).rename(tmp_path / "2000-01-01_00-00-00_9")
    interrupted(tmp_path).rename(newer)
    (tmp_path / "2999-12-31_00-00-00_2").mkdir()  # killed before its first file
    with open_run(tmp_path, resume="latest") as run:
        assert run.path == newer


def checkpoint(path: Path, server_round: int) -> None:
    Checkpoints(path / "checkpoints").save(server_round, ArrayRecord(), FedAvg(), {})


def test_latest_passes_over_what_cannot_go_on(tmp_path: Path) -> None:
    runs = [tmp_path / f"200{number}-01-01_00-00-00_1" for number in range(4)]
    for path in runs:
        finished(tmp_path / "one").rename(path)
        shutil.rmtree(tmp_path / "one")
        said = {**info(path), "config": RunConfig.load(settings(tmp_path)).to_dict()}
        (path / "run.json").write_text(json.dumps(said | {"status": "failed"}))
    (runs[3] / "run.json").write_text("{")  # unreadable
    # runs[2] failed before its first checkpoint, runs[1] has done all its rounds.
    completed = json.loads((runs[1] / "run.json").read_text()) | {"status": "completed"}
    (runs[1] / "run.json").write_text(json.dumps(completed))
    for path, done in ((runs[0], 2), (runs[1], 4)):
        checkpoint(path, done)
    with open_run(tmp_path, resume="latest") as run:
        assert run.path == runs[0]
    with open_run(tmp_path, resume="latest", num_server_rounds=5) as run:
        assert run.path == runs[1]
    with open_run(tmp_path, resume=runs[2].name) as run:
        assert run.path == runs[2]


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="resume = 'latest': there is no run in"):
        open_run(tmp_path, resume="latest")
    with pytest.raises(InputError, match="is neither a run directory nor"):
        open_run(tmp_path, resume=str(tmp_path / "other"))


def test_a_key_that_the_task_does_not_read_may_have_had_another_default(tmp_path: Path) -> None:
    path = interrupted(tmp_path)
    said = info(path)
    said["config"]["image-size"] = 96
    del said["config"]["features"]
    (path / "run.json").write_text(json.dumps(said))
    with open_run(tmp_path, resume="latest") as run:
        assert run.path == path


@pytest.mark.parametrize(
    "changed", [{"seed": 1}, {"learning_rate": 0.5}, {"strategy": "fedadam"}, {"watch": "loss"}]
)
def test_a_changed_key_is_refused_by_name(tmp_path: Path, changed: dict[str, Any]) -> None:
    path = interrupted(tmp_path)
    before = info(path)
    ((key, value),) = changed.items()
    with pytest.raises(InputError) as caught:
        open_run(tmp_path, resume="latest", **changed)
    name = key.replace("_", "-")
    assert f"{name} was {before['config'][name]!r} and is {value!r}" in str(caught.value)
    assert "Only num-server-rounds, target, patience, max-seconds may change" in str(caught.value)
    assert info(path) == before


def test_all_changed_keys_are_named(tmp_path: Path) -> None:
    interrupted(tmp_path)
    with pytest.raises(InputError, match=r"seed was 42 and is 1; tau was 0\.001 and is 0\.5"):
        open_run(tmp_path, resume="latest", seed=1, tau=0.5)


def test_a_key_newer_than_the_run_had_its_default(tmp_path: Path) -> None:
    path = interrupted(tmp_path)
    said = info(path)
    del said["config"]["clients"]
    (path / "run.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match="clients was '' and is '0,1'"):
        open_run(tmp_path, resume="latest", clients="0,1")
    with open_run(tmp_path, resume="latest") as run:
        assert info(run)["config"]["clients"] == ""


def test_rounds_and_stop_rules_may_change(tmp_path: Path) -> None:
    path = interrupted(tmp_path)
    new = {"num_server_rounds": 9, "target": 0.5, "patience": 3, "max_seconds": 60.0}
    with open_run(tmp_path, resume="latest", **new) as run:
        assert run.path == path
        assert info(run)["config"]["num-server-rounds"] == 9


def test_a_directory_has_one_writer(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        before = info(run)
        with pytest.raises(InputError, match=f"another run is writing {run.path}"):
            open_run(tmp_path, 8, resume=str(run.path))
        assert info(run)["flwr_run_ids"] == before["flwr_run_ids"] == [7]
        run.end("")
    with open_run(tmp_path, 8, resume=str(run.path), num_server_rounds=9):
        pass


@pytest.mark.parametrize(("rounds", "refused"), [(3, True), (4, True), (5, False)])
def test_a_completed_run_goes_on_only_for_more_rounds(
    tmp_path: Path, rounds: int, refused: bool
) -> None:
    path = finished(tmp_path, num_server_rounds=4)
    before = (path / "run.json").read_bytes()
    if refused:
        with pytest.raises(InputError, match="has done 4 rounds already; num-server-rounds = "):
            open_run(tmp_path, resume="latest", num_server_rounds=rounds, patience=3)
        assert (path / "run.json").read_bytes() == before
    else:
        with open_run(tmp_path, resume="latest", num_server_rounds=rounds) as run:
            assert run.path == path


@pytest.mark.parametrize(("rounds", "refused"), [(2, True), (3, False), (4, False)])
def test_rounds_that_are_done_cannot_be_undone(tmp_path: Path, rounds: int, refused: bool) -> None:
    path = interrupted(tmp_path)
    Checkpoints(path / "checkpoints").save(3, record({"w": 0.0}), FedAvg(), {})
    if refused:
        with pytest.raises(InputError, match="has done 3 rounds already; num-server-rounds = 2"):
            open_run(tmp_path, resume="latest", num_server_rounds=rounds)
    else:
        with open_run(tmp_path, resume="latest", num_server_rounds=rounds) as run:
            assert run.path == path


def test_a_stopped_run_goes_on_only_if_the_rule_has_changed(tmp_path: Path) -> None:
    path = finished(tmp_path, "target: enough", target=0.5)
    before = (path / "run.json").read_bytes()
    with pytest.raises(InputError, match=r"has stopped \(target: enough\); change the rule"):
        open_run(tmp_path, resume="latest", target=0.5)
    assert (path / "run.json").read_bytes() == before
    with open_run(tmp_path, resume="latest", target=0.6) as run:
        assert run.path == path


def test_other_data_are_refused(tmp_path: Path) -> None:
    interrupted(tmp_path)
    with open_run(tmp_path, resume="latest") as run:
        run.set_provenance({"dataset": {"name": "faces", "fingerprint": "a"}})
        with pytest.raises(InputError, match=r"resume: dataset was .*'a'.* and is .*'b'.* now"):
            run.set_provenance({"dataset": {"name": "faces", "fingerprint": "b"}})


@pytest.mark.parametrize("column", ["num_examples", "Male=1"])
def test_other_partitions_are_refused(tmp_path: Path, column: str) -> None:
    path = interrupted(tmp_path)
    rows: list[dict[str, Any]] = [{"client": c, "num_examples": 4, "Male=1": 2} for c in "ab"]
    with open_run(tmp_path, resume="latest") as run:
        run.set_partitions(rows)
        rows[1] = {**rows[1], column: 3}
        with pytest.raises(InputError, match=f"resume: {column} of client b was . and is 3 now"):
            run.set_partitions(rows)
    assert read_csv(path / "partitions.csv")[1]["num_examples"] == "4"


def test_an_unreadable_run_is_no_run_to_resume(tmp_path: Path) -> None:
    path = interrupted(tmp_path)
    (path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json cannot be read"):
        open_run(tmp_path, resume="latest")
