"""Experiments: files and pairs of key and value."""

from pathlib import Path
from typing import Any

import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.config import RunConfig
from celeba_fl.launch.experiments import (
    EXPERIMENTS,
    FEDERATIONS,
    num_supernodes,
    parse_pair,
    read_experiment,
)


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("a=1", 1),
        ("a=1.0", 1.0),
        ("a=1e-3", 0.001),
        ("a=true", True),
        ("a=word", "word"),
        ("a=/a/b", "/a/b"),
        ("a=.001", 0.001),
        ("a=-5.", -5.0),
        ("a=1.e-3", 0.001),
        ("a=True", True),
        ("a=False", False),
        ("a=TRUE", "TRUE"),
        ("a=2026-11-25", "2026-11-25"),
        ("a=2026-11-25_20-01-08_7", "2026-11-25_20-01-08_7"),
        ("a=2026-11-25T20:01:08Z", "2026-11-25T20:01:08Z"),
        ("a=07:30:00", "07:30:00"),
        ("a=.", "."),
        ("a=007", "007"),
        ("a='1'", "1"),
        ('a="x y"', "x y"),
        ("a=x=y", "x=y"),
        ("a=Male,Young", "Male,Young"),
        ("a=flwrlabs/celeba", "flwrlabs/celeba"),
        ("a=", ""),
    ],
)
def test_pairs(pair: str, value: Any) -> None:
    parsed = parse_pair(pair)
    assert parsed == ("a", value)
    assert type(parsed[1]) is type(value)


@pytest.mark.parametrize("name", ["drawn-iid", "drawn-iid.toml"])
def test_an_experiment_of_ours(name: str) -> None:
    assert read_experiment(name)["dataset"] == "drawn"


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.toml")), ids=lambda p: p.stem)
def test_all_our_experiments_are_valid(path: Path) -> None:
    RunConfig.load(read_experiment(path.stem))


def test_an_experiment_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("seed = 7\n")
    assert read_experiment(str(tmp_path / "mine.toml")) == {"seed": 7}


def test_an_experiment_that_there_is_not() -> None:
    with pytest.raises(InputError, match=r"no experiment 'mine': neither a file nor .*drawn-iid"):
        read_experiment("mine")


def test_an_experiment_that_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("seed: 7\n")
    with pytest.raises(InputError, match=r"mine\.toml: "):
        read_experiment(str(tmp_path / "mine.toml"))


def test_pairs_override_an_experiment() -> None:
    read = read_experiment("drawn-iid", ["seed=7", "partitioner=natural"])
    assert read == {"dataset": "drawn", "partitioner": "natural", "seed": 7}


def test_a_dot_is_no_file_but_the_defaults_of_the_app() -> None:
    assert read_experiment(".", ["seed=7"]) == {"seed": 7}


def test_number_of_nodes_of_a_federation_file(tmp_path: Path) -> None:
    path = tmp_path / "nodes.toml"
    path.write_text("num-supernodes = 7\n")
    assert num_supernodes(path) == 7
    path.write_text("")
    assert num_supernodes(path) == 2
    assert num_supernodes(None) == 50


@pytest.mark.parametrize("number", ["0", "2.0", "true", "'3'"])
def test_a_number_of_nodes_that_is_none(tmp_path: Path, number: str) -> None:
    path = tmp_path / "nodes.toml"
    path.write_text(f"num-supernodes = {number}\n")
    with pytest.raises(InputError, match=r"nodes\.toml: num-supernodes = .* whole number above 0"):
        num_supernodes(path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("options.num-supernodes = 10", "options = {'num-supernodes': 10}: refused by Flower"),
        ("[options]\nnum-supernodes = 10", "options = .*: refused by Flower"),
        ("num-supernode = 10", "num-supernode = 10: refused by Flower: Unknown"),
        ("num-supernodes = [3]", r"num-supernodes = \[3\]: must be a whole number above 0"),
        ("num-supernodes = -1", "num-supernodes = -1: must be a whole number above 0"),
        ("num-supernodes = 5000000000", "num-supernodes = 5000000000: must be"),
        ("client-resources-num-cpus = 0.5", "client-resources-num-cpus = 0.5: refused by Flower"),
        ("client-resources-num-cpus = '1'", "client-resources-num-cpus = '1': refused by Flower"),
        ("num-supernodes = 3\nbackend = 5", "backend = 5: refused by Flower"),
        ("num-supernodes = 2026-11-25", "num-supernodes = .*: must be a whole number above 0"),
    ],
)
def test_what_flower_would_not_take(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "nodes.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"nodes\.toml: {why}"):
        num_supernodes(path)


@pytest.mark.parametrize("path", sorted(FEDERATIONS.glob("*.toml")), ids=lambda path: path.stem)
def test_our_federation_files_are_taken(path: Path) -> None:
    assert num_supernodes(path) == int(path.stem.split("-")[1])


def test_a_federation_file_ends_in_toml(tmp_path: Path) -> None:
    path = tmp_path / "nodes"
    path.write_text("num-supernodes = 7\n")
    with pytest.raises(InputError, match=r"nodes: the name of a federation file ends in \.toml"):
        num_supernodes(path)


def test_a_federation_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.toml: "):
        num_supernodes(tmp_path / "gone.toml")
