"""Who stands out: scores that can be checked by hand, and cohorts of which nothing is said."""

import math
from typing import Any

import pytest

from celeba_fl.rounds.outliers import BEYOND, FEWEST, compare, tell


def cohort(number: int = 20, **changed: Any) -> list[dict[str, Any]]:
    """Clients with i + 1 examples whose updates are as long as the root of that; one is changed."""
    rows = [
        {
            "client": str(i),
            "num_examples": i + 1,
            "update_norm": math.sqrt(i + 1) * (1.01 if i % 2 else 0.99),
            "update_cosine": 0.3 + 0.01 * (i % 3),
            "loss_before": 0.5,
        }
        for i in range(number)
    ]
    rows[7] |= changed
    return rows


def suspected(rows: list[dict[str, Any]]) -> dict[str, str]:
    found = zip(rows, compare(rows), strict=True)
    return {row["client"]: found["suspected"] for row, found in found if found["suspected"]}


def test_nobody_stands_out_of_clients_of_unlike_sizes() -> None:
    assert suspected(cohort()) == {}


@pytest.mark.parametrize(
    ("changed", "signs"),
    [
        ({"update_norm": 10 * math.sqrt(8)}, "update_norm"),
        ({"update_cosine": -0.3}, "update_cosine"),
        ({"loss_before": 5.0}, "loss_before"),
        ({"update_norm": 30.0, "update_cosine": -0.3}, "update_norm update_cosine"),
        # Noise, short updates, common ones and small losses are no sign of anything.
        ({"update_cosine": 0.0}, ""),
        ({"update_norm": 0.01}, ""),
        ({"update_cosine": 1.0}, ""),
        ({"loss_before": 0.001}, ""),
        ({"update_norm": 0.0, "update_cosine": math.nan, "loss_before": math.nan}, ""),
        ({"num_examples": 0, "update_norm": 100.0}, ""),
    ],
)
def test_by_what_a_client_stands_out(changed: dict[str, Any], signs: str) -> None:
    assert suspected(cohort(**changed)) == ({"7": signs} if signs else {})


def test_scores_are_distances_from_the_median_in_spreads() -> None:
    """Those of the losses: the median is 3, and the median distance from it 1."""
    losses = [math.exp(x) for x in (1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 9)]
    rows = [{**row, "loss_before": x} for row, x in zip(cohort(11), losses, strict=True)]
    scores = [found["loss_before_z"] for found in compare(rows)]
    assert scores[0] == pytest.approx(-2 / 1.4826)
    assert scores[-1] == pytest.approx(6 / 1.4826)


def test_clients_that_are_alike_are_held_to_a_least_spread() -> None:
    """Each sign has its own: a norm or a loss is not far before it is five times the usual."""
    for times, signs in ((4.9, ""), (5, "loss_before")):
        assert suspected(cohort(loss_before=0.5 * times)) == ({"7": signs} if signs else {})
    assert math.exp(BEYOND * 0.2) == pytest.approx(4.95, abs=0.01)


def test_a_third_that_lies_hides_nobody() -> None:
    rows = cohort(30)
    for row in rows[::3]:
        row["update_norm"] *= 100
    assert suspected(rows) == dict.fromkeys([row["client"] for row in rows[::3]], "update_norm")


def test_of_a_small_cohort_nothing_is_said() -> None:
    assert suspected(cohort(FEWEST, update_norm=1000.0)) == {"7": "update_norm"}
    rows = cohort(FEWEST - 1, update_norm=1000.0)
    assert suspected(rows) == {}
    assert all(math.isnan(found["update_norm_z"]) for found in compare(rows))
    assert compare([]) == []


def test_the_log_says_who_and_by_what(caplog: pytest.LogCaptureFixture) -> None:
    rows = cohort(update_norm=100.0, update_cosine=-0.3)
    rows = [{**row, **found} for row, found in zip(rows, compare(rows), strict=True)]
    tell(3, rows)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("round 3: client 7 stands out: its update is far longer than those of")
    assert "(update_norm 100, z " in line
    assert "against the model's own step (update_cosine -0.3, z -" in line


def test_of_many_the_log_names_the_first(caplog: pytest.LogCaptureFixture) -> None:
    tell(
        1,
        [
            {"client": str(i), "suspected": "loss_before", "loss_before": 9.0, "loss_before_z": 9.0}
            for i in range(14)
        ],
    )
    assert len(caplog.records) == 11
    assert caplog.records[-1].getMessage() == "round 1: 4 more clients stand out"
