"""A site's own ledger: what counts together, and where it ends."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.privacy.ledger import Data, epsilon_of
from celeba_fl.privacy.site import Asked, Limit, SiteLedger

DATA = Data("/srv/faces", "abc")
LIMIT = Limit(1.0, 1e-5, "person")
Z = 5.0  # epsilon 0.73; two of them 1.06


def site(
    home: Path, data: Data = DATA, limit: Limit | None = LIMIT, client: str = "a"
) -> SiteLedger:
    return SiteLedger(home, client, data, limit)


def asked(run: str, z: float = Z, whole: float = Z, unit: str = "person") -> Asked:
    return Asked(run, 1, unit, z, whole)


def lines(home: Path, client: str = "a") -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (home / f"privacy/{client}.jsonl").read_text().splitlines()
    ]


def test_an_answer_is_written_down_and_then_another_run_is_refused(tmp_path: Path) -> None:
    site(tmp_path).check(asked("one"))
    site(tmp_path).spend(asked("one"))
    (line,) = lines(tmp_path)
    assert (line["run"], line["fingerprint"], line["noise_multiplier"]) == ("one", "abc", Z)
    for refuse in (site(tmp_path).check, site(tmp_path).spend):
        with pytest.raises(
            InputError, match=r"privacy-limit = 1: .* 0\.\d+ of it in other runs"
        ) as e:
            refuse(asked("two"))
        assert e.value.open_to_all
    assert len(lines(tmp_path)) == 1
    site(tmp_path).spend(asked("two", z=20.0))


def test_the_roll_call_asks_for_the_whole_run(tmp_path: Path) -> None:
    site(tmp_path).check(asked("one", z=10.0, whole=Z))
    with pytest.raises(InputError, match="privacy-limit"):
        site(tmp_path).check(asked("one", z=10.0, whole=1.0))


def test_a_run_that_goes_on_is_not_counted_twice(tmp_path: Path) -> None:
    for _ in range(2):
        site(tmp_path).spend(asked("one", z=Z * 2**0.5))
    site(tmp_path).check(asked("one"))
    # But another try of all of it is.
    with pytest.raises(InputError, match="privacy-limit"):
        site(tmp_path).spend(asked("one"))


@pytest.mark.parametrize(
    ("data", "same"),
    [
        (Data("/srv/faces", "other"), True),  # a picture more at the same place
        (Data("/srv/moved", "abc"), True),
        (Data("/srv/moved", "other"), False),
    ],
)
def test_data_are_the_same_by_place_or_fingerprint(tmp_path: Path, data: Data, same: bool) -> None:
    site(tmp_path).spend(asked("one"))
    if same:
        with pytest.raises(InputError, match="privacy-limit"):
            site(tmp_path, data).check(asked("two"))
    else:
        site(tmp_path, data).check(asked("two"))


def test_clients_that_share_a_home_have_ledgers_of_their_own(tmp_path: Path) -> None:
    site(tmp_path).spend(asked("one"))
    site(tmp_path, Data("elsewhere", "def"), client="b/../c").spend(asked("one"))
    assert {file.name for file in (tmp_path / "privacy").glob("*.jsonl")} == {
        "a.jsonl",
        "b%2F..%2Fc.jsonl",
    }


def test_the_same_data_under_another_name_have_said_the_same(tmp_path: Path) -> None:
    site(tmp_path).spend(asked("one"))
    with pytest.raises(InputError, match="privacy-limit = 1: after this run"):
        site(tmp_path, client="new").check(asked("two"))


def test_what_was_said_under_a_weaker_unit_is_not_known(tmp_path: Path) -> None:
    site(tmp_path, limit=None).spend(asked("one", unit="image", z=100.0))
    with pytest.raises(InputError, match="answered before under privacy-unit = 'image'"):
        site(tmp_path).check(asked("two", z=100.0, whole=100.0))


def test_stronger_promises_count_and_weaker_ones_are_refused(tmp_path: Path) -> None:
    site(tmp_path).spend(asked("one", unit="client"))
    with pytest.raises(InputError, match="privacy-limit"):
        site(tmp_path).check(asked("two"))
    with pytest.raises(InputError, match="protects a person"):
        site(tmp_path).check(asked("three", unit="image", z=100.0, whole=100.0))


def test_without_a_limit_all_is_written_down(tmp_path: Path) -> None:
    for number in range(3):
        site(tmp_path, limit=None).spend(asked(str(number), z=1.0, whole=1.0))
    assert len(lines(tmp_path)) == 3
    with pytest.raises(InputError, match="privacy-limit"):  # set later, it knows of them
        site(tmp_path).check(asked("later"))


def test_answers_at_the_same_time_are_counted_one_after_the_other(tmp_path: Path) -> None:
    def ask(number: int) -> bool:
        try:
            site(tmp_path, limit=Limit(2.0, 1e-5)).spend(asked(str(number)))
        except InputError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        answered = sum(pool.map(ask, range(16)))
    assert answered == len(lines(tmp_path)) < 16
    assert epsilon_of([Z] * answered, 1e-5) <= 2.0 < epsilon_of([Z] * (answered + 1), 1e-5)


@pytest.mark.parametrize("text", ["{", '{"run": "one"}', "[]"])
def test_a_ledger_that_cannot_be_read_refuses(tmp_path: Path, text: str) -> None:
    (tmp_path / "privacy").mkdir()
    (tmp_path / "privacy" / "a.jsonl").write_text(f"{text}\n")
    with pytest.raises(InputError, match="nobody knows what this site has said"):
        site(tmp_path).spend(asked("one"))


def test_a_limit_is_read_from_the_node_config() -> None:
    assert Limit.of({}) is None
    node = {"privacy-limit": 4, "privacy-delta": 1e-6}
    assert Limit.of(node) == Limit(4.0, 1e-6, "person")
    assert Limit.of({**node, "privacy-unit": "image"}) == Limit(4.0, 1e-6, "image")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"privacy-limit": 0}, "privacy-limit = 0:"),
        ({"privacy-limit": "4"}, "privacy-limit = '4':"),
        ({"privacy-limit": True}, "privacy-limit = True:"),
        ({"privacy-delta": 1.0}, r"privacy-delta = 1\.0:"),
        ({"privacy-delta": None}, "privacy-delta = None:"),
        ({"privacy-unit": "face"}, "privacy-unit = 'face':"),
    ],
)
def test_a_limit_that_is_none_is_refused(change: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        Limit.of({"privacy-limit": 4.0, "privacy-delta": 1e-6, **change})
