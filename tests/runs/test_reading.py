"""Run directories as everything downstream reads them."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from directories import ROW, finished, info, open_run

from celeba_fl.common.errors import InputError
from celeba_fl.config import BEFORE, RunConfig
from celeba_fl.runs import reading
from celeba_fl.runs.reading import RunInfo, config_of, keys_read, progress, read_runs, served
from celeba_fl.task import load_task


def test_runs_are_read_newest_first(tmp_path: Path) -> None:
    for year, rows in ((2001, 0), (2003, 1), (2002, 4)):
        with open_run(tmp_path) as run:
            run.append("rounds.csv", [{**ROW, "round": number} for number in range(rows)])
            run.write_summary({"test_auroc": 0.5})
            run.end("")
        run.path.rename(tmp_path / f"{year}-01-01_00-00-00_1")
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").touch()

    found = read_runs(tmp_path)

    assert [(run.path.name[:4], run.rounds) for run in found] == [
        ("2003", 0), ("2002", 3), ("2001", 0)
    ]  # fmt: skip
    assert found[0].summary == {"test_auroc": 0.5}
    assert found[0].config["num-server-rounds"] == 4
    assert read_runs(tmp_path / "none") == []


def test_a_list_of_runs_waits_for_nothing_that_a_run_needs(tmp_path: Path) -> None:
    path = finished(tmp_path)
    said = info(path)
    said["config"] |= {"task": "attributes", "partitioner": "natural"}
    (path / "run.json").write_text(json.dumps(said))
    code = (
        "import sys; from pathlib import Path; from celeba_fl.runs.reading import *; "
        "print(*(dealing(run.config) for run in read_runs(Path(sys.argv[1]))), "
        "*({'flwr', 'torch', 'celeba_fl.task'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "natural\n", done.stderr


def edit(name: str, text: str | bytes) -> Callable[[Path], object]:
    content = text if isinstance(text, bytes) else text.encode()
    return lambda path: (path / name).write_bytes(content)


def as_folder(path: Path) -> None:
    (path / "run.json").unlink()
    (path / "run.json").mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        edit("run.json", ""),
        edit("run.json", '{"status": '),
        edit("run.json", "[1]"),
        edit("run.json", "null"),
        edit("run.json", "{}"),
        edit("run.json", '{"status": "running", "updated": ""}'),
        edit("run.json", '{"status": "running", "updated": "2026-01-01"}'),
        edit("run.json", '{"status": "running", "updated": 5}'),
        edit("run.json", b"\xff\xfe"),
        edit("summary.json", "{"),
        edit("summary.json", "[]"),
        edit("rounds.csv", b"round\n\xff\n"),
        as_folder,
    ],
)
def test_an_unreadable_run_is_shown_as_such(tmp_path: Path, damage: Any) -> None:
    path = finished(tmp_path)
    damage(path)
    (run,) = read_runs(tmp_path)
    assert (run.path, run.status) == (path, "unreadable")
    assert run.reason


def test_one_unreadable_run_does_not_hide_the_others(tmp_path: Path) -> None:
    finished(tmp_path).rename(tmp_path / "a")
    finished(tmp_path).rename(tmp_path / "b")
    (tmp_path / "a" / "run.json").write_text("")
    assert [run.status for run in read_runs(tmp_path)] == ["completed", "unreadable"]


@pytest.mark.parametrize(
    ("status", "seconds", "shown"),
    [
        ("running", reading.STALE_SECONDS / 2, "running"),
        ("running", reading.STALE_SECONDS * 2, "interrupted"),
        ("completed", reading.STALE_SECONDS * 2, "completed"),
        ("failed", reading.STALE_SECONDS * 2, "failed"),
    ],
)
def test_a_run_without_signs_of_life_is_interrupted(
    tmp_path: Path, status: str, seconds: float, shown: str
) -> None:
    path = finished(tmp_path)
    updated = datetime.now(UTC) - timedelta(seconds=seconds)
    said = info(path) | {"status": status, "updated": updated.isoformat()}
    (path / "run.json").write_text(json.dumps(said))
    (run,) = read_runs(tmp_path)
    assert run.status == shown


def test_the_exchange_in_progress(tmp_path: Path) -> None:
    path = finished(tmp_path)
    assert progress(path) is None
    said = {"round": 1, "phase": "train", "asked": 5, "replied": 2, "failed": 1, "since": 9.0}
    (path / "progress.json").write_text(json.dumps(said))
    found = progress(path)
    assert found is not None
    assert (found.phase, found.replied) == ("train", 2)
    for broken in ("{", "[]", '{"round": 1}', "\x00", "[" * 100_000):
        (path / "progress.json").write_text(broken)
        assert progress(path) is None


def test_a_run_has_its_keys_and_all_others(tmp_path: Path) -> None:
    with open_run(tmp_path, seed=5) as run:
        run.set_provenance({"dataset": {"name": "faces"}, "judged_faces": 12})
        run.end("")
    (read,) = read_runs(tmp_path)
    assert (read.path, read.status, read.seed, read.flwr_run_ids) == (run.path, "completed", 5, [7])
    assert (read.rounds, read.num_clients, read.config["seed"]) == (0, None, 5)
    assert read.more == {"judged_faces": 12}
    assert read.provenance == {"dataset": {"name": "faces"}, "judged_faces": 12}


def test_values_of_other_types_count_as_missing(tmp_path: Path) -> None:
    path = finished(tmp_path)
    wrong = {"config": 3, "seed": "x", "seconds": "long", "flwr_run_ids": None, "reason": 1}
    (path / "run.json").write_text(json.dumps(info(path) | wrong))
    (read,) = read_runs(tmp_path)
    assert (read.config, read.seed, read.seconds) == ({}, None, None)
    assert (read.flwr_run_ids, read.reason, read.more) == ([], "", {})


def test_what_a_run_did_before_there_was_a_key_is_not_what_its_default_does_today() -> None:
    before = {"features": "last", "scaling": "none", "init": "random"}
    assert (
        keys_read({"task": "attributes", "seed": 7}) == {"task": "attributes", "seed": 7} | before
    )
    assert keys_read({"features": "13:2x2"}) == before | {"features": "13:2x2"}


def test_what_a_task_does_not_read_is_as_it_is_today() -> None:
    """Its default may have changed: 96 was that of `image-size`, which LeNet-5 does not read."""
    config = {"task": "lenet", "seed": 7, "image-size": 96}
    assert keys_read(config) == {"task": "lenet", "seed": 7}
    old = config_of(RunInfo(Path("old"), "completed", config=config))
    assert old == RunConfig(task="lenet", seed=7)


def test_a_key_of_a_tasks_own_is_not_ours() -> None:
    """Though ours has its name, and is of another type."""
    config = {"task": "own_keys:Measured", "features": 3}
    assert keys_read(config) == config
    assert keys_read({"task": "own_keys:Measured"}) == {"task": "own_keys:Measured"}
    loaded: Any = RunConfig.load(config)
    assert loaded.features == 3
    with pytest.raises(InputError, match=r"features = 'last': must be a whole number \(number of"):
        RunConfig.load({**config, "features": "last"})


# Some say nothing where nobody deals by Dirichlet, and the drawn weights see drawn faces.
OTHERS: dict[str, Any] = {"partitioner": "dirichlet", "dataset": "flwrlabs/celeba"}
SMALL = {key: BEFORE[key] for key in ("features", "scaling", "init")}


@pytest.mark.parametrize(
    ("config", "now"),
    [
        (OTHERS, {**BEFORE, **OTHERS}),
        ({"init": "closed-form"}, {**SMALL, "init": "closed-form"}),
        ({"scaling": "clients"}, {**SMALL, "scaling": "clients"}),
        # These do not read the keys, and take them as they are by default.
        ({"task": "lenet", "init": "random"}, {"task": "lenet"}),
        ({"task": "adding:Adding", "init": "random", "seed": 1}, {"seed": 1}),
    ],
)
def test_a_run_did_what_there_was_before_a_key(config: dict[str, Any], now: dict[str, Any]) -> None:
    read = config_of(RunInfo(Path("r1"), "completed", config=config))
    today = RunConfig.defaults() | {"task": config.get("task", "attributes")}
    assert read.to_dict() == today | now
    assert load_task(read).config == read


@pytest.mark.parametrize(
    ("said", "is_open"),
    [
        ({"state": "waiting"}, True),
        ({"state": "ended"}, False),
        ({"state": "waiting", "updated": "2020-01-01T00:00:00+00:00"}, False),
        ({"updated": "then"}, False),
        ({"updated": 5}, False),
        ([], False),
    ],
)
def test_a_run_is_open_while_it_says_so(tmp_path: Path, said: Any, is_open: bool) -> None:
    now = {"updated": datetime.now(UTC).isoformat()}
    assert served(tmp_path) is None
    text = json.dumps({**now, **said} if isinstance(said, dict) else said)
    (tmp_path / "serving.json").write_text(text)
    assert bool(served(tmp_path)) == is_open
