"""Pictures show what the files say; so do the tables of their rows."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from celeba_fl.report.charts import COLOURS, DASHES, SHAPES, Chart, draw, for_page, look, table
from celeba_fl.report.drawing import drawer
from celeba_fl.report.html import Pictures
from celeba_fl.report.pictures import attributes, clients, curves
from celeba_fl.report.pictures.curves import sweep
from celeba_fl.report.reading import MOST_CLIENTS, Run, by_prevalence, floats, rows_of
from celeba_fl.report.sections.attributes import attributes as attribute_section
from celeba_fl.report.sections.clients import clients as client_section
from celeba_fl.report.sections.clients import partitions as partition_section
from celeba_fl.report.sections.curves import curves as curve_section
from celeba_fl.report.sections.groups import groups as group_section
from celeba_fl.report.sections.probabilities import probabilities as probability_section
from celeba_fl.report.words import named

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


def scale(chart: Chart, channel: str) -> dict[str, Any]:
    """The look of each series in a channel, by its name."""
    for part in chart.to_dict()["layer"]:
        if channel in part["encoding"]:
            found = part["encoding"][channel]["scale"]
            return dict(zip(found["domain"], map(str, found["range"]), strict=True))
    raise AssertionError(f"no {channel}")


def test_a_curve_for_each_part_that_was_measured() -> None:
    assert table(curves.rounds(ROUNDS, "loss", {"majority": 0.5})) == [
        {"series": "clients, validation", "round": 0, "loss (nats)": 0.7},
        {"series": "clients, validation", "round": 1, "loss (nats)": 0.6},
        {"series": "test", "round": 1, "loss (nats)": 0.65},
        {"series": "majority", "round": 0, "loss (nats)": 0.5},
        {"series": "majority", "round": 1, "loss (nats)": 0.5},
    ]


def test_there_is_nothing_between_two_rounds() -> None:
    rows = [{"round": str(number), "test_loss": str(10 + number)} for number in range(3)]
    labels = re.findall(r">(\d+)</text>", draw(curves.rounds(rows, "loss", {})))
    assert labels[:3] == ["0", "1", "2"]
    assert labels.count("1") == labels.count("2") == 1


def test_curves_of_runs_differ_in_more_than_colour() -> None:
    names = [f"run {i}" for i in range(4)]
    chart = curves.compared_rounds(dict.fromkeys(names, ROUNDS), "valid", "loss")
    for channel in ("color", "strokeDash", "shape"):
        looks = scale(chart, channel)
        assert list(looks) == names
        assert len(set(looks.values())) == 4
    several = [look(i) for i in range(len(DASHES) * len(SHAPES))]
    assert len({(one.strokeDash, one.shape) for one in several}) == len(several)


def test_clients_are_thin_lines_around_their_median_and_the_chosen_stand_out() -> None:
    chart = curves.client_curves(CLIENTS, "valid_loss", {"c"})
    thin, front, _ = chart.to_dict()["layer"]
    assert thin["mark"]["strokeWidth"] < 1 < front["mark"]["strokeWidth"]
    assert thin["encoding"]["detail"]["field"] == "client"  # else the lines would be joined
    rows = table(chart)
    assert [(row["series"], row["client"]) for row in rows[::2]] == [
        ("other clients", "a"),
        ("other clients", "b"),
        ("median of the clients", ""),
        ("client c", "c"),
    ]
    assert rows[3] == {
        **{"series": "other clients", "client": "b"},
        **{"round": 1, "validation loss": 2},
    }
    assert [row["validation loss"] for row in rows[4:]] == [9, 2, 9, 6]
    assert list(scale(chart, "color")) == ["other clients", "median of the clients", "client c"]


def test_of_many_clients_a_sample_has_a_line_and_all_count_in_the_median() -> None:
    rows = [
        {"round": "1", "client": str(i), "valid_loss": str(i)} for i in range(10 * MOST_CLIENTS)
    ]
    shown = table(curves.client_curves(rows, "valid_loss", {"7"}))
    by_series = {row["series"]: row for row in shown}
    assert list(by_series) == ["200 of 1,999 other clients", "median of the clients", "client 7"]
    assert by_series["median of the clients"]["validation loss"] == 999.5
    assert len(shown) == MOST_CLIENTS + 2


def test_bands_are_quantiles_over_the_clients() -> None:
    rows = [
        {"round": str(number), "valid_loss": str(value)}
        for number, values in ((0, (5, 5, 5)), (1, (4, 1, 2, 0, 3)))
        for value in values
    ]
    shown = table(curves.client_spread(rows, "loss"))
    assert [list(row.values()) for row in shown] == [
        pytest.approx([0, 5, 5, 5, 5, 5]),
        pytest.approx([1, 0.4, 1, 2, 3, 3.6]),
    ]
    assert list(shown[0]) == ["round", "10 %", "25 %", "validation loss (nats)", "75 %", "90 %"]


def test_losses_by_epoch_are_medians_and_ranges() -> None:
    rows = [
        {"round": str(r), "epoch": str(e), "loss": str(value)}
        for r, e, values in ((1, 1, (1, 2, 6)), (1, 2, (3, 3, 3)), (2, 1, (0, 1, 2)))
        for value in values
    ]
    shown = [list(row.values()) for row in table(curves.epochs(rows, {"loss": "its loss"}))]
    assert shown == [
        ["its loss", 1, 2, 1, 6],
        ["its loss", 2, 3, 3, 3],
        ["its loss", 3, 1, 0, 2],
    ]


def test_who_holds_what_adds_up(whole: Run) -> None:
    chart = clients.partitions(whole.partitions)
    totals: dict[str, float] = {}
    for row in table(chart):
        totals[row["client"]] = totals.get(row["client"], 0) + row["train examples"]
    assert list(totals) == [row["client"] for row in whole.partitions]
    np.testing.assert_array_equal(list(totals.values()), floats(whole.partitions, "num_examples"))
    shares = table(clients.partitions(whole.partitions, shares=True))
    assert sum(row["train examples (%)"] for row in shares) == pytest.approx(100 * len(totals))
    assert len(set(scale(chart, "color").values())) == 4


def test_clients_by_their_size(whole: Run) -> None:
    rows = [row for row in whole.clients if row["round"] == "2"]
    *points, median = table(clients.clients(rows, "accuracy"))
    values = floats(rows, "valid_accuracy").tolist()
    assert [row["validation accuracy"] for row in points] == values
    assert median["validation accuracy"] == np.median(values)


def test_attributes_start_from_the_majority(whole: Run) -> None:
    rows = rows_of(whole.attributes)
    shown = {row["attribute"]: row for row in table(attributes.attributes(rows))}
    for row in rows:
        one = shown[row["attribute"].replace("_", " ")]
        accuracy, majority = float(row["accuracy"]), float(row["majority_accuracy"])
        assert (one["accuracy"], one["majority"]) == (accuracy, majority)
        assert (one["series"] == "accuracy, below it") == (accuracy < majority)


def test_attributes_of_runs_are_those_of_the_first() -> None:
    one = [{"attribute": "A_b", "auroc": "0.5"}, {"attribute": "C", "auroc": ""}]
    other = [{"attribute": "C", "auroc": "0.75"}, {"attribute": "D", "auroc": "1"}]
    shown = table(attributes.compared_attributes({"x": one, "y": other}, "auroc"))
    assert [tuple(row.values()) for row in shown] == [
        ("x", "A b", 0.5),
        ("x", "C", None),
        ("y", "C", 0.75),
    ]


def test_answers_fixed_and_broken() -> None:
    rows = [{"attribute": "A", "fixed": "3", "broken": "5"}]
    (row,) = table(attributes.corrections(rows))
    assert row == {"attribute": "A", "fixed": 3, "broken": 5, "fixed less broken": -2}


def test_differences_with_and_without_an_interval() -> None:
    nothing = float("nan")
    rows = [("B", 0.5, 0.25, 0.75), ("C", -0.5, nothing, nothing)]
    shown = [list(row.values()) for row in table(attributes.differences(rows, "accuracy"))]
    assert shown == [["B", 0.5, 0.25, 0.75], ["C", -0.5, None, None]]


def test_rates_come_with_their_intervals(whole: Run) -> None:
    rows = [row for row in rows_of(whole.groups) if row["attribute"] == "Smiling"]
    shown = table(attributes.group_rates([("Smiling", rows)]))
    for row in rows:
        for rate in ("tpr", "fpr"):
            found = [
                one
                for one in shown
                if one["of"].endswith("\n" + named(row["group"]))
                and one.get("series") == rate.upper()
            ]
            if row[rate]:
                expected = [float(row[f"{rate}{end}"]) for end in ("", "_low", "_high")]
                (one,) = found
                assert [one["rate"], one["low"], one["high"]] == pytest.approx(expected)
            else:
                assert not found


def test_gaps_that_are_undefined_have_no_number(whole: Run) -> None:
    rows = rows_of(whole.fairness)
    shown = {
        (row["attribute"], row["grouping"], row["measure"]): row["points"]
        for row in table(attributes.gaps(rows))
        if "points" in row
    }
    for row in rows:
        cell = row["attribute"].replace("_", " "), row["grouping"].replace(",", ", "), "parity"
        value = row["demographic_parity_difference"]
        assert shown[cell] == (pytest.approx(100 * float(value)) if value else None)


def test_a_sweep_has_a_line_for_each_value_of_the_other_keys() -> None:
    rows = [
        {"rate": rate, "tau.x": tau, "valid_loss": loss, "valid_loss_std": std}
        for rate, tau, loss, std in ((0.1, 1, 0.2, None), (0.01, 1, 0.3, 0.05), (0.1, 2, 0.4, 0))
    ]
    best, *others = table(
        sweep([*rows, {**rows[0], "valid_loss": None}], ["rate", "tau.x"], "valid_loss")
    )
    title = "loss (nats), clients, validation"
    assert best == {"series": "best", "rate": "0.1", title: 0.2}
    assert [(row["series"], row["rate"], row[title], row["low"]) for row in others] == [
        ("tau.x 1", "0.01", 0.3, 0.25),
        ("tau.x 1", "0.1", 0.2, 0.2),
        ("tau.x 2", "0.1", 0.4, 0.4),
    ]


def test_every_picture_of_a_report_has_rows_and_words(whole: Run) -> None:
    parts = (curve_section, attribute_section, partition_section, client_section, group_section)
    blocks = [block for make in (*parts, probability_section) for block in make(whole)]
    shown = [p for block in blocks if isinstance(block, Pictures) for p in block.pictures]
    assert len(shown) == len({picture.name for picture in shown}) == 14
    for picture in shown:
        assert not isinstance(picture.source, bytes)
        assert picture.source.to_dict()  # which checks all of it
        assert table(picture.source)
        assert len(picture.alt) > 20


def test_a_page_of_many_clients_shows_a_sample_of_them_and_says_so(whole: Run) -> None:
    many = [
        {**whole.partitions[0], "client": str(i), "num_examples": str((7 * i) % 1000)}
        for i in range(1000)
    ]
    last = max(whole.clients, key=lambda row: int(row["round"]))
    served = [
        {
            **last,
            "client": str(i),
            "num_examples": "5",
            "valid_accuracy": str(((7 * i) % 1000) / 1e3),
        }
        for i in range(1000)
    ]
    run = replace(whole, partitions=many, clients=served)

    text, held = partition_section(run)
    about, rated = client_section(run)

    assert isinstance(held, Pictures)
    assert isinstance(rated, Pictures)
    which = "200 of the 1,000 clients, evenly spaced from the"
    bars, shares = held.pictures
    assert f"{which} smallest to the largest, by group" in bars.caption
    assert which in shares.caption
    assert f"{which} lowest accuracy to the highest" in rated.pictures[0].caption
    assert "1000 clients hold" in str(text)
    assert "1000 clients evaluated" in str(about)
    shown = table(rated.pictures[0].source)
    values = [row["validation accuracy"] for row in shown if row["series"] == "a client"]
    assert (min(values), max(values), len(values)) == (0.0, 0.999, MOST_CLIENTS)
    for picture in (*held.pictures, *rated.pictures):
        assert not isinstance(picture.source, bytes)
        assert len(draw(picture.source)) < 350_000


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for one in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from texts(one)


def test_a_picture_has_one_legend(whole: Run) -> None:
    """Vega-Lite puts legends together if their parts name the same column."""
    blocks = [*curve_section(whole), *attribute_section(whole), *client_section(whole)]
    for picture in (p for block in blocks if isinstance(block, Pictures) for p in block.pictures):
        assert not isinstance(picture.source, bytes)
        channels = [
            part["encoding"][channel]
            for part in picture.source.to_dict()["layer"]
            for channel in ("color", "shape", "strokeDash")
            if channel in part["encoding"]
        ]
        assert {channel["field"] for channel in channels} == {"series"}
        assert len({str(channel["scale"]["domain"]) for channel in channels}) == 1


def test_nothing_is_black_or_white(whole: Run) -> None:
    """The page may be either."""
    for chart in (
        curves.rounds(whole.rounds, "accuracy", {"majority": 0.5}),
        attributes.attributes(rows_of(whole.attributes)),
        clients.clients([row for row in whole.clients if row["round"] == "2"], "accuracy"),
    ):
        assert not {"black", "white", "#000000", "#ffffff"} & set(texts(chart.to_dict()))
    assert "#000000" not in COLOURS


def test_what_cannot_be_drawn_is_an_error_and_the_next_picture_is_drawn() -> None:
    with pytest.raises(ValueError, match="conversion failed"):
        drawer().ask(vl_spec={"mark": {"type": "nothing"}})
    assert draw(curves.rounds(ROUNDS, "loss", {})).startswith("<svg")


# ---- drawn --------------------------------------------------------------------------------

NAME = """<b>$x$</b> ' + alert(1) + ' "datum['y']" &amp; \\ {{7*7}}"""


def test_names_are_text_in_a_drawn_picture() -> None:
    """To Vega, a name is neither an expression nor a field, and to SVG it is no markup."""
    held = [{"client": NAME, "num_examples": "3", f"{NAME}=1": "3"}]
    drawn = draw(clients.partitions(held))
    assert "<b>" not in drawn
    assert "&lt;b&gt;$x$&lt;/b&gt; ' + alert(1)" in drawn
    runs = {NAME: ROUNDS, "other.run": ROUNDS}
    assert "&lt;b&gt;$x$" in draw(curves.compared_rounds(runs, "valid", "loss"))
    own = [{"round": "0", f"test_{NAME}": "1"}, {"round": "1", f"test_{NAME}": "2"}]
    assert "<path" in draw(curves.rounds(own, NAME, {}))


def test_the_page_decides_on_light_or_dark() -> None:
    drawn = for_page(draw(curves.rounds(ROUNDS, "loss", {})))
    assert drawn.index("prefers-color-scheme:dark") < drawn.index("<rect")
    assert 'fill="#16191c"' in drawn


def test_nothing_to_show_is_drawn_as_nothing() -> None:
    assert "<svg" in draw(curves.rounds([{"round": "0"}], "loss", {}))
    assert table(curves.client_curves(CLIENTS, "valid_loss", {"a", "b", "c"}))
    assert by_prevalence([]) == []
    assert json.dumps(table(attributes.ranking([{"attribute": "A"}])))


def test_runs_are_compared_by_time_and_smoothed() -> None:
    rows = [
        {"round": "0", "seconds": "30", "valid_loss": ""},
        {"round": "1", "seconds": "30", "valid_loss": "1"},
        {"round": "2", "seconds": "", "valid_loss": ""},
        {"round": "3", "seconds": "60", "valid_loss": "0"},
    ]
    name = "loss (nats), clients, validation"
    drawn = curves.compared_rounds({"a": rows}, "valid", "loss", curves.MINUTES, 0.8)
    assert table(drawn) == [
        {"series": "a", "minutes": 1.0, name: 1.0},
        {"series": "a", "minutes": 2.0, name: 0.8},
    ]
