"""The tables of a finished run: every attribute on every split, and in every group."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from celeba_fl.common.arrays import Arrays, Floats
from celeba_fl.evaluation import fairness, group_tables
from celeba_fl.evaluation.corrections import teacher_rows
from celeba_fl.evaluation.curves import ExactCurves
from celeba_fl.evaluation.intervals import Ends
from celeba_fl.evaluation.metrics import METRICS, RANKED, Counts, Curves, Rows, means, rows_of
from celeba_fl.evaluation.resampling import Scores, attribute_intervals

# Written even without a row.
FILES = ("attributes.csv", "groups.csv", "fairness.csv")


def final_tables(
    clients: Mapping[str, Arrays],
    test: Scores | None,
    thresholds: Floats,
    attributes: Sequence[str],
    groupings: Sequence[tuple[str, ...]],
    each: Iterable[Mapping[str, Arrays]] = (),
) -> tuple[dict[str, float], dict[str, Rows]]:
    """Judge a finished model: means of the test metrics by name, and rows by CSV file.

    `clients` are the summed counts of clients by part: `Counts`, and if they are there those of
    `fairness.count_groups` and `corrections.count_answers`. `thresholds`, (attributes,) out of
    `EDGES`, are scores above which an attribute is predicted. `each` are the counts of every
    client by part, where nobody is with two clients: then the clients show how sure a rate is.
    """
    tables: dict[str, Rows] = {name: [] for name in FILES}
    summary: dict[str, float] = {}

    def add(rows: Rows, groups: tuple[Rows, Rows] = ([], [])) -> None:
        for name, more in zip(FILES, (rows, *groups), strict=True):
            tables[name] += more

    moments = group_tables.client_moments(each, thresholds)
    for part, total in clients.items():
        judged = Counts.from_arrays(total).at(thresholds)
        add(attribute_rows(part, attributes, judged, judged))
        if "group_positives" in total:
            grouped = fairness.grouped_counts(total).at(thresholds)
            of_clients = grouped, attributes, groupings, moments.get(part)
            add([], group_tables.compare_clients(part, *of_clients))
        if "teacher_asked" in total:
            tables["teacher.csv"] = teacher_rows(part, total, attributes)
    if test is not None:
        counts = Counts.of(test.scores, test.labels).at(thresholds)
        curves = ExactCurves(test.scores, test.labels)
        summary = means(counts, curves, METRICS)
        yes, people = test.scores > thresholds, test.celeb_id
        groups = group_tables.compare_test(yes, test.labels, people, attributes, groupings)
        values = {m.name: m.values(counts, curves) for m in RANKED if m.each_attribute}
        sure = attribute_intervals(replace(test, thresholds=thresholds), values)
        add(attribute_rows("test", attributes, counts, curves, sure), groups)
    return summary, tables


def attribute_rows(
    split: str,
    attributes: Sequence[str],
    counts: Counts,
    curves: Curves,
    intervals: Mapping[str, Ends] | None = None,
) -> Rows:
    """Rows of `attributes.csv` for one split, from counts at the thresholds of the run.

    `curves` are the exact ones, or `counts` where there are only counts; `intervals` are those of
    metrics by name, where people are known.
    """
    unknown = np.full(counts.n.shape, np.nan)
    columns: dict[str, np.ndarray] = {"n": counts.n, "positives": counts.p}
    # The reference comes before what is to be compared with it.
    for metric in sorted(METRICS, key=lambda metric: metric.rank is not None):
        if metric.each_attribute:
            columns[metric.column] = metric.values(counts, curves)
            if metric.error:
                columns[f"{metric.column}_error"] = metric.error(curves)
    columns["threshold"] = counts.thresholds
    for metric in RANKED:
        if metric.each_attribute:
            low, high = (intervals or {}).get(metric.name, (unknown, unknown))
            columns |= {f"{metric.column}_low": low, f"{metric.column}_high": high}
    return rows_of(columns, attributes, split=split)
