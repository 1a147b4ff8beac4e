import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import Adding, outcome, run
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from safetensors.numpy import load_file

from celeba_fl.common import flower
from celeba_fl.rounds.messages import CLIENT
from celeba_fl.runs.audit import Audit


def said(path: Path) -> Any:
    return json.loads(path.read_text())


def reply(content: RecordDict, node: int = 7) -> Message:
    flower.identify(1)
    request = Message(RecordDict(), node, "query")
    flower.send(request)
    return Message(content, reply_to=request)


def kept(tmp_path: Path, **records: Any) -> Path:
    """The file of a reply, without its suffix."""
    Audit(tmp_path).keep(reply(RecordDict(records)))
    (path,) = tmp_path.glob("audit/*/*.json")
    return path.with_suffix("")


def test_every_exchange_of_a_run_is_kept_by_client(tmp_path: Path) -> None:
    path = run(tmp_path, 3, audit=True, **{"num-server-rounds": 2})
    files = sorted(str(file.relative_to(path)) for file in path.glob("audit/*/*"))
    ends = ".json", ".safetensors"
    assert files == [f"audit/{n:04d}/{c}{end}" for n in (1, 2, 3, 4) for c in "012" for end in ends]
    audit = path / "audit"
    assert said(audit / "0001" / "2.json")["records"]["metrics"] == {
        "num-examples": 3,
        "num-valid": 1,
    }
    assert said(audit / "0002" / "0.json")["type"] == "train.together"
    arrays = load_file(audit / "0002" / "1.safetensors")
    sent = load_file(path / "checkpoints" / "round-0001.safetensors")
    assert arrays["train/arrays/weight"].shape == sent["model/weight"].shape
    assert said(audit / "0004" / "1.json")["type"] == "evaluate"


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    path = run(tmp_path, 2, audit=True)
    assert {stat.S_IMODE(p.stat().st_mode) for p in path.glob("audit/*/*")} == {0o600}
    assert {stat.S_IMODE(p.stat().st_mode) for p in path.glob("audit/*")} == {0o700}
    assert stat.S_IMODE((path / "audit").stat().st_mode) == 0o700


def test_a_run_is_the_same_with_and_without(tmp_path: Path) -> None:
    with_it, without = (run(tmp_path / str(audit), 3, audit=audit) for audit in (True, False))
    assert outcome(with_it) == outcome(without)
    assert not (without / "audit").exists()


def test_errors_are_kept_in_the_place_of_a_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(client: int, number: int) -> None:
        if client == 1 and number == 1:
            raise ValueError("row 3 is bad")

    monkeypatch.setattr(Adding, "fault", staticmethod(fault))
    path = run(tmp_path, 3, audit=True)
    (found,) = [f for f in path.glob("audit/*/1.json") if "ValueError" in f.read_text()]
    assert "ValueError" in json.dumps(said(found))


def test_an_error_without_content(tmp_path: Path) -> None:
    request = reply(RecordDict())
    Audit(tmp_path).keep(Message(flower.failure("no room"), reply_to=request))
    (path,) = tmp_path.glob("audit/*/*.json")
    assert said(path)["error"]["reason"] == "no room"


def test_a_resumed_run_goes_on_in_its_folder(tmp_path: Path) -> None:
    path = run(tmp_path, 2, audit=True, **{"num-server-rounds": 1})
    first = len(list(path.glob("audit/*")))
    (path / "audit" / "0001").rename(tmp_path / "an exchange that nobody answered")
    run(tmp_path, 2, audit=True, **{"num-server-rounds": 2, "resume": str(path)})
    assert said(path / "audit" / f"{first + 1:04d}" / "0.json")["type"] == "query"


def test_bytes_and_what_is_no_number(tmp_path: Path) -> None:
    path = kept(
        tmp_path,
        keys=ConfigRecord({"public": b"\x01\xff", "all": [b"\0"], "name": "x"}),
        metrics=MetricRecord({"loss": float("nan"), "each": [1.5, float("inf")]}),
    )
    assert said(path.with_suffix(".json"))["records"] == {
        "keys": {"public": "01ff", "all": ["00"], "name": "x"},
        "metrics": {"loss": "nan", "each": [1.5, "inf"]},
    }


def test_arrays_that_hold_no_numbers_are_the_bytes_that_came(tmp_path: Path) -> None:
    broken = Array("int64", (3,), "numpy.ndarray", b"garbage")
    text, big = Array(np.array(["a"])), Array(np.array([1], ">i8"))
    path = kept(tmp_path, a=ArrayRecord({"broken": broken, "text": text, "big": big}))
    arrays = load_file(path.with_suffix(".safetensors"))
    assert arrays["a/broken"].tobytes() == b"garbage"
    assert arrays["a/text"].tobytes() == text.data
    assert arrays["a/big"].tobytes() == big.data


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("../../x", "%2E%2E%2F%2E%2E%2Fx"),
        ("St. Mary", "St%2E Mary"),
        ("", "-7"),
        ("北" * 100, f"{'%E5%8C%97' * 12}"[:100] + "-7"),
        (["a"], "%5B%27a%27%5D"),
    ],
)
def test_a_name_is_a_file_in_the_folder(tmp_path: Path, name: Any, file: str) -> None:
    path = kept(tmp_path, **{CLIENT: ConfigRecord({"name": name})})
    assert path.name == file
    assert path.parent.parent == tmp_path / "audit"


def test_two_of_one_name_are_told_apart(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    for node in (7, 8, 7):
        audit.keep(reply(RecordDict({CLIENT: ConfigRecord({"name": "a"})}), node))
    assert sorted(path.name for path in tmp_path.glob("audit/*/*")) == ["a-8.json", "a.json"]
