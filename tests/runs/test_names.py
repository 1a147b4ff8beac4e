"""What runs are called, by themselves and by people; and how a name finds a run."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from directories import finished, info, open_run

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.launch.experiments import read_experiment
from celeba_fl.runs.names import default_name, differing, numbered, shortened
from celeba_fl.runs.naming import give_name
from celeba_fl.runs.reading import LABEL, find_directory, names_in, read_run

USUAL = RunConfig.defaults()


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({}, "drawn-iid"),
        ({"strategy": "closed-form"}, "drawn-iid strategy=closed-form"),
        ({"partitioner": "dirichlet"}, "drawn-dirichlet-0.1"),
        ({"seed": 3, "results-dir": "/x", "note": "mine"}, "drawn-iid seed=3"),
        ({"audit": True, "clients": ",".join("abcdefghijklmn")}, "drawn-iid clients audit"),
        ({"teacher": "/somewhere/labels.csv"}, "drawn-iid teacher=labels.csv"),
        ({"train-on": "disagreements"}, "drawn-iid train-on=disagreements"),
        ({"task": "my_app.faces:Faces", "seed": 2}, "my_app seed=2"),
        ({**read_experiment("dcgan-drawn"), "local-epochs": 9}, "dcgan-drawn local-epochs=9"),
        (read_experiment("celeba-closed-form"), "celeba-closed-form"),
        # What the task does not read differs from nothing.
        ({"feature-maps": 1}, "drawn-iid"),
    ],
)
def test_a_run_is_called_by_its_experiment_and_what_differs(
    config: Mapping[str, Any], name: str
) -> None:
    assert default_name({**USUAL, **config}, USUAL) == name


def test_a_name_has_no_more_in_it_than_there_is_room_for() -> None:
    config = {**USUAL, **dict.fromkeys(("seed", "batch-size", "local-epochs"), 7)}
    config |= {"learning-rate": 0.125, "min-replies": 0.25}
    name = default_name(config, USUAL)
    assert name == "drawn-iid seed=7 min-replies=0.25 +3"
    own = {"mine " * 9: {"learning-rate": 1}}
    assert default_name({"learning-rate": 1.0, "batch-size": 9}, USUAL, own) == (
        "mine mine mine mine mine batch-size=9"
    )


def test_a_number_behind_a_name_makes_it_nobody_elses() -> None:
    assert numbered("a", ["b"]) == "a"
    assert numbered("a", ["a", "a 2", "a 4"]) == "a 3"
    assert numbered("x" * 60, ["x" * 60]) == "x" * 58 + " 2"


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (60, "drawn-iid strategy=fedprox seed=3 2"),
        (30, "drawn-iid \N{HORIZONTAL ELLIPSIS} seed=3 2"),
        (13, "drawn-iid \N{HORIZONTAL ELLIPSIS} 2"),
        (11, "\N{HORIZONTAL ELLIPSIS} seed=3 2"),
        (2, "d\N{HORIZONTAL ELLIPSIS}"),
    ],
)
def test_a_name_that_is_too_long_loses_words_in_its_middle(width: int, shown: str) -> None:
    assert shortened("drawn-iid strategy=fedprox seed=3 2", width) == shown


def test_keys_that_differ() -> None:
    assert differing([{"a": 1, "b": 2, "home": "x"}, {"a": 1, "b": 3, "c": 4, "home": "y"}]) == [
        "b",
        "c",
    ]


def test_runs_get_names_and_are_found_by_them(tmp_path: Path) -> None:
    paths = [finished(tmp_path, number=number) for number in (5, 6)]
    with open_run(tmp_path, 71, name="My own", note="with a cold") as run:
        run.end("")
    paths.append(run.path)
    first = read_run(paths[0]).name
    assert [read_run(path).name for path in paths] == [first, f"{first} 2", "My own"]
    assert read_run(run.path).note == "with a cold"
    assert names_in(tmp_path) == {path: read_run(path).name for path in paths}
    for path in paths:
        assert find_directory(read_run(path).name, tmp_path) == path
        assert find_directory(path.name, tmp_path) == path
        assert find_directory(str(path), tmp_path / "elsewhere") == path
    assert find_directory("My", tmp_path) == run.path
    assert find_directory(run.path.name[:-1], tmp_path) == run.path  # by how it begins
    with pytest.raises(InputError, match=rf"'{first[:3]}' may be each of 2 runs in .*: '{first} 2"):
        find_directory(first[:3], tmp_path)
    with pytest.raises(InputError, match=r"'MI OWN' is neither .* there are 'My own' "):
        find_directory("MI OWN", tmp_path)
    with pytest.raises(InputError, match="there is none"):
        find_directory("a", tmp_path / "none")


def test_case_counts_only_where_it_tells_runs_apart(tmp_path: Path) -> None:
    paths = {}
    for number, name in enumerate(["Try", "try", "TRY one", "Größe"]):
        with open_run(tmp_path, number, name=name) as run:
            run.end("")
        paths[name] = run.path
    for asked, name in {"Try": "Try", "try": "try", "try O": "TRY one", "GRÖSS": "Größe"}.items():
        assert find_directory(asked, tmp_path) == paths[name]
    with pytest.raises(InputError, match=r"'tRY' may be each of 2 runs .*'try' .*'Try'"):
        find_directory("tRY", tmp_path)


def test_a_run_is_found_by_a_name_as_a_list_shortens_it(tmp_path: Path) -> None:
    names = ["drawn-iid seed=3 rounds=5", "drawn-iid seed=4 rounds=5", "drawn-iid seed=4 rounds=6"]
    for number, name in enumerate(names):
        with open_run(tmp_path, number, name=name) as run:
            run.end("")
    assert find_directory(shortened(names[-1], 20), tmp_path) == run.path
    with pytest.raises(InputError, match="may be each of 2 runs"):
        find_directory(shortened(names[0], 20), tmp_path)


@pytest.mark.parametrize("name", ["~nobody-here", "x" * 300, "", "\0"])
def test_what_no_path_can_be_called_is_no_run(name: str, tmp_path: Path) -> None:
    finished(tmp_path)
    with pytest.raises(InputError, match=r"is neither .* begins; there is '"):
        find_directory(name, tmp_path)


def test_many_candidates_are_counted(tmp_path: Path) -> None:
    for i in range(11):
        (tmp_path / f"run-{i}").mkdir()
        (tmp_path / f"run-{i}" / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"'run-9' .run-9., .* and 6 more"):
        find_directory("run", tmp_path)
    with pytest.raises(InputError, match=r"there are 'run-.*"):
        find_directory("rum-1", tmp_path)


def test_a_run_that_resumes_keeps_its_name_unless_it_gets_another(tmp_path: Path) -> None:
    path = finished(tmp_path)
    (path / LABEL).write_text(json.dumps({"name": "first", "note": "a note"}))
    said = {**info(path), "status": "failed"}
    (path / "run.json").write_text(json.dumps(said))
    for keys, expected in (
        ({}, ("first", "a note")),
        ({"note": "another"}, ("first", "another")),
        ({"name": "second"}, ("second", "another")),
    ):
        with open_run(tmp_path, resume="firs" if expected[0] == "first" else "first", **keys):
            pass
        found = read_run(path)
        assert (found.name, found.note) == expected


def test_runs_that_begin_together_get_two_names(tmp_path: Path) -> None:
    paths = [tmp_path / str(i) for i in range(6)]
    for path in paths:
        path.mkdir()
        (path / "run.json").write_text("{")
    with ThreadPoolExecutor() as pool:
        given = list(pool.map(lambda path: give_name(path, "same"), paths))
    assert sorted(given) == ["same", *(f"same {i}" for i in range(2, 7))]


@pytest.mark.parametrize(
    "name", ["", "latest", "a/b", "..", "-x", "=1", " a", "a\nb", "x" * 61, "~", "a\\b", 3, None]
)
def test_what_no_run_can_be_called(tmp_path: Path, name: Any) -> None:
    """In a file of somebody else's, it is as if there were none."""
    path = finished(tmp_path).rename(tmp_path / "2001-01-01_00-00-00_98765")
    (path / LABEL).write_text(json.dumps({"name": name}))
    assert read_run(path).name.endswith(" 8765")
    with pytest.raises(InputError, match=r"name = .*: a run's name has 1 to 60 printable"):
        give_name(path, name)
    if name:
        with pytest.raises(InputError, match="name = "):
            RunConfig.load({"name": name if isinstance(name, str) else [name]})


def test_a_run_from_before_names_has_one(tmp_path: Path) -> None:
    path = finished(tmp_path).rename(tmp_path / "2001-01-01_00-00-00_98765")
    given = read_run(path).name
    (path / LABEL).unlink()
    assert read_run(path).name == f"{given} 8765"
    path = path.rename(tmp_path / "by hand")  # whoever named the directory has named the run
    assert read_run(path).name == "by hand"
    assert find_directory("by", tmp_path) == path
    with pytest.raises(InputError, match=r"note = .*: must be one line of at most 500"):
        give_name(path, "a", "a\nb")
