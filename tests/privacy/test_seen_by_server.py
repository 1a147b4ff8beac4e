"""What the server sees in whole runs: all of it in a plain one, and uniform words in a secure one.

A plain run must be found out by every search, which shows that the searches can fail.
"""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import keys_of_kinds
from seen_by_server import (
    RARE,
    Seen,
    attributes_with_values,
    audit_of,
    homogeneity,
    plain_data,
    told_apart,
    uniformity,
    unmasked,
)

from celeba_fl import server_app
from celeba_fl.client_app import app as client_app
from celeba_fl.common.bundle import PACKAGE
from celeba_fl.config import RunConfig
from celeba_fl.launch.inline import run_inline
from celeba_fl.runs.reading import read_runs

SECURE = "secure-aggregation"
STRATEGIES = ("closed-form", "fedavg")


class Runs:
    """Runs of three sites in small, each kept with its audit and its log."""

    def __init__(self, keys: dict[str, Any], folder: Path) -> None:
        self.keys, self.folder = keys, folder
        self.paths: dict[tuple[Any, ...], Path] = {}

    def path(self, strategy: str, secure: bool, order: str = "012", again: int = 0) -> Path:
        """A run in which the sites a, b and c hold these partitions."""
        which = strategy, secure, order, again
        if which not in self.paths:
            folder = self.folder / "-".join(map(str, which))
            own = {"strategy": strategy, "audit": True, "results-dir": str(folder)}
            keys = {**self.keys, **own, "num-server-rounds": 1} | ({SECURE: True} if secure else {})
            nodes = [
                {"site": site, "partition-id": int(part), "num-partitions": 3}
                for site, part in zip("abc", order, strict=True)
            ]
            run_inline(RunConfig.load(keys), nodes, server_app.app, client_app)
            (run,) = read_runs(folder)
            self.paths[which] = run.path
        return self.paths[which]


@pytest.fixture(scope="module")
def runs(toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(toy, tmp_path_factory.mktemp("runs"))


@pytest.fixture(params=["plain", "secure"])
def secure(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "secure")


def found(findings: list[str], secure: bool) -> bool:
    """Whether a search finds what it must in a plain run, and nothing in a secure one."""
    return findings == [] if secure else len(findings) > 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_a_client_holds_is_nowhere(runs: Runs, strategy: str, secure: bool) -> None:
    plain = audit_of(runs.path(strategy, False))
    findings = plain_data(audit_of(runs.path(strategy, secure)), plain)
    assert found(findings, secure), findings


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_that_clients_send_is_uniform_words(runs: Runs, strategy: str, secure: bool) -> None:
    findings = unmasked(audit_of(runs.path(strategy, secure)))
    assert found(findings, secure), findings


def test_who_holds_what_is_not_told_apart(runs: Runs, secure: bool) -> None:
    """Two sites change places: the totals are the same, and so is all that is seen."""
    paths = [runs.path("closed-form", secure, order) for order in ("012", "102")]
    assert len({(path / "model.safetensors").read_bytes() for path in paths}) == 1
    findings = told_apart(*map(audit_of, paths))
    assert found(findings, secure), findings


def test_the_same_data_is_never_seen_twice(runs: Runs, secure: bool) -> None:
    findings = told_apart(*(audit_of(runs.path("closed-form", secure, again=n)) for n in (0, 1)))
    assert found(findings, secure), findings


def test_no_log_and_no_error_tells_what_a_client_holds(
    runs: Runs, secure: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        path = runs.path("closed-form", secure, again=2)
    errors = "".join(
        seen.said["error"]["reason"] for seen in audit_of(path) if "error" in seen.said
    )
    assert found(attributes_with_values(caplog.text + errors), secure), caplog.text


# ---- the searches ---------------------------------------------------------------------------


RNG = np.random.default_rng(0)
UNIFORM = RNG.integers(-(2**63), 2**63, (3, 4096), endpoint=False)


def seen(array: np.ndarray, records: dict[str, Any] | None = None) -> Seen:
    return Seen("0001", "a", {"records": {"metrics": records or {}}}, {"sums/s": array})


def test_uniform_words_pass() -> None:
    assert min(uniformity(words) for words in UNIFORM) > 1e-3
    assert homogeneity(*UNIFORM[:2]) > 1e-3
    assert unmasked([seen(UNIFORM[0])]) == told_apart([seen(UNIFORM[0])], [seen(UNIFORM[1])]) == []
    assert plain_data([seen(UNIFORM[0])], [seen(UNIFORM[1])]) == []


@pytest.mark.parametrize(
    "words",
    [
        np.arange(4096),  # no masks at all
        UNIFORM[0] & ~1,  # the last bit is not masked
        UNIFORM[0] >> 1,  # nor the first
        UNIFORM[0] % 2**62,
        UNIFORM[0, :83] // 2**32,  # few words
    ],
)
def test_words_that_are_not_uniform_are_found(words: np.ndarray) -> None:
    assert uniformity(words) < RARE
    assert unmasked([seen(words)])


def test_floats_are_found() -> None:
    assert unmasked([seen(UNIFORM[0].astype(float))])


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.float32, np.float64])
def test_plain_arrays_are_found_in_another_form(kind: type) -> None:
    counts = np.arange(40)
    inside = np.concatenate([UNIFORM[0, :10], counts.astype(np.int64)])
    assert plain_data([seen(inside)], [seen(counts.astype(kind))])
    sealed = {"shares": counts.astype(np.int64).tobytes().hex()}
    assert plain_data([seen(UNIFORM[0], sealed)], [seen(counts.astype(kind))])


def test_plain_numbers_are_found() -> None:
    plain = [seen(UNIFORM[0], {"local-loss": 0.25, "seconds": 3.0, "epoch-train_loss": [7.5]})]
    assert plain_data([seen(UNIFORM[1], {"x": [1, 7.5]})], plain)
    assert plain_data([seen(UNIFORM[1], {"local-loss": 0.25})], plain)
    assert plain_data([seen(UNIFORM[1], {"seconds": 3.0, "x": 3.5})], plain) == []


def test_attributes_with_values_are_found() -> None:
    text = "count of Bald = 12; Wearing_Hat: 3, Young alone, 4 Male"
    assert attributes_with_values(text) == ["Bald = 1", "Wearing_Hat: 3"]


# ---- the page ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_page_names_every_field_of_every_message(toy: dict[str, Any], tmp_path: Path) -> None:
    page = (PACKAGE / "privacy" / "README.md").read_text()
    told = set(
        re.findall(r"`([\w-]+)`", page.partition("## Field by field")[2].partition("## ")[0])
    )
    sent = set()
    for kind, keys in keys_of_kinds(toy, tmp_path).items():
        own = {"audit": True, "num-server-rounds": 1, "results-dir": str(tmp_path / kind)}
        run_inline(RunConfig.load({**keys, **own}), 3, server_app.app, client_app)
        (run,) = read_runs(tmp_path / kind)
        for seen in audit_of(run.path):
            sent |= {key for record in seen.said["records"].values() for key in record}
            sent |= {field(name) for name in seen.arrays}
    assert sent - told == set()


def field(name: str) -> str:
    """The field of an array; of a model's arrays, which have names of their own, their record."""
    *records, key = name.split("/")
    return "arrays" if "arrays" in records and "_x" not in key else key
