"""The section about privacy says what the ledger says, beside what public images alone give."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celeba_fl.report.compared.results import results
from celeba_fl.report.comparison import name_runs, overview
from celeba_fl.report.html import Table
from celeba_fl.report.reading import Run
from celeba_fl.report.sections.clients import partitions
from celeba_fl.report.sections.privacy import privacy

LEDGER: dict[str, Any] = {
    "unit": "person",
    "noise": "clients",
    "max_images": 10,
    "epsilon": 3.0,
    "delta": 1e-6,
    "public": ["600 images"],
    "releases": [
        {
            "name": "the sums",
            "round": 1,
            "who": "the total of 3 clients",
            "mechanism": "discrete",
            "sensitivity": 2.5,
            "sigma": 5.0,
            "epsilon": 2.0,
            "opened": opened,
        }
        for opened in (False, True)
    ],
    "total": 2.0,
    "assumptions": ["the sky is blue"],
}
ROUNDS = "round,test_auroc,test_accuracy\n0,0.75,0.8\n1,0.875,0.9\n"
MakeRun = Callable[..., Path]


def made(make_run: MakeRun, said: dict[str, Any] | str, name: str = "run", **config: Any) -> Path:
    known = {"init": "public", "strategy": "closed-form", **config}
    path = make_run(name, info={"config": known, "num_clients": 3}, csv={"rounds": ROUNDS})
    (path / "privacy.json").write_text(said if isinstance(said, str) else json.dumps(said))
    return path


def words(path: Path) -> str:
    return " ".join(block for block in privacy(Run.read(path)) if isinstance(block, str))


def tables(path: Path) -> list[list[tuple[Any, ...]]]:
    blocks = [block for block in privacy(Run.read(path)) if isinstance(block, Table)]
    return [[tuple(row) for row in block.rows] for block in blocks]


def test_nothing_without_a_budget(make_run: MakeRun) -> None:
    assert privacy(Run.read(make_run("run"))) == []


def test_the_promise_is_in_words(make_run: MakeRun) -> None:
    said = words(made(make_run, LEDGER))
    assert "What has left the clients in this run keeps epsilon 2 at delta 1e-06" in said
    assert "of a budget of 3" in said
    assert "7.39 times" in said  # exp(2)
    assert "Of each person 10 images count at most" in said


def test_a_server_that_adds_noise_is_another_promise(make_run: MakeRun) -> None:
    server = {**LEDGER, "noise": "server", "max_images": None}
    said = words(made(make_run, server))
    assert "What the server has shown in this run keeps epsilon 2" in said
    assert "images count at most" not in said


def test_before_the_first_release_there_is_none(make_run: MakeRun) -> None:
    said = words(made(make_run, {**LEDGER, "releases": [], "total": 0.0}))
    assert said.startswith("Nothing has left the clients yet; the budget is epsilon 3")


def test_releases_figures_and_what_they_rest_on(make_run: MakeRun) -> None:
    path = made(make_run, LEDGER)
    figures, releases = tables(path)
    assert figures == [
        ("public images alone (round 0)", "0.750", "0.800"),
        ("this run (round 1)", "0.875", "0.900"),
    ]
    assert [row[0] for row in releases] == ["1, not opened", "1"]
    assert releases[1][-3:] == ("2.5", "5", "2")
    assert privacy(Run.read(path))[-3:] == [
        "Public, and so not protected: 600 images.",
        *("What the promise rests on:", "the sky is blue"),
    ]


def test_the_head_of_all_images_stands_beside(make_run: MakeRun) -> None:
    path = made(make_run, LEDGER)
    (path / "baseline.json").write_text(json.dumps({"central": {"test_auroc": 0.9375}}))
    assert tables(path)[0][-1] == ("all images in one place, without privacy", "0.938", "–")  # noqa: RUF001


def test_what_clients_hold_is_not_known(make_run: MakeRun) -> None:
    (text,) = partitions(Run.read(made(make_run, LEDGER)))
    assert str(text).startswith("3 clients take part. What they hold is not known here")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        json.dumps(LEDGER).replace("2.5", '"much"'),
        json.dumps({**LEDGER, "releases": 1}),
    ],
)
def test_a_broken_ledger_costs_its_own_section(make_run: MakeRun, text: str) -> None:
    run = Run.read(made(make_run, text))
    assert privacy(run) == []
    assert [problem.partition(":")[0] for problem in run.problems] == [
        "privacy.json cannot be read"
    ]


def test_a_comparison_has_the_promise_and_public_images_alone(make_run: MakeRun) -> None:
    exact = make_run("exact", info={"config": {"privacy-epsilon": 0.0}}, csv={"rounds": ROUNDS})
    private = made(make_run, LEDGER, "private", **{"privacy-epsilon": 3.0})
    runs = name_runs([exact, private])
    tables = [block for block in (*overview(runs), *results(runs)) if isinstance(block, Table)]
    rows = {str(row[0]): row[1:] for table in tables for row in table.rows}
    assert rows["privacy"] == ("none", "epsilon 2 at delta 1e-06 (unit: person)")
    assert rows["public images alone, B"][0][0] == "0.750"
