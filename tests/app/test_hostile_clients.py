"""Clients that answer what they should not: they are named, and the others lose nothing."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adding import record, settings
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hostile import Attack, Attacks, change, put, run_with
from safetensors.numpy import load

from celeba_fl.runs.reading import read_runs
from celeba_fl.runs.tables import read_csv


def dropped(name: str) -> Attack:
    return lambda content: content.pop(name)


def also(name: str) -> Attack:
    return lambda content: content.update({name: ConfigRecord({"a": "b"})})


def emptied(content: RecordDict) -> None:
    for name in list(content):
        del content[name]


def same(a: Path, b: Path) -> None:
    """Models are equal to the byte, and so is every figure of a round but of who took part.

    The base rates are of all who described themselves.
    """
    models = [load((path / "model.safetensors").read_bytes()) for path in (a, b)]
    bits = [{key: array.tobytes() for key, array in model.items()} for model in models]
    assert bits[0] == bits[1]
    apart = {"clients", "failures", "seconds", "bytes_up", "bytes_down"}
    tables = [table(path / "rounds.csv", apart) for path in (a, b)]
    assert tables[0] == tables[1]


def table(path: Path, apart: Collection[str] = ()) -> list[dict[str, str]]:
    """Rows of a CSV file, without some columns and those of the base rates."""
    return [
        {k: v for k, v in row.items() if k not in apart and not k.endswith("base_rates_loss")}
        for row in read_csv(path)
    ]


def mangled(array: Array) -> Attack:
    """Bytes in the place of the model's weights, of which none can be made."""

    def attack(content: RecordDict) -> None:
        content["arrays"] = ArrayRecord({**content["arrays"], "weight": array})

    return attack


# 15 clients, bad in 20 ways.
IN_ROLL_CALL: Attacks = {
    1: {"query": put("client", missing="../../secret")},
    4: {"query": put("client", missing="0" * 64)},
    7: {"query": put("client", name="nobody\0")},
    11: {"query": put("client", name="=cmd|' /C calc'!A0")},
    13: {"query": dropped("client")},
    17: {"query": put("metrics", num_examples=2**62)},
    19: {"query": put("metrics", num_valid=-5)},
    23: {"query": put("metrics", num_valid=1e300)},
    26: {"query": change("counts", lambda a: {"counts": a["counts"] - 1 + 2**60})},
}
IN_ROUNDS: Attacks = {
    29: {
        "train": change("arrays", lambda a: {"weight": np.full(2, 3e38, np.float32)}),
        "evaluate": change("train", lambda a: {"sum": a["sum"].astype(np.complex128)}),
    },
    31: {
        "train": change("arrays", lambda a: {"weight": np.full(2, 3e12, np.float32)}),
        "evaluate": also("=formula"),
        "final": put("metrics", num_examples=True),
    },
    37: {"train": put("metrics", num_examples=2**50)},
    41: {
        "train": put("metrics", **{"epoch =cmd|' /C calc'!A0": [1.0]}),
        "final": change("valid", lambda a: {"n": a["n"] * 0 - 2**62}),
    },
    43: {
        "train": mangled(Array("float32", (2,), "numpy.ndarray", b"\x80\x04N.")),
        "evaluate": change("valid", lambda a: {"sum": a["sum"] * 1e300}),
    },
    47: {"final": emptied},
}


def test_of_50_clients_15_are_bad_and_the_model_is_that_of_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {**IN_ROLL_CALL, **IN_ROUNDS}
    keys = {"min-train-clients": 1, "num-server-rounds": 3, "results-dir": str(tmp_path / "bad")}
    path = run_with(bad, 50, {**settings(tmp_path), **keys})

    assert [run.status for run in read_runs(tmp_path / "bad")] == ["completed"]
    for client in IN_ROLL_CALL.keys() - {7, 11, 13}:  # which do not say who they are
        assert f"client {client}: " in caplog.text
    assert "site = 'nobody\\x00': a client's name has" in caplog.text
    assert caplog.text.count("is refused: ") == len(IN_ROLL_CALL)
    for client, phases in IN_ROUNDS.items():
        for phase in phases:
            lines = [line for line in caplog.messages if f"client {client} is left out" in line]
            assert any(phase in line and "RuntimeError" not in line for line in lines)
    assert sum(map(len, bad.values())) == 20
    assert all(line.isprintable() for line in caplog.messages)

    caplog.clear()
    others = ",".join(str(i) for i in range(50) if i not in bad)
    keys = {**keys, "clients": others, "results-dir": str(tmp_path / "good")}
    good = run_with({}, 50, {**settings(tmp_path), **keys})
    same(path, good)


def scaled(factor: float, *keys: str) -> Attack:
    return lambda content: [
        change(part, lambda a: {k: (a[k] * factor).astype(np.int64) for k in keys})(content)
        for part in ("train", "valid")
    ]


def made_up(content: RecordDict) -> None:
    """All is right, says the client, of as many images as it has."""
    for part in ("train", "valid"):

        def perfect(a: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            n = (a["positives"] + a["negatives"]).sum(axis=1)
            p = np.minimum(n // 2 + 1, n)
            positives, negatives = np.zeros((2, *a["positives"].shape), np.int64)
            positives[:, -1], negatives[:, 0] = p, n - p
            return {"positives": positives, "negatives": negatives}

        change(part, perfect)(content)


ON_COUNTS: Attacks = {
    0: {"evaluate": scaled(1e6, "positives", "negatives")},
    2: {"evaluate": made_up},
    3: {"evaluate": change("valid", lambda a: {"loss": a["loss"] * 0})},
    5: {"evaluate": change("valid", lambda a: {"loss": a["loss"] + 1e308})},
    6: {"evaluate": change("train", lambda a: {"negatives": a["negatives"].astype(float)})},
    7: {"final": change("valid", lambda a: {"positives": a["positives"] * 0 + 2**55})},
    9: {"final": change("valid", lambda a: {"group_positives": a["group_positives"][::-1] * 2})},
    10: {"final": change("train", lambda a: {"more": np.zeros(3)})},
}


def run_twice(bad: Attacks, toy: dict[str, Any], folder: Path, **keys: Any) -> tuple[Path, Path]:
    """A run with bad clients, and one of the others alone."""
    of_all = {**toy, **{key.replace("_", "-"): value for key, value in keys.items()}}
    path = run_with(bad, 12, {**of_all, "results-dir": str(folder / "bad"), "min-replies": 0.1})
    others = ",".join(str(i) for i in range(12) if i not in bad)
    keys = {**of_all, "results-dir": str(folder / "good"), "clients": others}
    return path, run_with({}, 12, keys)


def test_counts_are_of_the_clients_own_images(
    toy: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = run_twice(ON_COUNTS, toy, tmp_path, thresholds="valid")
    for client in ON_COUNTS:
        assert f"client {client} is left out: " in caplog.text
    same(bad, good)
    for name in ("attributes.csv", "groups.csv", "fairness.csv"):
        assert table(bad / name) == table(good / name)


def noise(a: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(0)
    return {key: chance.integers(-(2**50), 2**50, array.shape) for key, array in a.items()}


ON_SUMS: Attacks = {
    0: {"train": change("arrays", lambda a: {k: v * 0 + 2**62 for k, v in a.items()})},
    1: {"train": change("arrays", noise)},
    2: {"train": change("arrays", lambda a: {"train_xy": a["train_xy"] * -30})},
    3: {"train": change("arrays", lambda a: {"train_xy": a["train_xy"] + 2**45})},
    5: {"train": change("arrays", lambda a: {k: v * 1000 for k, v in a.items()})},
    7: {"train": change("arrays", lambda a: {"train_xx": a["train_xx"] * 0})},
    8: {"train": put("metrics", num_examples=10**6)},
}


@pytest.mark.parametrize("how", [{"strategy": "closed-form"}, {"init": "closed-form"}])
def test_sums_are_of_the_clients_own_images(
    toy: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, how: dict[str, str]
) -> None:
    bad, good = run_twice(ON_SUMS, toy, tmp_path, **how, num_server_rounds=1)
    for client in ON_SUMS:
        assert f"client {client} is left out: " in caplog.text
    same(bad, good)


def test_sums_of_the_roll_call_are_of_the_clients_own_images(
    toy: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    attacks = [
        change("sums", lambda a: {"n": a["n"] * 10}),
        change("sums", lambda a: {"x": a["x"] + 2**30}),
        change("sums", lambda a: {"xx": a["xx"] * 0 - 1}),
        change("sums", lambda a: {"xx": a["xx"] * 0 + 2**60}),
        change("sums", lambda a: {"positives": a["positives"] + 1}),
        change("sums", lambda a: {"labels": a["labels"] * 2}),
        change("sums", lambda a: {"labels": a["labels"].astype(np.int32)}),
        dropped("sums"),
        lambda content: content.update({"sums": record({"n": np.zeros(1)})}),
    ]
    bad = {i: {"query": attack} for i, attack in enumerate(attacks)}
    runs = run_twice(bad, toy, tmp_path, scaling="clients", init="base-rates", num_server_rounds=1)
    for client in bad:
        assert f"client {client}: " in caplog.text
    same(*runs)
