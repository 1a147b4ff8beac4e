"""Charts say what the files say; their tables too."""

from pathlib import Path

import numpy as np
import pytest

from celeba_fl.dashboard import charts
from celeba_fl.dashboard.blocks import Chart, Charts
from celeba_fl.report import page, plots
from celeba_fl.report.groups import groups
from celeba_fl.report.html import Pictures
from celeba_fl.report.reading import Run, floats, rows_of

ROUNDS = [
    {"round": "0", "valid_loss": "0.7", "test_loss": ""},
    {"round": "1", "valid_loss": "0.6", "test_loss": "0.65"},
]
CLIENTS = [
    {"round": str(number), "client": name, "valid_loss": str(loss)}
    for name, losses in {"a": (9, 1), "b": (9, 2), "c": (9, 6)}.items()
    for number, loss in enumerate(losses)
]


@pytest.fixture(scope="module")
def whole(toy_run: Path) -> Run:
    return Run.read(toy_run)


def test_a_curve_for_each_part_that_was_measured() -> None:
    assert charts.table(charts.rounds(ROUNDS, "loss", {"majority": 0.5})) == [
        {"series": "clients, validation", "round": 0, "loss (nats)": 0.7},
        {"series": "clients, validation", "round": 1, "loss (nats)": 0.6},
        {"series": "test", "round": 1, "loss (nats)": 0.65},
        {"series": "majority", "round": 0, "loss (nats)": 0.5},
        {"series": "majority", "round": 1, "loss (nats)": 0.5},
    ]


def test_curves_of_runs_differ_in_more_than_colour() -> None:
    drawn = charts.compared_rounds({f"run {i}": ROUNDS for i in range(4)}, "valid", "loss")
    looks = [(trace.line.dash, trace.marker.symbol) for trace in drawn.data]
    assert len(set(looks)) == 4
    assert [trace.name for trace in drawn.data] == [f"run {i}" for i in range(4)]


def test_clients_are_thin_lines_around_their_median_and_the_chosen_stand_out() -> None:
    drawn = charts.client_curves(CLIENTS, "valid_loss", {"c"})
    others, median, chosen = drawn.data
    assert (others.name, chosen.name) == ("other clients", "client c")
    assert others.line.width < 1 < chosen.line.width
    assert list(median.y) == [9, 2]
    assert list(chosen.y) == [9, 6]
    rows = charts.table(drawn)
    assert [row["series"] for row in rows[:4]] == ["client a"] * 2 + ["client b"] * 2
    assert rows[3] == {"series": "client b", "round": 1, "validation loss": 2}


def test_bands_are_quantiles_over_the_clients() -> None:
    rows = [
        {"round": str(number), "valid_loss": str(value)}
        for number, values in ((0, (5, 5, 5)), (1, (4, 1, 2, 0, 3)))
        for value in values
    ]
    numbers, quantiles = plots.client_quantiles(rows, "loss")
    assert list(numbers) == [0, 1]
    np.testing.assert_allclose(quantiles.T, [[5] * 5, [0.4, 1, 2, 3, 3.6]])
    low, high, lower, upper, median = (
        list(trace.y) for trace in charts.client_spread(rows, "loss").data
    )
    assert [low, lower, median, upper, high] == quantiles.tolist()


def test_lines_of_clients_are_not_joined() -> None:
    (others, *_) = charts.client_curves(CLIENTS, "valid_loss", set()).data
    np.testing.assert_array_equal(others.y, [9, 1, np.nan, 9, 2, np.nan, 9, 6, np.nan])


def test_who_holds_what_adds_up(whole: Run) -> None:
    drawn = charts.partitions(whole.partitions)
    totals = sum(np.array(trace.y) for trace in drawn.data)
    np.testing.assert_array_equal(totals, floats(whole.partitions, "num_examples"))
    shares = sum(np.array(trace.y) for trace in charts.partitions(whole.partitions, True).data)
    np.testing.assert_allclose(shares, 100)
    assert len({trace.marker.pattern.shape for trace in drawn.data}) == len(drawn.data)


def test_attributes_start_from_the_majority(whole: Run) -> None:
    rows = rows_of(whole.attributes)
    said = charts.table(charts.attributes(rows))
    value = "share of images answered rightly"
    by_series = {
        name: {row["of"]: row[value] for row in said if row["series"] == name}
        for name in {row["series"] for row in said}
    }
    majority = by_series.pop("majority's answer")
    accuracy = {name: v for found in by_series.values() for name, v in found.items()}
    for row in rows:
        name = row["attribute"].replace("_", " ")
        assert accuracy[name] == float(row["accuracy"])
        assert majority[name] == float(row["majority_accuracy"])
    below = by_series.get("accuracy, below it", {})
    assert all(value < majority[name] for name, value in below.items())


def test_rates_come_with_their_intervals(whole: Run) -> None:
    rows = [row for row in rows_of(whole.groups) if row["attribute"] == "Smiling"]
    said = charts.table(charts.group_rates([("Smiling", rows)]))
    for row in rows:
        label = f"Smiling: {row['group'].replace(',', ', ')}"
        for rate in ("tpr", "fpr"):
            found = [s for s in said if s["of"] == label and s["series"] == rate.upper()]
            if row[rate]:
                expected = [float(row[f"{rate}{end}"]) for end in ("", "_low", "_high")]
                (one,) = found
                assert [one["rate"], one["from"], one["to"]] == pytest.approx(expected)
            else:
                assert not found


def test_gaps_that_are_undefined_have_no_number(whole: Run) -> None:
    rows = rows_of(whole.fairness)
    said = {row["of"]: row for row in charts.table(charts.gaps(rows))}
    for row in rows:
        cell = said[row["attribute"].replace("_", " ")]
        name = f"{row['grouping'].replace(',', ', ')}: parity"
        value = row["demographic_parity_difference"]
        assert cell[name] == (pytest.approx(100 * float(value)) if value else None)


def test_every_picture_of_a_report_has_a_chart_that_hides_nothing(whole: Run) -> None:
    parts = (page.curves, page.attributes, page.partitions, page.clients, groups)
    blocks = [block for make in parts for block in make(whole, Charts())]
    pictures = [p for block in blocks if isinstance(block, Pictures) for p in block.pictures]
    assert len(pictures) == 12
    for picture in pictures:
        assert isinstance(picture, Chart), picture.caption
        assert charts.table(picture.figure)
        assert len(picture.alt) > 20


def test_nothing_is_black_or_white(whole: Run) -> None:
    """The page may be either."""
    for figure in (
        charts.rounds(whole.rounds, "accuracy", {"majority": 0.5}),
        charts.attributes(rows_of(whole.attributes)),
        charts.clients([row for row in whole.clients if row["round"] == "2"], "accuracy"),
    ):
        drawn = figure.update_layout(template=None).to_json()
        assert not {"black", "white", "#000000", "#ffffff"} & set(drawn.split('"'))
    assert plots.COLOURS[:7] == charts.COLOURS[:7]
