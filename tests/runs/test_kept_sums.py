"""What each client added to the closed form, kept for the owner of the run alone."""

from pathlib import Path

import numpy as np
import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.common.files import pack_arrays
from celeba_fl.runs.kept_sums import KeptSums

HOSTILE = "../../etc/passwd \N{SKULL}"
ONE = {"s": np.zeros(1, np.int64)}


def kept(run: Path, *clients: str) -> KeptSums:
    run.mkdir(exist_ok=True)
    each = KeptSums(run, {"a": {"n": np.array([7])}})
    each.clear()
    for number, client in enumerate(clients, start=1):
        each.put(client, {"s": np.array([number])})
    each.finish()
    return each


def test_sums_come_back_by_client_for_the_owner_alone(tmp_path: Path) -> None:
    kept(tmp_path / "run", "b", "a", HOSTILE)
    each = KeptSums(tmp_path / "run")
    assert each.clients() == [HOSTILE, "a", "b"]
    assert [each.read(name, ONE)["s"].tolist() for name in each.clients()] == [[3], [2], [1]]
    assert each.read_roll_call("a", {"n": ONE["s"]})["n"].tolist() == [7]
    assert each.read_roll_call("b", {}) == {}
    assert each.folder.stat().st_mode & 0o777 == 0o700
    data = [path for path in each.folder.iterdir() if path.suffix == ".safetensors"]
    assert len(data) == 3
    assert {path.stat().st_mode & 0o777 for path in data} == {0o600}
    assert [*tmp_path.iterdir()] == [tmp_path / "run"]


def test_sums_of_a_round_that_did_not_count_are_gone(tmp_path: Path) -> None:
    each = kept(tmp_path / "run", "a", "b")
    each.clear()
    assert not each.exist
    assert [*each.folder.iterdir()] == []
    each.put("b", {"s": np.array([5])})
    with pytest.raises(InputError, match="keep-sums = true"):
        each.clients()
    each.finish()
    assert each.clients() == ["b"]


def test_a_client_leaves_and_another_comes(tmp_path: Path) -> None:
    each = kept(tmp_path / "run", "a", "b")
    each.remove("a")
    assert each.clients() == ["b"]
    assert len([*each.folder.glob("*.safetensors")]) == 1
    with pytest.raises(InputError, match="the sums of client a, cannot be read"):
        each.read("a", ONE)
    each.add("a", {"s": np.array([9])})
    assert each.clients() == ["a", "b"]
    assert each.read("a", ONE)["s"].tolist() == [9]


def test_damaged_sums_are_refused_by_name(tmp_path: Path) -> None:
    each = kept(tmp_path / "run", "a")
    whole = each.path("a").read_bytes()
    floats, longer = {"s": np.zeros(1)}, {"s": np.zeros(2, np.int64)}
    for data in (whole[:-1], b"", pack_arrays(floats, {}), pack_arrays(longer, {})):
        each.path("a").write_bytes(data)
        with pytest.raises(InputError, match=r"the sums of client a.*; withdraw a and let it join"):
            each.read("a", ONE)
