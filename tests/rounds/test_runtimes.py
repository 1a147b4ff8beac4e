"""Clients whose features come from a browser's runtime."""

from typing import Any

import numpy as np
import pytest

from celeba_fl.common.errors import InputError
from celeba_fl.rounds.checking import Client, Expectations, check_introduction
from celeba_fl.rounds.messages import Introduction
from celeba_fl.rounds.runtimes import TOLERANCE, check_client, distance, summary

WEB = "onnxruntime-web 1.30.0 wasm"
OURS = np.array([3.0, 4.0, 0.0], np.float32)


class Faces(Expectations):
    def probe(self) -> np.ndarray:
        return OURS


def client(features: np.ndarray | None, runtime: str = WEB) -> Client:
    probe = {} if features is None else {"features": features}
    return Client(1, 2, 3, np.zeros(1, np.int64), runtime=runtime, probe=probe)


def introduction(**more: Any) -> Introduction:
    return Introduction("a", 2, 1, np.array([1]), "", "code", "/here", **more)


def test_a_distance_is_that_of_the_cosine_and_sees_another_length() -> None:
    turned = np.array([4.0, 3.0, 0.0])
    assert distance(OURS, turned) == pytest.approx(1 - 24 / 25)
    assert distance(OURS, 2 * OURS) == pytest.approx(0.2)
    assert distance(OURS, OURS) == distance(0 * OURS, 0 * OURS) == 0


def test_features_within_the_tolerance_are_accepted() -> None:
    step = np.sqrt(2 * 25 * TOLERANCE)
    check_client(Faces(), client(OURS + np.float32([0, 0, 0.99 * step])))
    with pytest.raises(InputError, match=r"1 - cosine of their features is 1e-06, and 1e-06 is"):
        check_client(Faces(), client(OURS + np.float32([0, 0, 1.01 * step])))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_refused(number: float) -> None:
    with pytest.raises(InputError, match="of the probe not all is finite"):
        check_client(Faces(), client(np.full(3, number, np.float32)))


@pytest.mark.parametrize("features", [None, OURS[:2], OURS.astype(np.float64)])
def test_who_shows_no_features_of_the_probe_is_refused(features: np.ndarray | None) -> None:
    with pytest.raises(InputError, match=f"its runtime is {WEB}, and of the probe array 'features"):
        check_client(Faces(), client(features))


def test_a_task_without_a_probe_takes_native_clients_alone() -> None:
    check_client(Expectations(), client(None, runtime=""))
    with pytest.raises(InputError, match="takes native ones alone"):
        check_client(Expectations(), client(OURS))


def test_what_a_native_client_says_is_as_it_was() -> None:
    content = introduction().to_content()
    assert sorted(content) == ["client", "counts", "metrics", "sums"]
    assert sorted(content["client"]) == ["code", "missing", "name", "path"]
    assert Introduction.of(content).runtime == ""


def test_a_runtime_and_its_probe_arrive() -> None:
    sent = introduction(runtime=WEB, probe={"features": OURS})
    received = Introduction.of(sent.to_content())
    assert received.runtime == WEB
    assert received.probe["features"].tolist() == OURS.tolist()


@pytest.mark.parametrize("runtime", [7, "a" * 81, "line\nbreak"])
def test_a_runtime_is_a_word_or_two(runtime: Any) -> None:
    with pytest.raises(InputError, match="its runtime is"):
        check_introduction(introduction(runtime=runtime), 1, {}, ())


def test_a_run_records_who_computes_otherwise() -> None:
    off = OURS + np.float32([0, 0, 1e-3])
    clients = {"a": client(OURS), "b": client(off), "c": client(None, runtime="")}
    said = summary(clients, Faces().probe)["runtimes"]
    measured = {"clients": 2, "distance": distance(off, OURS)}
    assert said == {"tolerance": TOLERANCE, "others": {WEB: measured}}
    assert summary({"c": clients["c"]}, Expectations().probe) == {}
