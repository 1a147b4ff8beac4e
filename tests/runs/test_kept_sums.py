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


@pytest.mark.parametrize("shift", [0, 8, 40])
@pytest.mark.parametrize("bits", [0, 7, 31, 32, 39, 40, 60])
def test_numbers_of_any_size_come_back_in_few_bytes(tmp_path: Path, bits: int, shift: int) -> None:
    top = 2 ** min(bits, 63 - shift) - 1
    numbers = np.array([[-top - 1, top, 0], [top // 3, -1, 5 % (top + 1)]]) << shift
    each = kept(tmp_path / "run", "a")
    each.put("a", {"xx": numbers, "zero": np.zeros(2, np.int64)})
    read = each.read("a", {"xx": np.zeros((2, 3), np.int64), "zero": np.zeros(2, np.int64)})
    assert read["xx"].dtype == np.int64
    assert np.array_equal(read["xx"], numbers)
    assert read["zero"].tolist() == [0, 0]


def test_sums_of_forty_bits_take_five_bytes_each(tmp_path: Path) -> None:
    each, numbers = kept(tmp_path / "run", "a"), np.arange(-8000, 8000) << 34
    each.put("a", {"xx": numbers >> 26 << 8})
    small = each.path("a").stat().st_size
    each.put("a", {"xx": numbers | 1})
    assert small < 5.1 * len(numbers) < each.path("a").stat().st_size < 6.1 * len(numbers)


def test_sums_of_older_runs_are_read(tmp_path: Path) -> None:
    each = kept(tmp_path / "run", "a")
    old = {"s": np.array([2**50 + 1]), "roll_call/n": np.array([7])}
    each.path("a").write_bytes(pack_arrays(old, {}))
    assert each.read("a", ONE) == {"s": np.array([2**50 + 1])}
    assert each.read_roll_call("a", {"n": ONE["s"]}) == {"n": np.array([7])}


def test_damaged_sums_are_refused_by_name(tmp_path: Path) -> None:
    each = kept(tmp_path / "run", "a")
    whole = each.path("a").read_bytes()
    float_low = {"s/low": np.zeros(1), "s/high": np.zeros(1), "s/shift": np.zeros(1)}
    shorter = {"s": np.zeros(2, np.int64)}
    for data in (whole[:-1], b"", pack_arrays(float_low, {}), pack_arrays(shorter, {})):
        each.path("a").write_bytes(data)
        with pytest.raises(InputError, match=r"the sums of client a.*; withdraw a and let it join"):
            each.read("a", ONE)
